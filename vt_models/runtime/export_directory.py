# SPDX-License-Identifier: Apache-2.0
"""An export directory on disk: model.json and the graphs it lists, read and checked.

    template.onnx   template (V, T, T, 3) uint8 [+ template_box, template_mask] -> state tensors
    search.onnx     search (1, S, S, 3) uint8 [+ search_mask] + state tensors -> outputs
    search_narrow.onnx  the same of the narrow crop (models that have one)
    text.onnx       text_ids (1, L) int64, text_mask (1, L) bool -> state tensors (with language)
    tokenizer.json  word pieces (with language)
    weights.safetensors  the network in training form, for the torch backend
    model.json      the model's specification, sha256 of every file, who made it and how exact

Needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vt_models.errors import InputError, WeightsError
from vt_models.files import parse_json, read_bytes
from vt_models.registry import MOST_SEARCH_SIZE, ModelSpec, get_spec

FORMAT_VERSION = 1
TORCH_WEIGHTS = "weights.safetensors"
MANIFEST = "model.json"
TEMPLATE_GRAPH = "template.onnx"
SEARCH_GRAPH = "search.onnx"
NARROW_SEARCH_GRAPH = "search_narrow.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER = "tokenizer.json"
_FILES = (
    *(TEMPLATE_GRAPH, SEARCH_GRAPH, NARROW_SEARCH_GRAPH, TEXT_GRAPH),
    *(TOKENIZER, TORCH_WEIGHTS),
)

# Previous names of fields of a specification; exports that have them are read all the same.
_RENAMED_FIELDS = {"size_fit": "size_calibration"}
# Several times what any model has. A larger number would fill the memory or never end, and a wrong
# test-time setting would be seen in no message, only in the boxes.
_LIMITS: dict[str, tuple[float, float]] = {
    "template_size": (16, 1024),
    "search_size": (16, MOST_SEARCH_SIZE),
    "template_factor": (0.5, 32),
    "search_factor": (0.5, 32),
    "narrow_search_size": (0, MOST_SEARCH_SIZE),
    "narrow_motion": (0, 10),
    "narrow_score": (0, 1),
    "context_factors": (0.5, 32),
    "mean": (0, 1),
    "std": (1e-3, 1),
    "window_influence": (0, 1),
    "size_smoothing": (0, 1),
    "size_calibration": (0, 1),
    "least_score": (0, 1),
    "scale_penalty": (0, 1),
    "clip_margin": (0, 10_000),
    "update_interval": (0, 1_000_000),
    "update_threshold": (0, 1),
    "text_length": (0, 512),
}
_MOST_ENTRIES = 16
_MOST_VALUES = 2**24
_MOST_MANIFEST_BYTES = 2**20
_MOST_GRAPH_BYTES = 2**31
# What a user may not change by editing model.json: these belong to this version of the code.
_CODE_FIELDS = frozenset({"name", "bundled_weights", "paper", "url", "licence", "update_presets"})


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """Contents of an export directory, every file checked against its sha256.

    Attributes:
        directory: where it was read from.
        spec: the registry's specification with the values the export was made with.
        state: shapes of the template state tensors by name, in order.
        text_state: the same of the text's; empty for models without language.
        outputs: shapes of the search graph's outputs by name, in order.
        narrow_outputs: the same of the narrow crop's; empty for models without one.
        files: contents of the listed files by name.
        manifest: model.json as it stands.
    """

    directory: Path
    spec: ModelSpec
    state: dict[str, tuple[int, ...]]
    text_state: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    narrow_outputs: dict[str, tuple[int, ...]]
    files: dict[str, bytes]
    manifest: dict[str, Any]

    @property
    def calibration(self) -> dict[str, Any] | None:
        """Entry that `vt-models calibrate` wrote; None where it was not run on this export."""
        return self.manifest.get("calibration")


def read_export(directory: str | Path) -> ExportedModel:
    """Read and check an export directory.

    Raises:
        WeightsError: no such directory, no or broken model.json, another format version, an
            unknown model, a missing file, or a file whose sha256 differs.
    """
    directory = Path(directory)
    manifest = read_manifest(directory / MANIFEST, FORMAT_VERSION, "vt-models export")
    try:
        spec = _spec_of(manifest)
        listed = _files_of(manifest, spec)
        exported = ExportedModel(
            directory=directory,
            spec=spec,
            state=_shapes(manifest["state"]),
            text_state=_shapes(manifest.get("text_state", {})),
            outputs=_shapes(manifest["outputs"]),
            narrow_outputs=_shapes(manifest["narrow_outputs"]) if spec.narrow else {},
            files={name: read_checked(directory / name, entry) for name, entry in listed},
            manifest=manifest,
        )
        _check_outputs(spec, tuple(exported.outputs.values()))
        if spec.narrow:
            _check_outputs(spec, tuple(exported.narrow_outputs.values()))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WeightsError(
            f"{directory / MANIFEST} is not a complete model description "
            f"({type(error).__name__}: {error}); export the model again"
        ) from error
    return exported


def _check_outputs(spec: ModelSpec, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Raise ValueError if the decoder cannot read outputs of these shapes."""
    if len(shapes) < 2:
        fits = False
    elif spec.decoder == "dense":
        side = shapes[1][-1]
        fits = shapes[:2] == ((1, side, side), (1, 4, side, side))
    else:
        fits = (math.prod(shapes[0]), math.prod(shapes[1])) == (4, 1)
    if not fits:
        raise ValueError(f"outputs of shapes {reprlib.repr(shapes)} for the decoder {spec.decoder}")


def sha256_of(data: bytes) -> str:
    """Compute the hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()


def spec_fields(spec: ModelSpec) -> dict[str, Any]:
    """Select the fields of a specification that model.json records."""
    fields = dataclasses.asdict(spec)
    return {name: value for name, value in fields.items() if name not in _CODE_FIELDS}


def read_manifest(path: Path, version: int, command: str) -> dict[str, Any]:
    """Read the JSON object that describes an export.

    Args:
        path: file.
        version: the `format_version` that it must have.
        command: what writes such files, for error messages.

    Raises:
        WeightsError: missing, unreadable, no JSON object, or of another version.
    """
    try:
        manifest = parse_json(read_bytes(path, _MOST_MANIFEST_BYTES))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} does not exist; give a directory made by `{command}`"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; export the model again") from error
    if not isinstance(manifest, dict):
        raise WeightsError(f"{path} does not hold a JSON object; export the model again")
    if manifest.get("format_version") != version:
        raise WeightsError(
            f"{path} has format_version {manifest.get('format_version')!r:.80}, this version of "
            f"vt_models reads {version}; export the model again"
        )
    return manifest


def read_checked(path: Path, entry: Mapping[str, Any]) -> bytes:
    """Read a file whose sha256 is what its manifest's entry says; else raise WeightsError."""
    try:
        data = read_bytes(path, _MOST_GRAPH_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}; export the model again") from error
    if sha256_of(data) != entry["sha256"]:
        # Its own sha256 would tell the author of the manifest about any file that a link leads to.
        raise WeightsError(
            f"{path} was changed or damaged: its sha256 is not the {str(entry['sha256'])[:16]}... "
            "of the manifest beside it; restore the file or export the model again"
        )
    return data


def _spec_of(manifest: dict[str, Any]) -> ModelSpec:
    """Take the registry's specification with the recorded values put in.

    A field that is newer than the export keeps the registry's value; an older export has no narrow
    search graph.
    """
    try:
        spec = get_spec(manifest["model"])
    except InputError as error:
        raise WeightsError(f"{MANIFEST} names an unknown model: {error}") from error
    recorded = {_RENAMED_FIELDS.get(name, name): value for name, value in manifest["spec"].items()}
    recorded.setdefault("narrow_search_size", 0)
    known = spec_fields(spec)
    required = {
        field.name
        for field in dataclasses.fields(spec)
        if field.default is dataclasses.MISSING and field.name not in _CODE_FIELDS
    }
    if missing := sorted(required - set(recorded)):
        raise WeightsError(
            f"{MANIFEST} of {spec.name} lacks the fields {', '.join(missing)}; export the model "
            "again"
        )
    if strange := sorted(set(recorded) - set(known)):
        raise WeightsError(
            f"{MANIFEST} of {spec.name} has the fields {reprlib.repr(strange)}, which this version "
            "of vt_models does not know; export the model again"
        )
    kinds = get_type_hints(ModelSpec)
    try:
        values = {name: _field(name, value, kinds[name]) for name, value in recorded.items()}
        return dataclasses.replace(spec, **values)
    except ValueError as error:
        raise WeightsError(f"{MANIFEST} of {spec.name}: {error}; export the model again") from error


def _field(name: str, value: Any, kind: Any) -> Any:
    """Return a field's value as the specification has it; ValueError says what it should be."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis and isinstance(value, list) and len(value) <= _MOST_ENTRIES:
            kinds = kinds[:1] * len(value)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise ValueError(f"{name} is {reprlib.repr(value)}; expected a list")
        return tuple(_field(name, one, kind) for one, kind in zip(value, kinds, strict=True))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is {value!r:.80}; expected {' or '.join(get_args(kind))}")
    elif kind in (str, bool):
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {reprlib.repr(value)}; expected a {kind.__name__}")
    else:
        low, high = _LIMITS[name]
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # nan is not
            number = "a whole number" if kind is int else "a number"
            raise ValueError(
                f"{name} is {reprlib.repr(value)}; expected {number} from {low:g} to {high:g}"
            )
    return value


def _shapes(entry: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    """Return shapes of tensors by name; ValueError for a shape that no tensor of a graph has."""
    if len(entry) > _MOST_ENTRIES:
        raise ValueError(f"{len(entry)} tensors, expected {_MOST_ENTRIES} at most")
    for name, shape in entry.items():
        is_list = isinstance(shape, list) and 0 < len(shape) <= _MOST_ENTRIES
        whole = is_list and all(type(side) is int and side > 0 for side in shape)  # no True
        if not whole or math.prod(shape) > _MOST_VALUES:
            raise ValueError(f"shape {reprlib.repr(shape)} of {name!r:.80}")
    return {name: tuple(shape) for name, shape in entry.items()}


def _files_of(manifest: dict[str, Any], spec: ModelSpec) -> list[tuple[str, dict[str, Any]]]:
    """Return the listed files; check that all graphs are among them and nothing else."""
    files = manifest["files"]
    language = (TEXT_GRAPH, TOKENIZER) if spec.language else ()
    narrow = (NARROW_SEARCH_GRAPH,) if spec.narrow else ()
    for name in (TEMPLATE_GRAPH, SEARCH_GRAPH, *narrow, *language):
        if name not in files:
            raise WeightsError(f"{MANIFEST} does not list {name}; export the model again")
    for name in files:
        if name not in _FILES:
            raise WeightsError(
                f"{MANIFEST} lists {name!r:.80}, which is no file of an export; expected "
                f"{', '.join(_FILES)}"
            )
    return list(files.items())
