# SPDX-License-Identifier: Apache-2.0
"""ProContEXT's published checkpoint: all of it is read, and the network is theirs."""

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


def test_import_checkpoint_procontext_gives_the_reference_maps(
    save_container: Callable[..., Path],
    golden_init: ModuleType,
    shared_dir: Path,
    tmp_path: Path,
) -> None:
    reference = shared_dir / "reference" / "procontext"
    vectors = dict(np.load(reference / "procontext.golden.npz"))
    manifest = json.loads((reference / "procontext.manifest.json").read_text())["keys"]
    state: dict[str, Any] = {
        key: torch.zeros(value["shape"], dtype=getattr(torch, value["dtype"]))
        for key, value in manifest.items()
    }
    golden_init.fill(state, str(vectors["salt"]))
    path = save_container(state, name="ProContEXT_ep0300.pth.tar")

    imported = import_checkpoint(path, "procontext")
    imported.save(tmp_path / "imported.safetensors")

    assert imported.unused == ()
    net: Any = create_model("procontext", tmp_path / "imported.safetensors")
    views = [torch.from_numpy(golden_init.net_input(f"template{index}", 192)) for index in range(4)]
    search = torch.from_numpy(golden_init.net_input("search1", 384))
    with torch.no_grad():
        outputs = net(torch.stack(views[:2], dim=1), search, torch.stack(views[2:], dim=1))
    np.testing.assert_allclose(outputs["score_map"], vectors["score_map"][0], rtol=0, atol=1e-4)
