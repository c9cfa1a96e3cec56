# SPDX-License-Identifier: Apache-2.0
"""Run an export directory in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.runtime.engine import (
    Array,
    Device,
    check_device,
    check_threads,
    dynamic_names,
    search_states,
    template_extras,
)
from vt_models.runtime.export_directory import (
    SEARCH_GRAPH,
    TEMPLATE_GRAPH,
    TEXT_GRAPH,
    ExportedModel,
    read_export,
)

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray

    from vt_models.registry import ModelSpec
    from vt_models.runtime.engine import Template

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


class OnnxEngine:
    """Run an export directory in ONNX Runtime.

    Args:
        directory: made by `vt-models export`, or an `ExportedModel` that was read already.
        device: "auto" takes CUDA where it works and the CPU elsewhere; a device asked for by
            name and not active is an error.
        threads: of the CPU provider; None is one thread (see `_session_options`).

    Raises:
        InputError: unknown device, or a number of threads below 1.
        WeightsError: the directory is missing, damaged, or not what its model.json says.
        BackendError: the device's provider is not active.
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
        self._search_session = _session(exported, SEARCH_GRAPH, device, threads)
        self._text_session = (
            _session(exported, TEXT_GRAPH, device, threads) if self.spec.language else None
        )
        self._state_names = tuple(exported.state)
        self._text_state_names = tuple(exported.text_state)
        self._check_inputs(exported)
        self._memory = "cuda" if self.providers[0] != "CPUExecutionProvider" else "cpu"
        self._no_padding = np.zeros((1, self.spec.search_size, self.spec.search_size), np.bool_)
        self._outputs = {
            name: np.empty(shape, np.float32) for name, shape in exported.outputs.items()
        }
        self._binding = self._bind_outputs()
        self._missing = {"template", "text"} if self.spec.language else {"template"}

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the active execution providers, the preferred one first."""
        return tuple(self._search_session.get_providers())

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
        self._binding.bind_cpu_input("search", _batched(crop))
        if "search_mask" in self.spec.search_inputs:
            padding = self._no_padding if mask is None else _batched(mask)
            self._binding.bind_cpu_input("search_mask", padding)
        _run(self._search_session, self._binding, "search")
        return tuple(self._outputs.values())

    def _check_inputs(self, exported: ExportedModel) -> None:
        """Raise WeightsError if a graph has other inputs than those it will get."""
        spec = self.spec
        _check_names(self._template_session, ("template", *spec.template_inputs), exported)
        states = search_states(spec, self._state_names, self._text_state_names)
        _check_names(self._search_session, ("search", *spec.search_inputs, *states), exported)
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
        _run(session, binding, graph)
        values: list[onnxruntime.OrtValue] = binding.get_outputs()
        return values

    def _bind(self, names: tuple[str, ...], values: list[onnxruntime.OrtValue]) -> None:
        for name, value in zip(names, values, strict=True):
            self._binding.bind_ortvalue_input(name, value)

    def _bind_outputs(self) -> onnxruntime.IOBinding:
        """Bind the search graph's outputs to the arrays of `self._outputs`."""
        value_on = import_onnxruntime().OrtValue.ortvalue_from_numpy
        binding = self._search_session.io_binding()
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, value_on(array))
        return binding


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
            f"onnxruntime cannot load {name} on device {device!r}: {error}"
        ) from error
    if session.get_providers()[0] != wanted[0]:
        raise BackendError(
            f"device {device!r} was asked for and {wanted[0]} did not start; active: "
            f"{', '.join(session.get_providers())}. Check the driver and the CUDA libraries"
        )
    return session


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


def _run(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, graph: str) -> None:
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise BackendError(f"onnxruntime failed in the {graph} graph: {error}") from error


def import_onnxruntime() -> Any:
    """Import onnxruntime; raise a BackendError that says how to get it if that fails."""
    try:
        import onnxruntime  # noqa: PLC0415 - loaded where it is used
    except ImportError as error:
        raise BackendError(
            f"this needs onnxruntime, which cannot be imported ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime
