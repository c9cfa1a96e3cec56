# SPDX-License-Identifier: Apache-2.0
"""Fakes, a real graph that looks for red, and real checkpoints with few and random weights."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.grounding import Candidate
from vt_models.runtime.export_directory import sha256_of
from vt_models.text import vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANVAS = (120, 160)
CELL = 10


class FakeDetector:
    """Plumbing only: answers what it is told, remembers what it was given."""

    name = "fake"
    default_threshold = 0.3
    names_only = False

    def __init__(self, *answer: tuple[tuple[float, float, float, float], float]) -> None:
        self.answer = [Candidate(box, score, "it") for box, score in answer]
        self.texts: list[str] = []
        self.work: Callable[[Callable[[], bool]], None] = lambda cancelled: None

    def detect(
        self,
        frame: Any,  # noqa: ARG002 - the protocol's
        text: str,
        cancelled: Callable[[], bool],
    ) -> list[Candidate]:
        self.texts.append(text)
        self.work(cancelled)
        return self.answer


@pytest.fixture
def fake() -> type[FakeDetector]:
    return FakeDetector


def red_graph(rounds: int = 0) -> bytes:
    """A detector whose score is how red a cell of the canvas is, whatever the text.

    Args:
        rounds: of a loop that only takes time.
    """
    onnx = pytest.importorskip("onnx")
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    kinds = onnx.TensorProto
    height, width = CANVAS
    rows, columns = height // CELL, width // CELL
    centres = np.stack(
        np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows), -1
    ).reshape(-1, 2)
    size = np.tile([CELL / width, CELL / height], (rows * columns, 1))
    boxes = np.concatenate([centres, size], 1)[None].astype(np.float32)
    weights = np.zeros((1, 3, CELL, CELL), np.float32)
    weights[0, 0] = 1.0 / (255.0 * CELL * CELL)
    weights[0, 1:] = -0.5 / (255.0 * CELL * CELL)
    constants = {
        "given_boxes": boxes,
        "kernel": weights,
        "flat": np.array([1, -1], np.int64),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "rounds": np.array(rounds, np.int64),
        "go_on": np.array(1, np.bool_),
    }
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["loop_condition"], ["loop_condition_out"]),
            helper.make_node("Sin", ["loop_value"], ["loop_sin"]),
            helper.make_node("Mul", ["loop_sin", "loop_sin"], ["loop_value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("loop_index", kinds.INT64, []),
            helper.make_tensor_value_info("loop_condition", kinds.BOOL, []),
            helper.make_tensor_value_info("loop_value", kinds.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("loop_condition_out", kinds.BOOL, []),
            helper.make_tensor_value_info("loop_value_out", kinds.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=kinds.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["red"], strides=[CELL, CELL]),
        helper.make_node("Loop", ["rounds", "go_on", "planes"], ["wasted"], body=body),
        helper.make_node("ReduceMax", ["wasted"], ["some"], keepdims=0),
        helper.make_node("Mul", ["some", "zero"], ["nothing"]),
        helper.make_node("Cast", ["text_ids"], ["ids"], to=kinds.FLOAT),
        helper.make_node("Cast", ["text_mask"], ["mask"], to=kinds.FLOAT),
        helper.make_node("Mul", ["ids", "mask"], ["words"]),
        helper.make_node("ReduceMax", ["words"], ["word"], keepdims=0),
        helper.make_node("Mul", ["word", "zero"], ["no_word"]),
        helper.make_node("Sum", ["red", "nothing", "no_word"], ["sums"]),
        helper.make_node("Clip", ["sums", "zero", "one"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "flat"], ["scores"]),
        helper.make_node("Identity", ["given_boxes"], ["boxes"]),
    ]
    text = [1, 16]
    graph = helper.make_graph(
        nodes,
        "red",
        [
            helper.make_tensor_value_info("image", kinds.UINT8, [1, height, width, 3]),
            helper.make_tensor_value_info("text_ids", kinds.INT64, text),
            helper.make_tensor_value_info("text_mask", kinds.BOOL, text),
        ],
        [
            helper.make_tensor_value_info("scores", kinds.FLOAT, [1, rows * columns]),
            helper.make_tensor_value_info("boxes", kinds.FLOAT, list(boxes.shape)),
        ],
        [from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def write_detector(directory: Path, graph: bytes, **changes: Any) -> Path:
    """An exported detector with BERT's vocabulary and 16 word pieces."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {"detector.onnx": graph, "tokenizer.json": vocabulary()}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    manifest = {
        "format_version": 1,
        "architecture": "red",
        "canvas": list(CANVAS),
        "padding": [0, 0, 0],
        "text": {
            "length": 16,
            "lower_case": True,
            "ending": ".",
            "separators": ".?",
            "pad_id": 0,
        },
        "default_threshold": 0.3,
        "files": {name: {"sha256": sha256_of(data)} for name, data in files.items()},
    }
    (directory / "grounding.json").write_text(json.dumps({**manifest, **changes}))
    return directory


@pytest.fixture(scope="session")
def red_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an exported detector that looks for red."""
    return write_detector(tmp_path_factory.mktemp("red"), red_graph())


def red_square(
    width: int,
    height: int,
    *boxes: tuple[int, int, int, int],
    colour: tuple[int, ...] = (255, 0, 0),
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A grey frame with red boxes in it."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for x, y, w, h in boxes:
        frame[y : y + h, x : x + w] = colour
    return frame


@pytest.fixture(scope="session")
def red() -> SimpleNamespace:
    """What makes detectors that look for red, and frames for them."""
    return SimpleNamespace(
        graph=red_graph, write=write_detector, frame=red_square, canvas=CANVAS, cell=CELL
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Architecture -> directory of a checkpoint as transformers saves it, written once."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers", reason="needs the [grounding] extra")
    written: dict[str, Path] = {}

    def write(architecture: str) -> Path:
        if architecture not in written:
            folder = tmp_path_factory.mktemp(architecture)
            written[architecture] = _WRITERS[architecture](folder)
        return written[architecture]

    return write


def write_grounding_dino(folder: Path) -> Path:
    """Grounding DINO with a Swin of four narrow blocks, a BERT of one, 30 queries, and random."""
    torch, library = pytest.importorskip("torch"), pytest.importorskip("transformers")
    (folder / "vocabulary.json").write_bytes(vocabulary())
    tokenizer = library.BertTokenizerFast(tokenizer_file=str(folder / "vocabulary.json"))
    config = library.GroundingDinoConfig(
        backbone_config=library.SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=library.BertConfig(
            vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=30,
        max_text_len=40, disable_custom_kernels=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = library.GroundingDinoForObjectDetection(config)
    with torch.no_grad():  # untrained heads place every box in the middle of its cell
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    images = library.GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    library.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def write_owlv2(folder: Path) -> Path:
    """OWLv2 with one narrow layer each, 6 x 6 patches, a vocabulary of bytes, and random."""
    torch, library = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pieces = [chr(code) for code in range(33, 127)]
    merged = ["re", "red</w>", "ca", "car</w>"]
    words = [*pieces, *(f"{piece}</w>" for piece in pieces), *merged]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>"])}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\nc a\nca r</w>\n")
    tokenizer = library.CLIPTokenizerFast(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        pad_token="!",  # noqa: S106 - no password
        model_max_length=16,
    )
    narrow = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1}
    config = library.Owlv2Config(
        text_config={**narrow, **ends, "vocab_size": len(vocabulary), "pad_token_id": 0},
        vision_config={**narrow, "image_size": 96, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = library.Owlv2ForObjectDetection(config)
    model.box_head.dense2.weight.data *= 0.02  # else every box is a point in a corner,
    model.class_head.logit_scale.weight.data *= 0.02  # and every score 0 or 1
    model.class_head.logit_shift.weight.data *= 0.02
    model.save_pretrained(folder)
    images = library.Owlv2ImageProcessor(size={"height": 96, "width": 96})
    library.Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return folder


_WRITERS = {"grounding-dino": write_grounding_dino, "owlv2": write_owlv2}
