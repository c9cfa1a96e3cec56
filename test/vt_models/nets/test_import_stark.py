# SPDX-License-Identifier: Apache-2.0
"""STARK's published checkpoints: all of them is read, and the network is theirs."""

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
from vt_models.errors import WeightsError
from vt_models.nets.importer import import_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.slow]

FILES = {
    "s50": "STARKS_ep0500.pth.tar",
    "st50": "STARKST_ep0050.pth.tar",
    "st101": "STARKST_ep0050.pth.tar",
}


@pytest.fixture
def published(
    shared_dir: Path, golden_init: ModuleType, save_container: Callable[..., Path]
) -> Callable[[str, str], Path]:
    """Save a filled checkpoint of a variant as the authors do."""

    def save(variant: str, salt: str) -> Path:
        file = shared_dir / "reference" / "stark" / f"{variant}.manifest.json"
        state: dict[str, Any] = {
            key: torch.zeros(value["shape"], dtype=getattr(torch, value["dtype"]))
            for key, value in json.loads(file.read_text())["keys"].items()
        }
        golden_init.fill(state, salt)
        return save_container(state, name=FILES[variant])

    return save


@pytest.mark.parametrize("variant", FILES)
def test_import_checkpoint_stark_gives_the_reference_box(
    variant: str,
    published: Callable[[str, str], Path],
    golden_init: ModuleType,
    shared_dir: Path,
    tmp_path: Path,
) -> None:
    vectors = dict(np.load(shared_dir / "reference" / "stark" / f"{variant}.golden.npz"))
    path = published(variant, str(vectors["salt"]))

    imported = import_checkpoint(path, f"stark_{variant}")
    imported.save(tmp_path / "imported.safetensors")

    assert imported.unused == ()
    net: Any = create_model(f"stark_{variant}", tmp_path / "imported.safetensors")
    template, dynamic, search = (
        torch.from_numpy(golden_init.net_input(name, size))
        for name, size in (("template", 128), ("template2", 128), ("search1", 320))
    )
    nothing, padded = torch.zeros(2, 1, 128, 128, dtype=torch.bool)
    padded[:, :20] = True
    padded[:, :, 116:] = True
    with torch.no_grad():
        state = net.encode_template(template, nothing)
        if net.config.temporal:
            state = (*state, *net.encode_template(dynamic, padded))
        box, _ = net.search(search, torch.zeros(1, 320, 320, dtype=torch.bool), *state)
    np.testing.assert_allclose(box, vectors["s1_box_cxcywh"][0], rtol=0, atol=1e-4)


def test_import_checkpoint_other_variant_is_refused_and_the_right_one_named(
    published: Callable[[str, str], Path],
) -> None:
    path = published("s50", "")

    with pytest.raises(WeightsError, match=r"6 tensors missing: cls_head.*; it fits stark_s50$"):
        import_checkpoint(path, "stark_st50")
