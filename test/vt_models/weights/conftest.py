# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as the authors' trainers save them."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

VARIANTS = {"asymtrack_t": "tiny", "asymtrack_s": "small", "asymtrack_b": "base"}
TRAINER_CLASSES = {
    "lib.train.admin.stats": "AverageMeter",
    "lib.train.admin.settings": "Settings",
    "lib.train.admin.local": "EnvironmentSettings",
}


@pytest.fixture(scope="session")
def published_state(shared_dir: Path, golden_init: ModuleType) -> Callable[[str], dict[str, Any]]:
    """The whole state dict of a published checkpoint, unused tensors too, filled from its names."""

    def build(model: str, salt: str = "") -> dict[str, Any]:
        file = shared_dir / "reference" / "asymtrack" / f"{VARIANTS[model]}.manifest.json"
        state = OrderedDict(
            (key, torch.zeros(value["shape"], dtype=getattr(torch, value["dtype"])))
            for key, value in json.loads(file.read_text())["keys"].items()
        )
        golden_init.fill(state, salt)
        return state

    return build


@pytest.fixture
def save_container(tmp_path: Path) -> Callable[..., Path]:
    """Save a state dict as the authors' trainer does, with objects of classes that go away."""

    def save(state: Any, *, legacy: bool = False, name: str = "AsymTrack_ep0500.pth.tar") -> Path:
        path = tmp_path / name
        modules = {module: fake_module(module, cls) for module, cls in TRAINER_CLASSES.items()}
        parents = {parent: ModuleType(parent) for parent in ("lib", "lib.train", "lib.train.admin")}
        sys.modules.update(parents | modules)
        try:
            content = container(state, modules)
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        finally:
            for module in [*parents, *modules]:
                del sys.modules[module]
        return path

    return save


def fake_module(name: str, cls: str) -> ModuleType:
    module = ModuleType(name)
    setattr(module, cls, type(cls, (), {"__module__": name}))
    return module


def container(state: Any, modules: dict[str, ModuleType]) -> dict[str, Any]:
    """The dict of the authors' trainers."""
    settings = modules["lib.train.admin.settings"].Settings()
    settings.env = modules["lib.train.admin.local"].EnvironmentSettings()
    settings.env.workspace_dir = "/somewhere"
    settings.config_name = "tiny"
    meter = modules["lib.train.admin.stats"].AverageMeter()
    meter.history = [1.0, 2.0]
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {
        "epoch": 500,
        "actor_type": "AsymTrackActor",
        "net_type": "AsymTrack",
        "net": state,
        "net_info": None,
        "constructor": None,
        "optimizer": optimizer.state_dict(),
        "stats": OrderedDict(train=OrderedDict({"Loss/total": meter})),
        "settings": settings,
    }
