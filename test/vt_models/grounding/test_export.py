# SPDX-License-Identifier: Apache-2.0
"""Checkpoints to ONNX and back: the same boxes from the same frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.cli.main import main
from vt_models.errors import ExportError, InputError
from vt_models.geometry.boxes import iou
from vt_models.grounding import Candidate, GroundingSettings, create_grounder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.train

ARCHITECTURES = ("grounding-dino", "owlv2")
SIZES = {"grounding-dino": "160x96", "owlv2": "96x96"}
ALL = GroundingSettings(threshold=0.0, ambiguity_margin=0.0, nms_iou=1.0, max_candidates=100)


@pytest.fixture(scope="module")
def exported(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Architecture -> directory that the command wrote, once."""
    written: dict[str, Path] = {}

    def export(architecture: str) -> Path:
        if architecture not in written:
            folder = tmp_path_factory.mktemp("exported") / architecture
            source, size = str(checkpoint(architecture)), SIZES[architecture]
            words = ["ground-export", source, "--output", str(folder), "--size", size]
            assert main(words) == 0
            written[architecture] = folder
        return written[architecture]

    return export


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_graph_gives_what_torch_gives(
    exported: Callable[[str], Path], architecture: str
) -> None:
    manifest = json.loads((exported(architecture) / "grounding.json").read_text())
    assert manifest["architecture"] == architecture
    assert manifest["parity"]["score_abs"] < 1e-4
    assert manifest["parity"]["box_abs"] < 1e-4
    width, height = (int(part) for part in SIZES[architecture].split("x"))
    assert manifest["canvas"] == [height, width]


def smooth(width: int, height: int) -> Any:
    """A frame that looks alike however it is scaled: here it is done by another library."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([rows / height, columns / width, (rows + columns) / (width + height)], -1)
    return (255 * waves).astype(np.uint8)


def agree(first: Any, second: Any, least_iou: float, score: float) -> None:
    """Of every one of the best candidates there is one in the other list."""
    assert len(first) >= 5
    for candidate in first[:5]:
        nearest = max(second, key=lambda item: float(iou(item.box, candidate.box)))
        assert float(iou(nearest.box, candidate.box)) > least_iou
        assert nearest.score == pytest.approx(candidate.score, abs=score)


@pytest.mark.parametrize(
    ("architecture", "width", "height", "least_iou", "score"),
    [
        ("grounding-dino", 160, 96, 0.999, 1e-4),  # the canvas itself
        ("owlv2", 96, 96, 0.999, 1e-4),
        ("owlv2", 48, 96, 0.999, 1e-4),  # padded
        ("owlv2", 96, 30, 0.999, 1e-4),
        ("owlv2", 160, 96, 0.9, 0.02),  # scaled
    ],
)
def test_both_backends_agree_on_a_frame(
    checkpoint: Callable[[str], Path],
    exported: Callable[[str], Path],
    architecture: str,
    width: int,
    height: int,
    least_iou: float,
    score: float,
) -> None:
    frame = smooth(width, height)
    one = create_grounder("zero_shot", checkpoint(architecture), settings=ALL)
    other = create_grounder("onnx", exported(architecture), settings=ALL)
    assert one.threshold == other.threshold
    first, second = one.find(frame, "Red car"), other.find(frame, "Red car")
    agree(first.candidates, second.candidates, least_iou, score)


def test_a_frame_on_a_larger_canvas_is_as_in_a_batch_of_transformers(
    checkpoint: Callable[[str], Path], exported: Callable[[str], Path]
) -> None:
    """Grounding DINO pads the smaller image of a batch, and masks it, as the graph does."""
    torch, library = pytest.importorskip("torch"), pytest.importorskip("transformers")
    frame, larger = smooth(112, 96), np.zeros((96, 160, 3), np.uint8)
    folder = checkpoint("grounding-dino")
    model = library.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = library.AutoProcessor.from_pretrained(folder)
    inputs = processor(images=[frame, larger], text=["red car."] * 2, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    found = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[(96, 112), (96, 160)]
    )[0]
    corners = found["boxes"].double().numpy()
    corners = corners.clip(0, (112, 96, 112, 96))
    expected = [
        Candidate((x1, y1, x2 - x1, y2 - y1), float(score))
        for (x1, y1, x2, y2), score in zip(corners.tolist(), found["scores"], strict=True)
    ]
    expected.sort(key=lambda item: -item.score)
    got = create_grounder("onnx", exported("grounding-dino"), settings=ALL).find(frame, "Red car")
    agree(expected, got.candidates, 0.99, 1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_export_graph_depends_on_the_text(
    exported: Callable[[str], Path], architecture: str
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    grounder = create_grounder("onnx", exported(architecture), settings=ALL)
    short, long = grounder.find(frame, "car"), grounder.find(frame, "car red")
    assert [item.score for item in short.candidates] != [item.score for item in long.candidates]


def test_phrase_masks_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformers.models.grounding_dino.modeling_grounding_dino")
    from vt_models.grounding.export import phrase_masks  # noqa: PLC0415 - needs torch

    special = torch.tensor([101, 102, 1012, 1029])
    torch.manual_seed(0)
    for _ in range(50):
        length = int(torch.randint(1, 20, ()))
        ids = torch.randint(0, 50, (2, length))
        places = torch.rand(2, length) < 0.3
        ids[places] = special[torch.randint(0, 4, (int(places.sum()),))]
        expected = theirs.generate_masks_with_special_tokens_and_transfer_map(ids, special)
        for got, want in zip(phrase_masks(ids, special), expected, strict=True):
            assert torch.equal(got, want)


def test_a_transformers_that_computes_the_masks_otherwise_is_named(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = pytest.importorskip("transformers.models.grounding_dino.modeling_grounding_dino")
    from vt_models.grounding import export  # noqa: PLC0415 - needs torch
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - needs torch

    detector = open_detector(checkpoint("grounding-dino"), "cpu", 1)
    name = "generate_masks_with_special_tokens_and_transfer_map"
    monkeypatch.setattr(theirs, name, lambda input_ids: None)
    with pytest.raises(ExportError, match=r"transformers 5.* pip install 'transformers>=5\.23"):
        export.export_detector(detector, tmp_path / "out", (96, 160))
    assert list(tmp_path.iterdir()) == []


def test_double_precision_is_taken_out() -> None:
    onnx = pytest.importorskip("onnx")
    from vt_models.grounding.export import in_single_precision  # noqa: PLC0415 - needs torch

    helper, kinds = onnx.helper, onnx.TensorProto
    half = onnx.numpy_helper.from_array(np.array([0.5]), "half")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["wide"], to=kinds.DOUBLE),
            helper.make_node("Mul", ["wide", "half"], ["product"]),
            helper.make_node("Cast", ["product"], ["y"], to=kinds.FLOAT),
        ],
        "wide",
        [helper.make_tensor_value_info("x", kinds.FLOAT, [1])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, [1])],
        [half],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    single = in_single_precision(model.SerializeToString())
    assert kinds.DOUBLE not in {
        entry.type.tensor_type.elem_type
        for entry in onnx.shape_inference.infer_shapes(
            onnx.load_from_string(single)
        ).graph.value_info
    }


def test_a_graph_that_differs_is_not_written(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vt_models.grounding import export  # noqa: PLC0415 - needs torch
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - needs torch

    def disturbed(data: bytes) -> bytes:
        onnx: Any = pytest.importorskip("onnx")
        model = onnx.load_from_string(data)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim == 2:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * 1.1, tensor.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(export, "in_single_precision", disturbed)
    with pytest.raises(ExportError, match="differs from the network"):
        export.export_detector(open_detector(checkpoint("owlv2"), "cpu", 1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_targets_and_sizes_that_cannot_be(
    checkpoint: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vt_models.grounding import export  # noqa: PLC0415 - needs torch
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - needs torch

    detector = open_detector(checkpoint("owlv2"), "cpu", 1)
    with pytest.raises(InputError, match="takes images of 96x96"):
        export.export_detector(detector, tmp_path / "out", (64, 64))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        export.export_detector(detector, tmp_path)
    with pytest.raises(SystemExit):
        main(["ground-export", "x", "--output", "y", "--size", "large"])
    assert "expected WIDTHxHEIGHT such as 1333x800" in capsys.readouterr().err
    assert main(["ground-export", str(tmp_path), "--output", str(tmp_path / "z")]) == 2
    assert "has no config.json" in capsys.readouterr().err
