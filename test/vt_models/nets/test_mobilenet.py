# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3's backbone beside the published graph."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from vt_models.errors import WeightsError
from vt_models.nets.mobilenet import PUBLISHED_PREFIX, NanoTrackBackbone

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def crop(shared_dir: Path) -> Any:
    """(255, 255, 3) uint8 BGR of a real frame."""
    frame = next(iter(sorted((shared_dir / "sequences").rglob("*.jpg"))), None)
    if frame is None:
        pytest.skip("no sequences")
    return cv2.resize(cv2.imread(str(frame)), (255, 255))


def _as_input(crop: Any) -> Any:
    return torch.from_numpy(crop.transpose(2, 0, 1)[None].astype(np.float32))


def _loaded(file: Path, **options: bool) -> NanoTrackBackbone:
    net = NanoTrackBackbone()
    net.load_nanotrack(file, **options)
    return net.eval()


@torch.no_grad()
def test_nanotrack_backbone_maps_equal_the_published_graph(
    nanotrack_weights: Path, crop: Any
) -> None:
    import onnxruntime  # noqa: PLC0415 - here alone

    graph = str(nanotrack_weights.with_name("nanotrack_v3_backbone.onnx"))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": _as_input(crop).numpy()})
    stride8, stride16 = _loaded(nanotrack_weights)(_as_input(crop))
    assert stride8.shape == (1, 24, 32, 32)
    assert stride16.shape == expected.shape == (1, 96, 16, 16)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(stride16.numpy(), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_load_nanotrack_rgb_gives_the_maps_of_bgr(nanotrack_weights: Path, crop: Any) -> None:
    bgr = _loaded(nanotrack_weights)(_as_input(crop))
    rgb = _loaded(nanotrack_weights, rgb=True)(_as_input(crop[:, :, ::-1]))
    unswapped = _loaded(nanotrack_weights)(_as_input(crop[:, :, ::-1]))
    for expected, found, other in zip(bgr, rgb, unswapped, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert (other - expected).abs().max() > 0.1


@pytest.mark.parametrize("size", [128, 176, 256])
def test_nanotrack_backbone_maps_have_the_size_of_their_stride(size: int) -> None:
    stride8, stride16 = NanoTrackBackbone()(torch.zeros(2, 3, size, size))
    assert stride8.shape == (2, 24, size // 8, size // 8)
    assert stride16.shape == (2, 96, size // 16, size // 16)


def test_nanotrack_backbone_in_training_keeps_published_statistics() -> None:
    net = NanoTrackBackbone().train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(torch.rand(2, 3, 64, 64) * 255)
    assert net.training
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    for name, value in net.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def _own_tensors() -> dict[str, Any]:
    return {PUBLISHED_PREFIX + k: v.clone() for k, v in NanoTrackBackbone().state_dict().items()}


def test_load_nanotrack_published_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    tensors = _own_tensors()
    save_file(tensors | {"neck.downsample.0.weight": torch.zeros(96, 96, 1, 1)}, file)
    for name, value in _loaded(file).state_dict().items():
        torch.testing.assert_close(value, tensors[PUBLISHED_PREFIX + name])


def test_load_nanotrack_other_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    key = "backbone.features.4.conv.5.fc.0.weight"
    missing = _own_tensors()
    del missing[key]
    save_file(missing, file)
    with pytest.raises(WeightsError, match=rf"{key} is missing"):
        NanoTrackBackbone().load_nanotrack(file)
    save_file(_own_tensors() | {key: torch.zeros(3, 96)}, file)
    net = NanoTrackBackbone()
    before = net.features[0][0].weight.clone()
    with pytest.raises(WeightsError, match=r"has shape \(3, 96\).*\(24, 96\)"):
        net.load_nanotrack(file)
    torch.testing.assert_close(net.features[0][0].weight, before, rtol=0, atol=0)
    save_file(_own_tensors() | {key: torch.full((24, 96, 1, 1), torch.nan)}, file)
    with pytest.raises(WeightsError, match=rf"{key} holds values that are no numbers"):
        net.load_nanotrack(file)
    torch.save({}, tmp_path / "w.pth")
    for other in (tmp_path / "w.pth", tmp_path / "none.safetensors"):
        with pytest.raises(WeightsError, match=r"cannot be read as \.safetensors"):
            net.load_nanotrack(other)
