# SPDX-License-Identifier: Apache-2.0
"""Export a torch network to a directory of ONNX graphs, checked before it appears.

See `vt_models.runtime.export_directory` for the directory's contents.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from vt_models.errors import ExportError
from vt_models.export.batch_norm_folding import fold_batch_norms
from vt_models.export.inference_forms import use_inference_forms
from vt_models.export.parity import OUTPUT_TOLERANCE, SEQUENCE_TOLERANCE_PX, check_engines
from vt_models.export.weight_storage import Storage, Stored, round_weights, store_weights
from vt_models.files import draft_of_directory, parse_json, read_bytes
from vt_models.nets import SiameseNet
from vt_models.nets.builders import changed_settings
from vt_models.nets.graphs import SearchGraph, TemplateGraph, TextGraph
from vt_models.registry import ModelSpec
from vt_models.runtime.engine import search_states
from vt_models.runtime.export_directory import (
    FORMAT_VERSION,
    MANIFEST,
    NARROW_SEARCH_GRAPH,
    SEARCH_GRAPH,
    TEMPLATE_GRAPH,
    TEXT_GRAPH,
    TOKENIZER,
    TORCH_WEIGHTS,
    read_export,
    sha256_of,
    spec_fields,
)
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.weights.tensors import save_weights

# The TorchScript exporter writes in 0.6 s what takes the dynamo exporter 6 s, without onnxscript,
# and its graph is as fast in ONNX Runtime (AsymTrack-T, one thread: 9.8 against 9.6 ms). It is
# deprecated, so the other one stands ready. Opset 20 has GELU as one operator; without it the
# dynamo graph takes 10.8 ms.
_TORCHSCRIPT_OPSET = 17
_DYNAMO_OPSET = 20


_LOG = logging.getLogger(__name__)


class Graph(NamedTuple):
    """A module to export, example inputs, and names."""

    file: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: list[str]
    output_names: list[str]


def export_model(
    net: SiameseNet,
    spec: ModelSpec,
    directory: str | Path,
    *,
    storage: Storage = "float16",
    source: str | Path | None = None,
) -> Path:
    """Export a network; either a checked directory appears at `directory`, or nothing changes.

    The network is copied, merged, and its batch norms are folded. The graphs normalise inside,
    compute in float32, and have the forms of `vt_models.export.inference_forms`. They are then
    loaded as a tracker would load them and compared with the torch network, which has none of
    these forms: 1e-4 on outputs, 0.05 px over 12 frames.

    Args:
        net: the network, on any device.
        spec: its specification.
        directory: to create. A previous export of this model there is replaced, which is logged;
            its other files are kept.
        storage: what the (folded) weights are rounded to and stored as, see
            `vt_models.export.weight_storage`; the comparison is with the torch network of rounded
            weights, and model.json says how far that is from the network as given. With "int8" the
            directory holds what runs and not the network in training form.
        source: where the weights came from: a file, or a description.

    Returns:
        The directory.

    Raises:
        ExportError: `directory` holds something else, or the weights themselves; the network cannot
            be exported, or the graphs do not reproduce it.
    """
    directory = Path(directory)
    check_target(directory, MANIFEST, spec.name, source)
    plain: Any = copy.deepcopy(net)
    plain = plain.cpu().float().eval().merge().requires_grad_(requires_grad=False)
    stored = copy.deepcopy(plain)
    folded = fold_batch_norms(stored, lambda: example_graphs(stored, spec))
    rounded = round_weights(stored, storage)
    exported = copy.deepcopy(stored)
    use_inference_forms(exported)
    graphs = example_graphs(exported, spec)

    with draft_of_directory(directory) as built:
        contents = {graph.file: onnx_bytes(graph, rounded) for graph in graphs}
        if spec.narrow is not None:
            narrow = example_graphs(exported, spec.narrow)[0]._replace(file=NARROW_SEARCH_GRAPH)
            contents[narrow.file] = onnx_bytes(narrow, rounded)
        if spec.language:
            from vt_models.text import vocabulary  # noqa: PLC0415 - language models only

            contents[TOKENIZER] = vocabulary()
        if storage != "int8":
            contents[TORCH_WEIGHTS] = _torch_weights(net, spec, built, storage)
        for name, data in contents.items():
            (built / name).write_bytes(data)
        manifest = _manifest(net, spec, graphs, contents, source)
        if spec.narrow is not None:
            manifest["narrow_outputs"] = _output_shapes(narrow)
        manifest["precision"] = {
            "storage": storage,
            "arithmetic": "float32",
            "folded_batch_norms": folded,
        }
        _write_json(built / MANIFEST, manifest)
        manifest["parity"] = _parity(plain, stored, spec, built)
        _write_json(built / MANIFEST, manifest)
    return directory


def _torch_weights(net: Any, spec: ModelSpec, built: Path, storage: Storage) -> bytes:
    """Serialise the network as given, for the torch backend and for further training.

    With float16 storage kernels and matrices are stored as float16; norms and biases, which are
    few and sensitive, are not.
    """
    tensors = {name: value.cpu().numpy() for name, value in net.state_dict().items()}
    if storage == "float16":
        tensors = {
            name: array.astype(np.float16) if array.ndim >= 2 else array
            for name, array in tensors.items()
        }
    settings = changed_settings(spec, net)
    return save_weights(tensors, built / TORCH_WEIGHTS, spec.name, settings=settings).read_bytes()


def check_target(
    directory: Path, manifest: str, name: str, source: str | Path | None = None
) -> None:
    """Say which export will be replaced, and refuse to replace anything else.

    Args:
        directory: to write to.
        manifest: name of the file that makes it an export.
        name: of the model or architecture that is exported.
        source: where its weights come from.

    Raises:
        ExportError: `directory` is a file, holds something that is no export or that of another
            model, or `source` lies in it.
    """
    if directory.exists() and not directory.is_dir():
        raise ExportError(f"{directory} is a file; give a directory to create")
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    path = directory / manifest
    if not path.is_file():
        raise ExportError(
            f"{directory} is not empty and holds no {manifest}; give a new directory, or one of "
            "a previous export"
        )
    if source is not None and Path(source).resolve().parent == directory.resolve():
        raise ExportError(f"{source} lies in the directory that it would replace; give another one")
    try:
        content = parse_json(read_bytes(path))
        found = content.get("model", content.get("architecture"))
        date = content.get("producer", {}).get("date", "unknown date")
    except (OSError, ValueError, AttributeError):
        found, date = name, "unknown date"  # damaged: made anew, it can be used again
    if found != name:
        raise ExportError(f"{directory} holds an export of {found!r:.80}; give another directory")
    _LOG.warning("%s holds an export of %s of %.40s, which is replaced", directory, found, date)


def example_graphs(net: Any, spec: ModelSpec) -> tuple[Graph, ...]:
    """Return the search graph, then those that give its states, with example inputs.

    All of them are run once, to have example states.
    """
    rng = np.random.default_rng(0)
    search = _noise(rng, 1, spec.search_size)
    crops = _noise(rng, len(spec.view_factors), spec.template_size)
    examples = {
        "template_box": torch.tensor([[0.25, 0.25, 0.5, 0.5]]),
        "template_mask": torch.zeros(1, spec.template_size, spec.template_size, dtype=torch.bool),
    }
    graphs = [
        Graph(
            TEMPLATE_GRAPH,
            TemplateGraph(net, spec).eval(),
            (crops, *(examples[name] for name in spec.template_inputs)),
            ["template", *spec.template_inputs],
            list(net.state_names),
        )
    ]
    if spec.language:
        ids = torch.arange(1, spec.text_length + 1)[None]
        mask = torch.arange(spec.text_length)[None] < spec.text_length // 2
        text_graph = TextGraph(net).eval()
        names = ["text_ids", "text_mask"], list(net.text_state_names)
        graphs.append(Graph(TEXT_GRAPH, text_graph, (ids, mask), *names))
    template_state, *text_state = (_state_of(graph) for graph in graphs)
    given = (*template_state, *(template_state if spec.dynamic_template else ()))
    given = (*given, *(tensor for state in text_state for tensor in state))
    padding = [torch.zeros(1, spec.search_size, spec.search_size, dtype=torch.bool)]
    inputs = (search, *(padding * len(spec.search_inputs)), *(tensor.clone() for tensor in given))
    states = search_states(spec, net.state_names, getattr(net, "text_state_names", ()))
    module = SearchGraph(net, spec).eval()
    with torch.no_grad():
        module(*inputs)
    input_names = ["search", *spec.search_inputs, *states]
    return (Graph(SEARCH_GRAPH, module, inputs, input_names, list(net.output_names)), *graphs)


def _noise(rng: np.random.Generator, count: int, side: int) -> Tensor:
    values = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(values).to(torch.get_default_device())


def _state_of(graph: Graph) -> tuple[Tensor, ...]:
    """Run a graph on its example inputs; raise ExportError if the names do not fit."""
    with torch.no_grad():
        state: tuple[Tensor, ...] = graph.module(*graph.inputs)
    if len(state) != len(graph.output_names):
        raise ExportError(
            f"{graph.file} gives {len(state)} state tensors, names {graph.output_names}"
        )
    return state


def onnx_bytes(graph: Graph, stored: Stored | None = None) -> bytes:
    """Export one graph, check it, and store its weights as they were rounded, if they were."""
    model = _export(graph)
    if stored is not None:
        store_weights(model, stored)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{graph.file} is not a valid ONNX graph: {error}") from error
    data: bytes = model.SerializeToString()
    return data


def _export(graph: Graph) -> onnx.ModelProto:
    """Export through TorchScript, or through dynamo where torch no longer has that."""
    try:
        return _export_with(graph, dynamo=False)
    except Exception as first:  # torch raises anything at all here
        try:
            return _export_with(graph, dynamo=True)
        except Exception as second:
            raise ExportError(
                f"torch cannot export {graph.file}: {_first_line(first)}; "
                f"with dynamo: {_first_line(second)}"
            ) from second


def _export_with(graph: Graph, *, dynamo: bool) -> onnx.ModelProto:
    options: dict[str, Any] = {
        "input_names": graph.input_names,
        "output_names": graph.output_names,
        "opset_version": _DYNAMO_OPSET if dynamo else _TORCHSCRIPT_OPSET,
        "dynamo": dynamo,
    }
    with _quiet(), torch.no_grad():
        if dynamo:
            program = torch.onnx.export(graph.module, graph.inputs, **options)
            if program is None:
                raise ExportError("torch gave no program")
            model: onnx.ModelProto = program.model_proto
            return model
        buffer = io.BytesIO()
        torch.onnx.export(graph.module, graph.inputs, buffer, **options)
    return onnx.load_model_from_string(buffer.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send torch's notes to standard error, as standard output is for results; drop warnings."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def _parity(plain: Any, stored: Any, spec: ModelSpec, built: Path) -> dict[str, float]:
    """Measure the graphs against the stored weights in torch, and these against those given."""
    engine = OnnxEngine(read_export(built), device="cpu", threads=1)
    reference = TorchEngine(stored, spec, "cpu")
    measured = check_engines(spec, reference, engine)
    if spec.narrow is not None:
        narrow = check_engines(spec.narrow, reference, engine)
        measured = {name: max(value, narrow[name]) for name, value in measured.items()}
    measured["output_abs_tolerance"] = OUTPUT_TOLERANCE
    measured["sequence_px_tolerance"] = SEQUENCE_TOLERANCE_PX
    given, rounded = _example_outputs(plain, spec), _example_outputs(stored, spec)
    measured["storage_output_abs"] = max(
        float((one - other).abs().max()) for one, other in zip(given, rounded, strict=True)
    )
    return measured


def _example_outputs(net: Any, spec: ModelSpec) -> tuple[Tensor, ...]:
    graph = example_graphs(net, spec)[0]
    with torch.no_grad():
        outputs: tuple[Tensor, ...] = graph.module(*graph.inputs)
    return outputs


def _manifest(
    net: SiameseNet,
    spec: ModelSpec,
    graphs: tuple[Graph, ...],
    contents: dict[str, bytes],
    source: str | Path | None,
) -> dict[str, Any]:
    """Make model.json without what is measured afterwards."""
    outputs, *states = (_output_shapes(graph) for graph in graphs)
    return {
        "format_version": FORMAT_VERSION,
        "model": spec.name,
        "spec": spec_fields(spec),
        "net": changed_settings(spec, net),
        "state": states[0],
        "text_state": states[1] if spec.language else {},
        "outputs": outputs,
        "files": {
            name: {"sha256": sha256_of(data), "bytes": len(data)} for name, data in contents.items()
        },
        "weights": _weights_entry(net, source),
        "producer": producer(),
    }


def _output_shapes(graph: Graph) -> dict[str, list[int]]:
    return {
        name: list(tensor.shape)
        for name, tensor in zip(graph.output_names, _state_of(graph), strict=True)
    }


def _weights_entry(net: SiameseNet, source: str | Path | None) -> dict[str, str]:
    """Describe the weights: sha256 of the file, or of the tensors in the order of their keys."""
    if source is not None and Path(source).is_file():
        path = Path(source)
        return {"source": path.name, "sha256": sha256_of(path.read_bytes()), "of": "file"}
    digest = hashlib.sha256()
    module: Any = net
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "source": str(source) if source is not None else "not given",
        "sha256": digest.hexdigest(),
        "of": "tensors",
    }


def producer() -> dict[str, str | None]:
    """Collect the versions of all packages used, the commit of this one if known, the date."""
    try:
        version = metadata.version("vt_ros")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {
        "vt_ros": version,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that tracks this file, "-dirty" if it was changed."""
    here = Path(__file__)
    tracked = ["git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name]
    describe = ["git", "-C", str(here.parent), "describe", "--always", "--dirty"]
    try:
        subprocess.run(tracked, check=True, capture_output=True, timeout=10)
        result = subprocess.run(
            [*describe, "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
