# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v3 beside its published graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from safetensors.torch import load_file, save_file

from vt_models.errors import WeightsError
from vt_models.geometry.boxes import crop_window
from vt_models.geometry.crop import Cropper
from vt_models.nets.nanotrack import NanoTrack, load_nanotrack

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def net(nanotrack_weights: Path) -> NanoTrack:
    return load_nanotrack(nanotrack_weights)


SEQUENCES = ("otb_Girl", "tld_car", "uav123_person11")


@pytest.fixture(scope="module")
def crops(shared_dir: Path) -> tuple[Any, Any]:
    """Templates (3, 127, 127, 3) and search crops (3, 255, 255, 3) of real targets, BGR."""
    pairs = []
    for name in SEQUENCES:
        folder = shared_dir / "sequences" / name
        frame = cv2.imread(str(min((folder / "img").iterdir())))
        first = (folder / "groundtruth.txt").read_text().splitlines()[0]
        box = [float(value) for value in first.replace("\t", ",").split(",")]
        sizes = ((2.0, 127), (4.0, 255))
        pairs.append([Cropper(size)(frame, crop_window(box, factor)) for factor, size in sizes])
    templates, searches = zip(*pairs, strict=True)
    return np.stack(templates), np.stack(searches)


def _as_input(images: Any) -> Any:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))


@torch.no_grad()
def test_nanotrack_outputs_equal_the_published_graphs(
    net: NanoTrack, nanotrack_weights: Path, crops: tuple[Any, Any]
) -> None:
    import onnx  # noqa: PLC0415 - here alone
    import onnxruntime  # noqa: PLC0415

    backbone = onnx.load(nanotrack_weights.with_name("nanotrack_v3_backbone.onnx"))
    for place in (backbone.graph.input[0], backbone.graph.output[0]):
        for axis in (2, 3):
            place.type.tensor_type.shape.dim[axis].dim_param = "free"
    backbone = onnxruntime.InferenceSession(backbone.SerializeToString())
    head = onnxruntime.InferenceSession(str(nanotrack_weights.with_name("nanotrack_v3_head.onnx")))
    for template, search in zip(*map(_as_input, crops), strict=True):
        given = [backbone.run(None, {"input": one[None].numpy()})[0] for one in (template, search)]
        logits, sides = head.run(None, {"input1": given[0], "input2": given[1]})
        own_logits, own_sides = net(template[None], search[None])
        assert own_logits.shape == (1, 2, 15, 15)
        assert np.abs(own_logits.numpy() - logits).max() < 1e-4
        # Distances of up to 200 pixels: the tolerance is relative to them.
        assert np.allclose(own_sides.numpy(), sides, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_nanotrack_batch_equals_its_pairs(net: NanoTrack, crops: tuple[Any, Any]) -> None:
    template, search = map(_as_input, crops)
    logits, sides = net(template, search)
    for row in range(len(template)):
        alone = net(template[row : row + 1], search[row : row + 1])
        assert torch.allclose(logits[row], alone[0][0], atol=1e-4)
        assert torch.allclose(sides[row], alone[1][0], rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_nanotrack_merge_changes_no_output(
    net: NanoTrack, nanotrack_weights: Path, crops: tuple[Any, Any]
) -> None:
    merged = load_nanotrack(nanotrack_weights).merge().merge()
    assert not any(isinstance(one, torch.nn.BatchNorm2d) for one in merged.modules())
    expected, found = (one(*map(_as_input, crops)) for one in (net, merged))
    assert torch.allclose(expected[0], found[0], atol=1e-4)
    assert torch.allclose(expected[1], found[1], rtol=1e-4, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", [192, 256, 320])
def test_nanotrack_search_size_of_the_stride_is_accepted(
    net: NanoTrack, crops: tuple[Any, Any], size: int
) -> None:
    template = np.stack([cv2.resize(one, (128, 128)) for one in crops[0]])
    search = np.zeros((3, size, size, 3), np.uint8)
    search[...] = crops[1].mean((1, 2), keepdims=True)
    start = (size - 192) // 2
    search[:, start : start + 192, start : start + 192] = crops[1][:, 31:223, 31:223]
    logits, sides = net(_as_input(template), _as_input(search))
    cells = size // 16 - 1
    assert logits.shape == (3, 2, cells, cells)
    assert sides.shape == (3, 4, cells, cells)
    # The target is in the middle, where the map's middle point is.
    score = logits.softmax(1)[:, 1]
    assert (score[:, cells // 2, cells // 2] > 0.5).all()


def test_load_nanotrack_other_weights_are_refused(nanotrack_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none.safetensors cannot be read"):
        load_nanotrack(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(WeightsError, match=r"text.safetensors cannot be read"):
        load_nanotrack(tmp_path / "text.safetensors")
    published = load_file(nanotrack_weights)
    name = "ban_head.cls_logits.0.weight"
    cut = tmp_path / "cut.safetensors"
    save_file({key: one for key, one in published.items() if key != name}, cut)
    with pytest.raises(WeightsError, match=rf"1 tensor missing: {name}"):
        load_nanotrack(cut)
    save_file(published | {name: torch.zeros(3, 96, 1, 1)}, cut)
    with pytest.raises(WeightsError, match=rf"another shape: {name} \(is \[3, 96, 1, 1\]"):
        load_nanotrack(cut)
    save_file(published | {"foreign": torch.zeros(1)}, cut)
    with pytest.raises(WeightsError, match=r"1 tensor unexpected: foreign"):
        load_nanotrack(cut)
