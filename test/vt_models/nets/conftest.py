# SPDX-License-Identifier: Apache-2.0
"""Reference networks and vectors, and checkpoints as the authors' trainers save them."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

try:
    import torch

    from vt_models.nets import asymtrack
except ImportError:  # every test module here skips itself then; before pytest 8 a conftest cannot
    torch = None

SIZES = {"tiny": (128, 256), "small": (128, 256), "base": (192, 384)}
VARIANTS = {"asymtrack_t": "tiny", "asymtrack_s": "small", "asymtrack_b": "base"}
TRAINER_CLASSES = {
    "lib.train.admin.stats": "AverageMeter",
    "lib.train.admin.settings": "Settings",
    "lib.train.admin.local": "EnvironmentSettings",
}


@dataclass(frozen=True)
class Golden:
    """A variant of AsymTrack with reference weights, inputs and outputs."""

    variant: str
    net: Any
    template: Any
    searches: dict[str, Any]
    vectors: dict[str, NDArray[np.float32]]
    sub: Callable[[Any, int], NDArray[np.float32]]


@pytest.fixture(scope="session")
def manifest(shared_dir: Path) -> Callable[[str], dict[str, list[int]]]:
    """Key to shape of a published state dict, by file name without `.manifest.json`."""

    def read(name: str) -> dict[str, list[int]]:
        path = shared_dir / "reference" / "asymtrack" / f"{name}.manifest.json"
        keys = json.loads(path.read_text())["keys"]
        return {key: value["shape"] for key, value in keys.items()}

    return read


@pytest.fixture(params=list(SIZES))
def golden(request: pytest.FixtureRequest, shared_dir: Path, golden_init: ModuleType) -> Golden:
    """Each variant in turn, in training form and evaluation mode."""
    variant = request.param
    template, search = SIZES[variant]
    file = shared_dir / "reference" / "asymtrack" / f"{variant}.golden.npz"
    vectors = dict(np.load(file))
    net = getattr(asymtrack, f"asymtrack_{variant[0]}")().eval()
    golden_init.fill(net.state_dict(), str(vectors["salt"]))

    def image(name: str, size: int) -> Any:
        return torch.from_numpy(golden_init.net_input(name, size))

    return Golden(
        variant=variant,
        net=net,
        template=image("template", template),
        searches={"s1": image("search1", search), "s2": image("search2", search)},
        vectors=vectors,
        sub=golden_init.sub,
    )


@pytest.fixture(scope="session")
def nanotrack_weights(shared_dir: Path) -> Path:
    """NanoTrack v3's published state dict."""
    file = shared_dir / "peers" / "nanotrack_v3.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}")
    return file


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
