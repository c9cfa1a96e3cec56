# SPDX-License-Identifier: Apache-2.0
"""An exported open-vocabulary detector on disk, read and checked.

    detector.onnx    image (1, H, W, 3) uint8 RGB: the frame, scaled to fit, in the top left corner
                     of the canvas; the rest is `padding`
                     text_ids (1, L) int64 and text_mask (1, L) bool: word pieces
                     image_size (2,) int64, optional: height and width of the frame on the canvas
                     -> scores (1, N) float32 in [0, 1]
                        boxes (1, N, 4) float32 centre x, centre y, width, height as fractions of
                        the canvas
    tokenizer.json   of the library `tokenizers`, special tokens included
    grounding.json   what this module's `DetectorExport` says, and the sha256 of both files

Needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import reprlib
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vt_models.errors import WeightsError
from vt_models.runtime.export_directory import read_checked, read_manifest, sha256_of

FORMAT_VERSION = 1
MANIFEST = "grounding.json"
GRAPH = "detector.onnx"
TOKENIZER = "tokenizer.json"
BUNDLED = Path(str(files("vt_models"))) / "weights" / "shipped" / "text_detector"
"""The project's own detector, which finds things by their names."""
INPUTS = ("image", "text_ids", "text_mask")
OPTIONAL_INPUTS = ("image_size",)
OUTPUTS = ("scores", "boxes")
_MOST_SIDE = 4096
"""Pixels; the largest published detectors see 1333."""
_MOST_PIECES = 1024
_MOST_NAMES, _LONGEST_NAME = 10_000, 100


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How a description becomes the graph's inputs.

    Attributes:
        length: L, word pieces; a longer text is refused, a shorter one padded.
        lower_case: the text is put in lower case.
        ending: what it must end with, such as ".".
        separators: characters that would cut it into several descriptions; they become spaces.
        pad_id: id of padding.
    """

    length: int
    lower_case: bool
    ending: str
    separators: str
    pad_id: int


@dataclass(frozen=True, kw_only=True)
class DetectorExport:
    """The contents of a directory, every file checked against its sha256.

    Attributes:
        architecture: of the network, for people.
        canvas: (H, W) in pixels.
        padding: RGB 0..255 around the frame.
        text: how a description is given.
        default_threshold: the score from which on a box is worth believing.
        names_only: the network knows what things are called and nothing of sides, sizes and
            colours; these are then judged by rules (`vt_models.grounding.attributes`). Where
            `grounding.json` does not say so, it knows them.
        names: that the network was trained on, if it knows names only; empty: it was trained on
            texts of any kind.
        files: contents by name.
    """

    architecture: str
    canvas: tuple[int, int]
    padding: tuple[int, int, int]
    text: TextFormat
    default_threshold: float
    names_only: bool = False
    names: tuple[str, ...] = ()
    files: dict[str, bytes]

    def manifest(self) -> dict[str, Any]:
        """The JSON object of `grounding.json`."""
        described = asdict(self)
        described["files"] = {
            name: {"sha256": sha256_of(data), "bytes": len(data)}
            for name, data in self.files.items()
        }
        return {"format_version": FORMAT_VERSION, **described}


def read_detector(directory: str | Path) -> DetectorExport:
    """Read and check an exported detector.

    Raises:
        WeightsError: no such directory, no or broken grounding.json, another format version, a
            missing file, or one whose sha256 differs.
    """
    directory = Path(directory)
    manifest = read_manifest(directory / MANIFEST, FORMAT_VERSION, "vt-models ground-export")
    try:
        height, width = (_number(side, 1, _MOST_SIDE) for side in manifest["canvas"])
        red, green, blue = (_number(value, 0, 255) for value in manifest["padding"])
        text = manifest["text"]
        return DetectorExport(
            architecture=str(manifest["architecture"]),
            canvas=(height, width),
            padding=(red, green, blue),
            text=TextFormat(
                length=_number(text["length"], 1, _MOST_PIECES),
                lower_case=bool(text["lower_case"]),
                ending=str(text["ending"]),
                separators=str(text["separators"]),
                pad_id=_number(text["pad_id"], 0, 2**31),
            ),
            default_threshold=_number(manifest["default_threshold"], 0, 1, float),
            names_only=bool(manifest.get("names_only", False)),
            names=_names(manifest.get("names", [])),
            files={
                name: read_checked(directory / name, manifest["files"][name])
                for name in (GRAPH, TOKENIZER)
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{directory / MANIFEST} is not a complete description of a detector "
            f"({type(error).__name__}: {error}); export the model again"
        ) from error


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_NAMES:
        raise ValueError(f"{reprlib.repr(value)} where up to {_MOST_NAMES} names belong")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError(f"{reprlib.repr(name)} where a name belongs")
    return tuple(value)


def _number(value: Any, low: int, high: int, kind: type[float] = int) -> Any:
    if not isinstance(value, (int, kind)) or isinstance(value, bool) or not low <= value <= high:
        number = "a whole number" if kind is int else "a number"
        raise ValueError(f"{reprlib.repr(value)} where {number} from {low} to {high} belongs")
    return value
