# SPDX-License-Identifier: Apache-2.0
"""An export directory on disk: model.json and the graphs it lists, read and checked.

    template.onnx   template (V, T, T, 3) uint8 [+ template_box, template_mask] -> state tensors
    search.onnx     search (1, S, S, 3) uint8 [+ search_mask] + state tensors -> outputs
    text.onnx       text_ids (1, L) int64, text_mask (1, L) bool -> state tensors (with language)
    tokenizer.json  word pieces (with language)
    weights.safetensors  the network in training form, for the torch backend
    model.json      the model's specification, sha256 of every file, who made it and how exact

Needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vt_models.errors import InputError, WeightsError
from vt_models.registry import ModelSpec, get_spec

FORMAT_VERSION = 1
TORCH_WEIGHTS = "weights.safetensors"
MANIFEST = "model.json"
TEMPLATE_GRAPH = "template.onnx"
SEARCH_GRAPH = "search.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER = "tokenizer.json"

# Previous names of fields of a specification; exports that have them are read all the same.
_RENAMED_FIELDS = {"size_fit": "size_calibration"}
# Test-time settings that are shares: a wrong one would be seen in no message, only in the boxes.
_FRACTIONS = ("window_influence", "size_smoothing", "size_calibration", "least_score")
# What a user may not change by editing model.json: these belong to this version of the code.
_CODE_FIELDS = frozenset({"name", "shipped_weights", "paper", "url", "licence", "update_presets"})


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """Contents of an export directory, every file checked against its sha256.

    Attributes:
        directory: where it was read from.
        spec: the registry's specification with the values the export was made with.
        state: shapes of the template state tensors by name, in order.
        text_state: the same of the text's; empty for models without language.
        outputs: shapes of the search graph's outputs by name, in order.
        files: contents of the listed files by name.
        manifest: model.json as it stands.
    """

    directory: Path
    spec: ModelSpec
    state: dict[str, tuple[int, ...]]
    text_state: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
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
        return ExportedModel(
            directory=directory,
            spec=spec,
            state=_shapes(manifest["state"]),
            text_state=_shapes(manifest.get("text_state", {})),
            outputs=_shapes(manifest["outputs"]),
            files={name: read_checked(directory / name, entry["sha256"]) for name, entry in listed},
            manifest=manifest,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WeightsError(
            f"{directory / MANIFEST} is not a complete model description "
            f"({type(error).__name__}: {error}); export the model again"
        ) from error


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
        manifest = json.loads(path.read_text(encoding="utf-8"))
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
            f"{path} has format_version {manifest.get('format_version')!r}, this version of "
            f"vt_models reads {version}; export the model again"
        )
    return manifest


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file whose sha256 is what its manifest says; else raise WeightsError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}; export the model again") from error
    found = sha256_of(data)
    if found != sha256:
        raise WeightsError(
            f"{path} was changed or damaged: its sha256 is {found[:16]}..., the manifest beside it "
            f"says {str(sha256)[:16]}...; restore the file or export the model again"
        )
    return data


def _spec_of(manifest: dict[str, Any]) -> ModelSpec:
    """Take the registry's specification with the recorded values put in.

    A field that is newer than the export keeps the registry's value.
    """
    try:
        spec = get_spec(manifest["model"])
    except InputError as error:
        raise WeightsError(f"{MANIFEST} names an unknown model: {error}") from error
    recorded = {_RENAMED_FIELDS.get(name, name): value for name, value in manifest["spec"].items()}
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
            f"{MANIFEST} of {spec.name} has the fields {', '.join(strange)}, which this version "
            "of vt_models does not know; export the model again"
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()
    }
    for name in _FRACTIONS:
        value = values.get(name, 0.0)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0.0 <= value <= 1.0:  # nan is not
            raise WeightsError(
                f"{MANIFEST} of {spec.name}: {name} is {value!r}; expected a number from 0 to 1"
            )
    return dataclasses.replace(spec, **values)


def _shapes(entry: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(n) for n in shape) for name, shape in entry.items()}


def _files_of(manifest: dict[str, Any], spec: ModelSpec) -> list[tuple[str, dict[str, Any]]]:
    """Return the listed files; check that all graphs are among them and names are plain."""
    files = manifest["files"]
    language = (TEXT_GRAPH, TOKENIZER) if spec.language else ()
    for name in (TEMPLATE_GRAPH, SEARCH_GRAPH, *language):
        if name not in files:
            raise WeightsError(f"{MANIFEST} does not list {name}; export the model again")
    for name in files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise WeightsError(f"{MANIFEST} lists {name!r}, which is not a plain file name")
    return list(files.items())
