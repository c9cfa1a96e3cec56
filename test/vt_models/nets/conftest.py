# SPDX-License-Identifier: Apache-2.0
"""Reference networks and vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from numpy.typing import NDArray

from vt_models.nets import asymtrack

SIZES = {"tiny": (128, 256), "small": (128, 256), "base": (192, 384)}


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
