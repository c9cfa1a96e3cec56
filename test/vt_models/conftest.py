# SPDX-License-Identifier: Apache-2.0
"""Fakes and small networks for the tests of the inference core."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.registry import ModelSpec, get_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from vt_models.runtime.engine import Template


class FakeEngine:
    """Plumbing only: no network, answers what it is told, remembers what it was given."""

    def __init__(self, answer: Callable[[FakeEngine], tuple[Any, ...]]) -> None:
        self.answer = answer
        self.template: Any = None
        self.template_box: Any = None
        self.template_mask: Any = None
        self.dynamic: list[Any] = []
        self.text: Any = None
        self.crop: Any = None
        self.mask: Any = None

    def set_template(self, template: Template) -> None:
        self.template = template.crops[0].copy()
        self.template_box = template.box.copy()
        self.template_mask = template.mask

    def set_dynamic(self, template: Template) -> None:
        self.dynamic.append(template.crops.copy())

    def set_text(self, ids: Any, mask: Any) -> None:
        self.text = ids.copy(), mask.copy()

    def search(self, crop: Any, mask: Any = None) -> tuple[Any, ...]:
        self.crop, self.mask = crop.copy(), mask
        return self.answer(self)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Torch threads that spin beside other work slow everything down: 237 s instead of 38 s."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fake_engine() -> type[FakeEngine]:
    return FakeEngine


@pytest.fixture(scope="session")
def golden_init(shared_dir: Path) -> ModuleType:
    """The reference's generator of weights and inputs."""
    path = shared_dir / "reference" / "golden_init.py"
    spec = importlib.util.spec_from_file_location("golden_init", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_spec(name: str) -> ModelSpec:
    """A model's specification with small crops, for small networks."""
    return dataclasses.replace(get_spec(name), template_size=32, search_size=64)


def build_small_net(name: str) -> Any:
    """A torch module of a few thousand weights that follows the protocol of the model's decoder."""
    torch = pytest.importorskip("torch", reason="needs the training packages")
    nn = torch.nn
    dense = get_spec(name).decoder == "dense"

    class SmallNet(nn.Module):
        state_names = ("kernel", "inside")
        output_names = ("score_map", "box_map") if dense else ("box", "score")

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.boxes = nn.Conv2d(8, 4, 1)

        def encode_template(self, template: Any, template_box: Any = None) -> tuple[Any, ...]:
            kernel = self.stem(template).mean((2, 3))
            inside = torch.ones_like(kernel) if template_box is None else template_box.sum(1)
            return kernel, inside.reshape(len(kernel), -1)[:, :1]

        def search(self, search: Any, kernel: Any, inside: Any) -> tuple[Any, ...]:
            features = self.stem(search)
            score_map = torch.sigmoid((features * kernel[:, :, None, None]).sum(1) + inside[0, 0])
            box_map = torch.sigmoid(self.boxes(features))
            if dense:
                return score_map, box_map
            return box_map.mean((2, 3)), score_map.amax((1, 2))

        def merge(self) -> SmallNet:
            return self

    torch.manual_seed(3)
    net = SmallNet().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        norm = net.stem[1]
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
    return net


@pytest.fixture(params=["asymtrack_t", "asymtrack_lite0"], ids=["box", "dense"])
def small_model(request: pytest.FixtureRequest) -> tuple[Any, ModelSpec]:
    """A small network and its specification, once for each decoder."""
    return build_small_net(request.param), small_spec(request.param)


@pytest.fixture(scope="session")
def exported_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export directory of the small dense network, under the name asymtrack_lite0."""
    for package in ("torch", "onnx"):
        pytest.importorskip(package, reason="needs the training packages")
    from vt_models.export.exporter import export_model  # noqa: PLC0415 - needs torch

    directory = tmp_path_factory.mktemp("export") / "small"
    name = "asymtrack_lite0"
    return export_model(build_small_net(name), small_spec(name), directory)


@pytest.fixture(scope="session")
def moving_square() -> tuple[list[np.ndarray], list[tuple[float, float, float, float]]]:
    """Twelve frames 120x160 with a bright square that moves, and its boxes."""
    rng = np.random.default_rng(0)
    background = rng.integers(0, 90, (120, 160, 3), dtype=np.uint8)
    frames, boxes = [], []
    for index in range(12):
        x, y = 40 + 3 * index, 50 + 2 * index
        frame = background.copy()
        frame[y : y + 24, x : x + 24] = 230
        frames.append(frame)
        boxes.append((float(x), float(y), 24.0, 24.0))
    return frames, boxes
