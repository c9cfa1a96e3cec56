# SPDX-License-Identifier: Apache-2.0
"""One network at several search sizes: a specification of another size exports and tracks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models import get_spec
from vt_models.export.parity import synthetic_sequence
from vt_models.tracker.tracker import Tracker

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models import create_model
from vt_models.export.exporter import export_model
from vt_models.nets.graphs import Normalise
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.runtime.torch_engine import TorchEngine

pytestmark = pytest.mark.train

SPEC = get_spec("asymtrack_nano")


@pytest.fixture(scope="module")
def net() -> Any:
    """Random weights; every cell's box is the nominal one, the score favours the bright."""
    torch.manual_seed(5)
    net = create_model(SPEC.name)
    torch.nn.init.zeros_(net.head.sides.weight)
    torch.nn.init.normal_(net.head.score.weight, std=0.5)
    return net


@pytest.mark.parametrize("size", [128, 176, 224])
def test_export_at_another_search_size_tracks_like_torch(
    net: Any, tmp_path: Path, size: int
) -> None:
    spec = dataclasses.replace(SPEC, search_size=size, search_factor=size / 64)
    assert SPEC.at_search_size(size) == spec
    engine = OnnxEngine(export_model(net, spec, tmp_path / "export"), "cpu")
    assert engine.spec == spec
    trackers = [Tracker(spec, TorchEngine(net, spec, "cpu")), Tracker(engine.spec, engine)]
    frames, boxes = synthetic_sequence(6)
    found = []
    for tracker in trackers:
        tracker.init(frames[0], boxes[0])
        found.append([tracker.update(frame).box for frame in frames[1:]])
    np.testing.assert_allclose(found[0], found[1], atol=0.05)


@pytest.mark.parametrize("size", [128, 176, 192, 224])
def test_nominal_box_is_the_target_s_mean_side_at_any_search_size(net: Any, size: int) -> None:
    spec = dataclasses.replace(SPEC.at_search_size(size), size_calibration=0.0)
    tracker = Tracker(spec, TorchEngine(net, spec, "cpu"))
    frames, _ = synthetic_sequence(2)
    tracker.init(frames[0], (80.0, 60.0, 50.0, 40.0))
    _, _, w, h = tracker.locate(frames[1], (80.0, 60.0, 50.0, 40.0), prior=False).box
    # A window is a whole number of pixels wide.
    assert (w, h) == pytest.approx((math.sqrt(2000),) * 2, rel=0.01)


def test_bytes_as_they_are_are_what_mean_0_and_std_1_in_255_give() -> None:
    crop = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    graph = Normalise(SPEC)
    assert graph.as_it_is
    plain = (crop.permute(0, 3, 1, 2).float() / 255.0 - graph.mean) / graph.std
    torch.testing.assert_close(graph(crop), plain)
    assert not Normalise(get_spec("asymtrack_lite0")).as_it_is
