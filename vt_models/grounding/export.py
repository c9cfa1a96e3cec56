# SPDX-License-Identifier: Apache-2.0
"""A zero-shot checkpoint to an exported detector, checked before it appears (needs torch).

See `vt_models.grounding.export_directory` for the directory's contents. The graph normalises
inside, so that the caller hands over bytes.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from vt_models.errors import ExportError, InputError
from vt_models.export.exporter import Graph, check_target, onnx_bytes, producer
from vt_models.export.weight_storage import Stored
from vt_models.files import draft_of_directory
from vt_models.grounding.export_directory import (
    GRAPH,
    MANIFEST,
    OPTIONAL_INPUTS,
    OUTPUTS,
    TOKENIZER,
    DetectorExport,
    TextFormat,
)
from vt_models.grounding.onnx_detector import PromptEncoder, place
from vt_models.grounding.zero_shot import ZeroShotDetector
from vt_models.runtime.onnx_engine import open_session

TOLERANCE = 1e-3
"""Largest difference of scores, and of boxes as fractions of the canvas, to the torch network."""

_TEXTS = ("red car", "a man", "dog")
_SHAPES = ((90, 160), (120, 80), (64, 64))
_COMPARED = 20  # the best boxes; far down the ranking equal scores may come in another order
_TEXT_MASKS = "generate_masks_with_special_tokens_and_transfer_map"
_TEXT_LENGTH = 64  # word pieces of a graph whose network would read more; a sentence has 30


class DetectorGraph(nn.Module):
    """A network as `exported` describes a graph.

    Attributes:
        inputs: names of what its forward pass takes, in order.
    """

    inputs: tuple[str, ...]


class GroundingDinoGraph(DetectorGraph):
    """Grounding DINO as `exported` describes a graph.

    The frame's place on the canvas goes into the network's pixel mask. Its boxes are fractions of
    the frame and become fractions of the canvas.
    """

    inputs = ("image", "text_ids", "text_mask", *OPTIONAL_INPUTS)

    def __init__(self, model: Any, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("std", std.view(1, 3, 1, 1))

    def forward(
        self, image: Tensor, text_ids: Tensor, text_mask: Tensor, image_size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (1, N) and boxes (1, N, 4)."""
        height, width = image.shape[1:3]
        rows, columns = torch.arange(height) < image_size[0], torch.arange(width) < image_size[1]
        mask = (rows[:, None] & columns[None])[None]
        pixels = (image.permute(0, 3, 1, 2).float() / 255.0 - self.mean) / self.std
        outputs = self.model(
            pixel_values=pixels * mask[:, None].float(),
            pixel_mask=mask.long(),
            input_ids=text_ids,
            attention_mask=text_mask.long(),
            token_type_ids=torch.zeros_like(text_ids),
        )
        y, x = (image_size.float() / torch.tensor([float(height), float(width)])).unbind(0)
        scale = torch.stack((x, y, x, y))
        return outputs.logits.sigmoid().amax(-1), outputs.pred_boxes * scale


class Owlv2Graph(DetectorGraph):
    """OWLv2 likewise; its boxes are fractions of the padded square already."""

    inputs = ("image", "text_ids", "text_mask")

    def __init__(self, model: Any, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("std", std.view(1, 3, 1, 1))

    def forward(self, image: Tensor, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (1, N) and boxes (1, N, 4)."""
        outputs = self.model(
            pixel_values=(image.permute(0, 3, 1, 2).float() / 255.0 - self.mean) / self.std,
            input_ids=text_ids,
            attention_mask=text_mask.long(),
        )
        return outputs.logits.sigmoid().amax(-1), outputs.pred_boxes


_GRAPHS: dict[str, type[GroundingDinoGraph | Owlv2Graph]] = {
    "grounding-dino": GroundingDinoGraph,
    "owlv2": Owlv2Graph,
}


def export_detector(
    detector: ZeroShotDetector,
    directory: str | Path,
    canvas: tuple[int, int] | None = None,
) -> Path:
    """Export a checkpoint; either a checked directory appears at `directory`, or nothing changes.

    Args:
        detector: on the CPU.
        directory: to create. A previous export there is replaced; its other files are kept.
        canvas: (height, width) of the images in pixels; None for what the checkpoint's own
            preprocessor makes at most. A smaller one is faster and sees less. OWLv2 has one size.

    Returns:
        The directory.

    Raises:
        InputError: a canvas that the network cannot take.
        ExportError: `directory` holds something else, torch cannot export the network, or the
            graph does not reproduce it.
    """
    directory = Path(directory)
    config, images = detector.model.config, detector.processor.image_processor
    check_target(directory, MANIFEST, config.model_type)
    style, tokenizer = detector.architecture, detector.processor.tokenizer
    described = DetectorExport(
        architecture=config.model_type,
        canvas=_canvas(detector, canvas),
        padding=_padding(detector),
        text=TextFormat(
            length=min(detector.text_length, _TEXT_LENGTH),
            lower_case=style.lower_case,
            ending=style.ending,
            separators=style.separators,
            pad_id=int(tokenizer.pad_token_id),
        ),
        default_threshold=detector.default_threshold,
        files={TOKENIZER: tokenizer.backend_tokenizer.to_str().encode()},
    )
    mean, std = torch.tensor(images.image_mean), torch.tensor(images.image_std)
    module = _GRAPHS[config.model_type](detector.model, mean, std).eval()
    with _exportable(detector.model):
        described = with_graph(described, module)
    return write_detector(described, module, directory, {"source": Path(config.name_or_path).name})


def with_graph(
    described: DetectorExport, module: DetectorGraph, stored: Stored | None = None
) -> DetectorExport:
    """A description with the graph of its network.

    Args:
        described: all but the graph.
        module: whose forward pass takes `module.inputs` and gives `OUTPUTS`.
        stored: how its weights were rounded, if they were.

    Raises:
        ExportError: torch cannot export it.
    """
    arrays = _inputs(described, _SHAPES[0], _TEXTS[0])
    inputs = {name: torch.from_numpy(arrays[name]) for name in module.inputs}
    graph = Graph(GRAPH, module, tuple(inputs.values()), list(inputs), list(OUTPUTS))
    data = in_single_precision(onnx_bytes(graph, stored))
    return replace(described, files={**described.files, GRAPH: data})


def write_detector(
    described: DetectorExport, module: DetectorGraph, directory: Path, facts: dict[str, Any]
) -> Path:
    """Write an export whole, once its graph was compared with torch; see `export_detector`.

    Args:
        described: with its graph.
        module: what the graph was made of.
        directory: to create or to replace.
        facts: more entries of `grounding.json`.
    """
    manifest = {
        **described.manifest(),
        **facts,
        "producer": producer(),
        "parity": _parity(module, described),
    }
    with draft_of_directory(directory) as built:
        for name, data in described.files.items():
            (built / name).write_bytes(data)
        (built / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return directory


def phrase_masks(input_ids: Tensor, special_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Which words of a text see each other in Grounding DINO, in operators that ONNX has.

    The same numbers as `generate_masks_with_special_tokens_and_transfer_map` of transformers, which
    is built on a running maximum: here each position looks for its neighbours in a table.

    Args:
        input_ids: (B, L) int64.
        special_tokens: (S,) int64, what ends a phrase.

    Returns:
        (B, L, L) bool, and the positions in their phrases (B, L) int64.
    """
    length = input_ids.shape[1]
    special = (input_ids[..., None] == special_tokens).any(-1)[:, None]
    places = torch.arange(length)
    later, earlier = places >= places[:, None], places < places[:, None]
    following = torch.where(special & later, places, length).amin(-1)
    previous = torch.where(special & earlier, places, -1).amax(-1)
    inside = (following != 0) & (following != length - 1) & (following != length)
    together = (following[..., None] == following[:, None]) & inside[:, None]
    positions = torch.where(inside, places - previous - 1, 0)
    return together | (places == places[:, None]), positions


def in_single_precision(data: bytes) -> bytes:
    """An ONNX graph with float32 wherever it has float64.

    torch's exporter writes the numbers of a `linspace` as float64, which spreads; ONNX Runtime has
    no GridSample of them, and the network never had any.
    """
    model = onnx.load_model_from_string(data)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT
            elif attribute.HasField("t"):
                _to_single(attribute.t)
    for tensor in model.graph.initializer:
        _to_single(tensor)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    converted: bytes = model.SerializeToString()
    return converted


def _to_single(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.DOUBLE:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@contextlib.contextmanager
def _exportable(model: Any) -> Iterator[None]:
    """While Grounding DINO is exported, let it compute its text masks by `phrase_masks`.

    Raises:
        ExportError: a transformers that computes them in another way.
    """
    if model.config.model_type != "grounding-dino":
        yield
        return
    module = sys.modules[type(model).__module__]
    original = getattr(module, _TEXT_MASKS, None)
    if original is None or len(inspect.signature(original).parameters) != 2:
        raise ExportError(
            f"transformers {metadata.version('transformers')} computes the text masks of Grounding "
            "DINO in a way that cannot be exported; pip install 'transformers>=5.23,<6'"
        )
    setattr(module, _TEXT_MASKS, phrase_masks)
    try:
        yield
    finally:
        setattr(module, _TEXT_MASKS, original)


def _canvas(detector: ZeroShotDetector, canvas: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the graph's images."""
    size = detector.processor.image_processor.size
    if detector.model.config.model_type == "owlv2":
        own = (int(size["height"]), int(size["width"]))
        if canvas not in (None, own):
            raise InputError(f"this OWLv2 takes images of {own[1]}x{own[0]}, not of other sizes")
        return own
    if canvas is None:
        return int(size["shortest_edge"]), int(size["longest_edge"])
    if min(canvas) < 32:
        raise InputError(f"an image of {canvas[1]}x{canvas[0]} is too small; give at least 32x32")
    return canvas


def _padding(detector: ZeroShotDetector) -> tuple[int, int, int]:
    """The colour that the checkpoint's own preprocessor pads with; asked, not assumed."""
    images = detector.processor.image_processor
    if detector.model.config.model_type != "owlv2":
        return (0, 0, 0)  # behind the pixel mask
    wide = np.full((8, 64, 3), 255, np.uint8)
    pixels = images(wide, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    colour = pixels[0, :, -1, -1].numpy() * images.image_std + images.image_mean
    red, green, blue = (int(value) for value in np.rint(255.0 * colour).clip(0, 255))
    return red, green, blue


def _inputs(
    described: DetectorExport, shape: tuple[int, int], text: str
) -> dict[str, NDArray[Any]]:
    """What a graph is given for a frame of noise."""
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    placed = place(frame, described.canvas, described.padding)
    ids, mask = PromptEncoder(described.files[TOKENIZER], described.text)(text)
    return {
        "image": placed.image[None],
        "text_ids": ids,
        "text_mask": mask,
        "image_size": np.array(placed.size, np.int64),
    }


def _parity(module: DetectorGraph, described: DetectorExport) -> dict[str, float]:
    """Largest differences of the best boxes, graph against torch; ExportError if they are large."""
    session = open_session(described.files[GRAPH], GRAPH, "cpu", 1)
    score, box = 0.0, 0.0
    for shape, text in zip(_SHAPES, _TEXTS, strict=True):
        arrays = _inputs(described, shape, text)
        given = {name: arrays[name] for name in module.inputs}
        scores, boxes = (value[0] for value in session.run(list(OUTPUTS), given))
        with torch.no_grad():
            expected = module(*(torch.from_numpy(array) for array in given.values()))
        wanted_scores, wanted_boxes = (value[0].numpy() for value in expected)
        for index in np.argsort(-wanted_scores)[:_COMPARED]:
            apart = np.abs(scores - wanted_scores[index])
            moved = np.abs(boxes - wanted_boxes[index]).max(1)
            nearest = int((apart + moved).argmin())
            score, box = max(score, float(apart[nearest])), max(box, float(moved[nearest]))
    if max(score, box) > TOLERANCE:
        raise ExportError(
            f"the exported graph differs from the network by {score:.2g} in scores and {box:.2g} "
            f"of the canvas in boxes, at most {TOLERANCE:g} is allowed; nothing was written"
        )
    return {"score_abs": score, "box_abs": box, "tolerance": TOLERANCE}
