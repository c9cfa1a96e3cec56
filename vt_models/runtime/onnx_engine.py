# SPDX-License-Identifier: Apache-2.0
"""Run an export directory in ONNX Runtime."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.registry import ModelSpec
from vt_models.runtime.engine import (
    Array,
    Device,
    Template,
    check_device,
    check_threads,
    dynamic_names,
    search_states,
    template_extras,
)
from vt_models.runtime.export_directory import (
    NARROW_SEARCH_GRAPH,
    SEARCH_GRAPH,
    TEMPLATE_GRAPH,
    TEXT_GRAPH,
    ExportedModel,
    read_export,
)

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
# fp32 means fp32: without this the CUDA provider may round convolutions to TF32.
_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
# In which all graphs must have run once; a GPU is warmed up by its first run.
_LONGEST_COMPLAINT = 300
_TRIAL_SECONDS = {"cpu": 10.0, "cuda": 60.0}


class OnnxEngine:
    """Run an export directory in ONNX Runtime.

    Args:
        directory: made by `vt-models export`, or an `ExportedModel` that was read already.
        device: "auto" takes CUDA where it works and the CPU elsewhere; a device asked for by
            name and not active is an error.
        threads: of the CPU provider; None is one thread (see `_session_options`).

    Raises:
        InputError: unknown device, or a number of threads below 1.
        WeightsError: the directory is missing, damaged, not what its model.json says, or its
            graphs do not end.
        BackendError: the device's provider is not active, or the graphs do not run.
    """

    def __init__(
        self,
        directory: str | Path | ExportedModel,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        device, threads = check_device(device), check_threads(threads)
        exported = directory if isinstance(directory, ExportedModel) else read_export(directory)
        self.spec: ModelSpec = exported.spec
        self._template_session = _session(exported, TEMPLATE_GRAPH, device, threads)
        self._searches = {
            self.spec.search_size: _Search(
                "search", _session(exported, SEARCH_GRAPH, device, threads), exported.outputs
            )
        }
        if self.spec.narrow is not None:
            session = _session(exported, NARROW_SEARCH_GRAPH, device, threads)
            self._searches[self.spec.narrow_search_size] = _Search(
                "narrow search", session, exported.narrow_outputs
            )
        self._text_session = (
            _session(exported, TEXT_GRAPH, device, threads) if self.spec.language else None
        )
        self._state_names = tuple(exported.state)
        self._text_state_names = tuple(exported.text_state)
        self._check_inputs(exported)
        self._memory = "cuda" if self.providers[0] != "CPUExecutionProvider" else "cpu"
        self._no_padding = np.zeros((1, self.spec.search_size, self.spec.search_size), np.bool_)
        self._options = import_onnxruntime().RunOptions()
        self._missing: set[str] = set()
        self._try_out(exported)
        self._missing = {"template", "text"} if self.spec.language else {"template"}

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the active execution providers, the preferred one first."""
        return tuple(self._searches[self.spec.search_size].session.get_providers())

    def set_template(self, template: Template) -> None:
        """Encode a template and keep its state; see `vt_models.runtime.engine.Engine`."""
        self._missing.add("template")
        state = self._encode(template)
        self._bind(self._state_names, state)
        if self.spec.dynamic_template:
            self._bind(dynamic_names(self._state_names), state)
        self._missing.discard("template")

    def set_dynamic(self, template: Template) -> None:
        """Encode the dynamic template anew; see `vt_models.runtime.engine.Engine`."""
        self._bind(dynamic_names(self._state_names), self._encode(template))

    def set_text(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> None:
        """Encode a text and keep its state; see `vt_models.runtime.engine.Engine`."""
        if self._text_session is None:
            raise InputError(f"{self.spec.name} takes no text")
        self._missing.add("text")
        inputs = {"text_ids": ids[None], "text_mask": mask[None]}
        state = self._run_once(self._text_session, inputs, self._text_state_names, "text")
        self._bind(self._text_state_names, state)
        self._missing.discard("text")

    def search(
        self, crop: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> tuple[Array, ...]:
        """Search a crop; the arrays are overwritten by the next call."""
        if self._missing:
            raise InputError(f"search() before set_{min(self._missing)}()")
        side = crop.shape[0]
        search = self._searches.get(side)
        if search is None or crop.shape != (side, side, 3):
            sides = ", ".join(map(str, sorted(self._searches)))
            raise InputError(
                f"a search crop of shape {crop.shape}; this export takes (S, S, 3) with S {sides}"
            )
        search.binding.bind_cpu_input("search", _batched(crop))
        if "search_mask" in self.spec.search_inputs:
            padding = self._no_padding if mask is None else _batched(mask)
            search.binding.bind_cpu_input("search_mask", padding)
        self._run(search.session, search.binding, search.graph)
        return search.outputs

    def _check_inputs(self, exported: ExportedModel) -> None:
        """Raise WeightsError if a graph has other inputs than those it will get."""
        spec = self.spec
        _check_names(self._template_session, ("template", *spec.template_inputs), exported)
        states = search_states(spec, self._state_names, self._text_state_names)
        for search in self._searches.values():
            _check_names(search.session, ("search", *spec.search_inputs, *states), exported)
        if self._text_session is not None:
            _check_names(self._text_session, ("text_ids", "text_mask"), exported)

    def _encode(self, template: Template) -> list[onnxruntime.OrtValue]:
        """Run the template graph."""
        inputs: dict[str, NDArray[Any]] = {"template": np.ascontiguousarray(template.crops)}
        inputs |= template_extras(template, self.spec)
        return self._run_once(self._template_session, inputs, self._state_names, "template")

    def _run_once(
        self,
        session: onnxruntime.InferenceSession,
        inputs: dict[str, NDArray[Any]],
        outputs: tuple[str, ...],
        graph: str,
    ) -> list[onnxruntime.OrtValue]:
        """Run a graph whose outputs stay where the search graph reads them."""
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name in outputs:
            binding.bind_output(name, self._memory)
        self._run(session, binding, graph)
        values: list[onnxruntime.OrtValue] = binding.get_outputs()
        return values

    def _run(
        self, session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, graph: str
    ) -> None:
        try:
            session.run_with_iobinding(binding, self._options)
        except Exception as error:  # onnxruntime's exceptions share no narrower base
            raise BackendError(
                f"onnxruntime failed in the {graph} graph: {in_a_line(error)}; export the model "
                "again"
            ) from error

    def _try_out(self, exported: ExportedModel) -> None:
        """Run all graphs once: what never ends, or gives other outputs, is found out here."""
        spec, limit = self.spec, _TRIAL_SECONDS[self._memory]
        side = spec.template_size
        crops = np.zeros((len(spec.view_factors), side, side, 3), np.uint8)
        options = self._options
        timer = threading.Timer(limit, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            if spec.language:
                mask = np.arange(spec.text_length) < 3
                self.set_text(np.zeros(spec.text_length, np.int64), mask)
            self.set_template(Template(crops, np.array((0.25, 0.25, 0.5, 0.5), np.float32)))
            for side in self._searches:
                self.search(np.zeros((side, side, 3), np.uint8))
        except BackendError as error:
            if not options.terminate:
                raise
            raise WeightsError(
                f"a graph in {exported.directory} did not end within {limit:g} s; export the model "
                "again, or give more threads if this machine is slow"
            ) from error
        finally:
            timer.cancel()
            options.terminate = False

    def _bind(self, names: tuple[str, ...], values: list[onnxruntime.OrtValue]) -> None:
        for search in self._searches.values():
            for name, value in zip(names, values, strict=True):
                search.binding.bind_ortvalue_input(name, value)


class _Search:
    """A search graph with its bound inputs and outputs; the arrays of `outputs` are reused."""

    def __init__(
        self,
        graph: str,
        session: onnxruntime.InferenceSession,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        value_on = import_onnxruntime().OrtValue.ortvalue_from_numpy
        self.graph, self.session = graph, session
        self.outputs = tuple(np.empty(shape, np.float32) for shape in shapes.values())
        self.binding = session.io_binding()
        for name, array in zip(shapes, self.outputs, strict=True):
            self.binding.bind_ortvalue_output(name, value_on(array))


def _batched(array: NDArray[Any]) -> NDArray[Any]:
    """Make (...) a contiguous (1, ...); no copy if it is contiguous."""
    return np.ascontiguousarray(array)[None]


def open_session(
    data: bytes, name: str | Path, device: Device, threads: int | None
) -> onnxruntime.InferenceSession:
    """Open a session on the requested provider, or raise; there is no silent fallback.

    Args:
        data: an ONNX graph.
        name: of the graph, for error messages.
        device, threads: as for `OnnxEngine`.

    Raises:
        BackendError: ONNX Runtime is missing, cannot load the graph, or lacks the provider.
    """
    if device != "auto":
        return _session_on(data, name, device, threads)
    try:
        return _session_on(data, name, "cuda", threads)
    except BackendError:
        return _session_on(data, name, "cpu", threads)


def _session(
    exported: ExportedModel, graph: str, device: Device, threads: int | None
) -> onnxruntime.InferenceSession:
    return open_session(exported.files[graph], exported.directory / graph, device, threads)


def _session_on(
    data: bytes, name: str | Path, device: Device, threads: int | None
) -> onnxruntime.InferenceSession:
    runtime = import_onnxruntime()
    wanted = _PROVIDERS[device]
    available = runtime.get_available_providers()
    if wanted[0] not in available:
        raise BackendError(
            f"device {device!r} needs {wanted[0]}, this onnxruntime has "
            f"{', '.join(available)}; install onnxruntime-gpu or choose device 'cpu'"
        )
    providers = [(name, _PROVIDER_OPTIONS.get(name, {})) for name in wanted if name in available]
    if device != "cpu" and hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    try:
        session = runtime.InferenceSession(
            data,
            sess_options=_session_options(threads),
            providers=providers,
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise BackendError(
            f"onnxruntime cannot load {name} on device {device!r}: {in_a_line(error)}; export it "
            "again"
        ) from error
    if session.get_providers()[0] != wanted[0]:
        raise BackendError(
            f"device {device!r} was asked for and {wanted[0]} did not start; active: "
            f"{', '.join(session.get_providers())}. Check the driver and the CUDA libraries"
        )
    return session


def in_a_line(error: Exception) -> str:
    """Return what onnxruntime says, without its codes, on a line of a bounded length."""
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    return said if len(said) <= _LONGEST_COMPLAINT else f"{said[:_LONGEST_COMPLAINT]}..."


def _session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Use one thread unless told otherwise, and threads that sleep while they wait.

    Spinning with two threads burns 20.9 ms of processor time a frame instead of 8.6 (Lite0, 20 ms
    between frames, 2 cores that others use too; one thread: 7.4), and is no faster there.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check_names(
    session: onnxruntime.InferenceSession, expected: tuple[str, ...], exported: ExportedModel
) -> None:
    found = {entry.name for entry in session.get_inputs()}
    if found != set(expected):
        raise WeightsError(
            f"a graph in {exported.directory} has the inputs {sorted(found)}, "
            f"expected {sorted(expected)}; export the model again"
        )


def import_onnxruntime() -> Any:
    """Import onnxruntime; raise a BackendError that says how to get it if that fails."""
    try:
        import onnxruntime  # noqa: PLC0415 - loaded where it is used
    except ImportError as error:
        raise BackendError(
            f"this needs onnxruntime, which cannot be imported ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime
