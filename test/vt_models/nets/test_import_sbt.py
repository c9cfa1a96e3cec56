# SPDX-License-Identifier: Apache-2.0
"""SBT's published checkpoints: what is read, what is left out, and that the network is theirs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from vt_models.api import create_model
from vt_models.nets.importer import import_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.slow]


@pytest.mark.parametrize("variant", ["base", "large"])
def test_import_checkpoint_sbt_gives_the_reference_maps(
    variant: str,
    save_container: Callable[..., Path],
    golden_init: ModuleType,
    shared_dir: Path,
    tmp_path: Path,
) -> None:
    reference = shared_dir / "reference" / "sbt"
    vectors = dict(np.load(reference / f"{variant}.golden.npz"))
    manifest = json.loads((reference / f"{variant}.manifest.json").read_text())["keys"]
    state: dict[str, Any] = {key: torch.zeros(value["shape"]) for key, value in manifest.items()}
    golden_init.fill(state, str(vectors["salt"]))
    path = save_container(state, name="SBTtrack_ep0500.pth.tar")

    imported = import_checkpoint(path, f"sbt_{variant}")
    imported.save(tmp_path / "imported.safetensors")

    net: Any = create_model(f"sbt_{variant}", tmp_path / "imported.safetensors")
    template, search = (
        torch.from_numpy(golden_init.net_input(name, size))
        for name, size in (("template", 128), ("search1", 256))
    )
    with torch.no_grad():
        score_map, _ = net.search(search, *net.encode_template(template))
    np.testing.assert_allclose(score_map.flatten(), vectors["score_softmax_ch0"], rtol=0, atol=1e-4)
    assert set(imported.unused) == set(net.unused_published())
    assert set(imported.tensors) | set(imported.unused) == set(state)
