# SPDX-License-Identifier: Apache-2.0
"""Trackers and networks by name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vt_models.auto_model import AUTO, choose_model
from vt_models.errors import InputError, WeightsError
from vt_models.nets.builders import configure, find_builder, spec_of, training_packages
from vt_models.registry import ModelSpec, UpdatePolicy, find_update_policy, get_spec
from vt_models.runtime.engine import Engine, check_device, check_threads
from vt_models.runtime.export_directory import TOKENIZER, TORCH_WEIGHTS, ExportedModel, read_export
from vt_models.runtime.installed_weights import find_weights, installed_directory
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.tracker.tracker import TextTokenizer, Tracker

if TYPE_CHECKING:
    from torch import nn

BACKENDS = ("onnxruntime", "torch")


def create_tracker(
    name: str,
    weights: str | Path | None = None,
    backend: str = "onnxruntime",
    device: str = "auto",
    threads: int | None = None,
    update: str | UpdatePolicy | None = None,
) -> Tracker:
    """Make a short-term tracker that is ready for `init`.

    Args:
        name: one of `list_models()`, or "auto" for what suits this machine (`choose_model`).
        weights: None for installed or bundled weights, a directory made by `vt-models export`, or a
            `.safetensors` file (with backend "onnxruntime" it is exported to a temporary
            directory first, which needs torch and takes some seconds).
        backend: "onnxruntime" (needs no torch) or "torch".
        device: "auto", "cpu", "cuda", or "tensorrt" (onnxruntime only).
        threads: CPU threads, None is one; with torch they are those of the whole process.
        update: when a dynamic template is replaced: the name of one of the model's presets
            (`ModelSpec.update_presets`), or an `UpdatePolicy`; None is the published default.

    Raises:
        InputError: unknown name, backend, device or update setting.
        WeightsError: no weights are bundled or installed, or the given ones are missing, damaged
            or of another model.
        BackendError: the backend or the device is not available.
    """
    spec = get_spec(choose_model().name if name == AUTO else name)
    if backend not in BACKENDS:
        raise InputError(f"no backend called {backend!r}; backends: {', '.join(BACKENDS)}")
    check_device(device)
    check_threads(threads)
    policy = find_update_policy(spec, update)
    path = _weights_path(spec, weights)
    if backend == "torch":
        net = create_model(spec.name, _torch_weights(path))
        spec = spec_of(spec, net)
        from vt_models.runtime.torch_engine import TorchEngine  # noqa: PLC0415 - needs torch

        exported = _read_export_of(spec, path) if path.is_dir() else None
        spec = exported.spec if exported else spec
        engine: Engine = TorchEngine(net, spec, device, threads or 1)
        calibration = exported.calibration if exported else None
        return Tracker(spec, engine, _tokenizer(spec, exported), policy, calibration)
    exported = _read_export_of(spec, path) if path.is_dir() else _export_now(spec, path)
    engine = OnnxEngine(exported, device, threads)
    tokenizer = _tokenizer(exported.spec, exported)
    return Tracker(exported.spec, engine, tokenizer, policy, exported.calibration)


def create_model(
    name: str,
    weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a network as a torch module in training form, in evaluation mode.

    Args:
        name: one of `list_models()`.
        weights: a `.safetensors` file of this model; None leaves the network's own
            initialisation.
        settings: of the network, where they differ from the model's, as under `net:` in a recipe;
            None for those that the weights' file says, the model's without one.

    Raises:
        InputError: unknown name, or settings that the network does not have.
        BackendError: torch, or another package of the [train] extra, is not installed.
        WeightsError: the file is missing, damaged, of another model or of other settings.
    """
    spec = get_spec(name)
    path = None if weights is None else _existing(Path(weights))
    with training_packages(spec):
        wanted = None if settings is None else configure(spec, settings)
        if path is None:
            net: nn.Module = (wanted or configure(spec, {})).build()
            return net.eval()
        from vt_models.weights.tensors import load_weights, stored_settings  # noqa: PLC0415

        stored = stored_settings(path, spec.name)
        found = configure(spec, stored, lambda key: f"{path}: {key}", WeightsError)
        if wanted is not None and wanted.config != found.config:
            raise WeightsError(
                f"{path} holds a network with `net: {json.dumps(stored)}`, not "
                f"{json.dumps(settings)}; set `net` as there, or give other weights"
            )
        net = found.build()
        load_weights(net, path, spec.name)
        return net.eval()


def create_miniature(name: str) -> nn.Module:
    """Build a model's network with few, random weights: the same crops, inputs and outputs.

    It is for tests and dry runs, and finds nothing. Same arguments and errors as `create_model`.
    """
    spec = get_spec(name)
    with training_packages(spec):
        net: nn.Module = find_builder(spec, miniature=True)()
        return net.eval()


def _tokenizer(spec: ModelSpec, exported: ExportedModel | None) -> TextTokenizer | None:
    """Load the tokenizer of the export, or the bundled one; None for models without language."""
    if not spec.language:
        return None
    from vt_models import text  # noqa: PLC0415 - language models only

    data = exported.files[TOKENIZER] if exported else text.vocabulary()
    return text.Tokenizer.from_bytes(data, spec.text_length)


def _weights_path(spec: ModelSpec, weights: str | Path | None) -> Path:
    """Choose the directory or file to load; raise WeightsError if there is none."""
    if weights is not None:
        return _existing(Path(weights))
    directory = find_weights(spec)
    if directory is None:
        raise WeightsError(
            f"no weights are bundled for {spec.name} and none are installed in "
            f"{installed_directory(spec)}; train them (`vt-models train`), or import a "
            f"published checkpoint (`vt-models weights import FILE --model {spec.name} --output "
            f"{spec.name}.safetensors`, see {spec.url}), and give them as weights= or install "
            f"them (`vt-models export {spec.name} --weights {spec.name}.safetensors --install`)"
        )
    return directory


def _existing(path: Path) -> Path:
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    wanted = "an export directory or a .safetensors file"
    if not path.exists():
        raise WeightsError(f"weights {path} do not exist; give {wanted}")
    raise WeightsError(
        f"weights {path} are not {wanted}; a published checkpoint is converted by "
        "`vt-models weights import`"
    )


def _torch_weights(path: Path) -> Path:
    """Return the safetensors file to load; of an export directory, the one inside."""
    if not path.is_dir():
        return path
    inside = path / TORCH_WEIGHTS
    if not inside.is_file():
        raise WeightsError(
            f"{path} has no {TORCH_WEIGHTS}, so backend 'torch' cannot load it; "
            "give a .safetensors file or use backend 'onnxruntime'"
        )
    return inside


def _read_export_of(spec: ModelSpec, directory: Path) -> ExportedModel:
    """Read an export directory and check that it is of this model."""
    exported = read_export(directory)
    if exported.spec.name != spec.name:
        raise WeightsError(
            f"{directory} holds {exported.spec.name}, not {spec.name}; "
            f"give weights of {spec.name} or ask for {exported.spec.name}"
        )
    return exported


def _export_now(spec: ModelSpec, path: Path) -> ExportedModel:
    """Export a .safetensors file to a temporary directory and read that."""
    net = create_model(spec.name, path)
    spec = spec_of(spec, net)
    from vt_models.export.exporter import export_model  # noqa: PLC0415 - needs torch

    with tempfile.TemporaryDirectory(prefix="vt_models-") as directory:
        target = Path(directory) / spec.name
        export_model(net, spec, target, storage="float32", source=path)
        return read_export(target)
