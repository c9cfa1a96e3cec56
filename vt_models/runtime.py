# SPDX-License-Identifier: Apache-2.0
"""What runs a network: ONNX Runtime sessions, or a torch module.

An engine keeps the state of one template, so each tracker has its own.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.exported import SEARCH_GRAPH, TEMPLATE_GRAPH, ExportedModel, read_export

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime
    import torch

    from vt_models.nets import SiameseNet
    from vt_models.registry import ModelSpec

Device: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt"]
Array: TypeAlias = NDArray[np.float32]

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


def check_device(device: str) -> Device:
    """Return `device` if it is a known name, else raise InputError."""
    if device not in get_args(Device):
        raise InputError(f"no device called {device!r}; devices: {', '.join(get_args(Device))}")
    return device  # type: ignore[return-value]


def check_threads(threads: int | None) -> int | None:
    """Return `threads` if it is None or a positive number, else raise InputError."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads must be a whole number >= 1 or None, got {threads!r}")
    return threads


class OnnxEngine:
    """Runs an export directory in ONNX Runtime.

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
        _check_names(self._template_session, ("template", *self.spec.template_inputs), exported)
        _check_names(self._search_session, ("search", *exported.state), exported)
        self._state_names = tuple(exported.state)
        self._memory = "cuda" if self.providers[0] != "CPUExecutionProvider" else "cpu"
        self._outputs = {
            name: np.empty(shape, np.float32) for name, shape in exported.outputs.items()
        }
        self._binding = self._bind_outputs()
        self._ready = False

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the active execution providers, the preferred one first."""
        return tuple(self._search_session.get_providers())

    def set_template(self, crop: NDArray[np.uint8], box: Array) -> None:
        """Encode a template and keep its state; see `vt_models.tracker.Engine`."""
        self._ready = False
        binding = self._template_session.io_binding()
        binding.bind_cpu_input("template", _batched(crop))
        if "template_box" in self.spec.template_inputs:
            binding.bind_cpu_input("template_box", np.ascontiguousarray(box, np.float32)[None])
        for name in self._state_names:
            binding.bind_output(name, self._memory)
        _run(self._template_session, binding, "template")
        for name, value in zip(self._state_names, binding.get_outputs(), strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._ready = True

    def search(self, crop: NDArray[np.uint8]) -> tuple[Array, ...]:
        """Search a crop; the arrays are overwritten by the next call."""
        if not self._ready:
            raise InputError("search() before set_template()")
        self._binding.bind_cpu_input("search", _batched(crop))
        _run(self._search_session, self._binding, "search")
        return tuple(self._outputs.values())

    def _bind_outputs(self) -> onnxruntime.IOBinding:
        """A binding of the search graph whose outputs land in `self._outputs`."""
        value_on = import_onnxruntime().OrtValue.ortvalue_from_numpy
        binding = self._search_session.io_binding()
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, value_on(array))
        return binding


def _batched(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(S, S, 3) to (1, S, S, 3), contiguous; no copy if it is already."""
    return np.ascontiguousarray(crop)[None]


def _session(
    exported: ExportedModel, graph: str, device: Device, threads: int | None
) -> onnxruntime.InferenceSession:
    """A session on the asked-for provider, or an error; never a silent fallback."""
    if device != "auto":
        return _session_on(exported, graph, device, threads)
    try:
        return _session_on(exported, graph, "cuda", threads)
    except BackendError:
        return _session_on(exported, graph, "cpu", threads)


def _session_on(
    exported: ExportedModel, graph: str, device: Device, threads: int | None
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
            exported.files[graph],
            sess_options=_session_options(threads),
            providers=providers,
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise BackendError(
            f"onnxruntime cannot load {exported.directory / graph} on device {device!r}: {error}"
        ) from error
    if session.get_providers()[0] != wanted[0]:
        raise BackendError(
            f"device {device!r} was asked for and {wanted[0]} did not start; active: "
            f"{', '.join(session.get_providers())}. Check the driver and the CUDA libraries"
        )
    return session


def _session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """One thread unless told otherwise, and threads that sleep while they wait.

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


class TorchEngine:
    """Runs a torch network; same results as `OnnxEngine` to rounding (needs torch).

    The network is copied, put in evaluation mode and merged; the caller's stays as it is.

    Args:
        net: the network.
        spec: its specification.
        device: "auto", "cpu" or "cuda".
        threads: for torch's own pool, which is one for the whole process; None leaves it.

    Raises:
        InputError: unknown device, or a number of threads below 1.
        BackendError: torch is missing, or the device is not available.
    """

    def __init__(
        self,
        net: SiameseNet,
        spec: ModelSpec,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        device, threads = check_device(device), check_threads(threads)
        torch = import_torch()
        from vt_models.graphs import SearchGraph, TemplateGraph  # noqa: PLC0415 - needs torch

        self.spec = spec
        self._torch = torch
        self._device = _torch_device(torch, device)
        if threads is not None:
            torch.set_num_threads(threads)
        merged = copy.deepcopy(net).eval().merge()  # type: ignore[attr-defined]
        self._template_graph = TemplateGraph(merged, spec).eval().to(self._device)
        self._search_graph = SearchGraph(merged, spec).eval().to(self._device)
        self._state: tuple[Any, ...] | None = None

    def set_template(self, crop: NDArray[np.uint8], box: Array) -> None:
        """Encode a template and keep its state; see `vt_models.tracker.Engine`."""
        self._state = None
        inputs = [self._tensor(crop)]
        if "template_box" in self.spec.template_inputs:
            inputs.append(self._tensor(np.asarray(box, np.float32)))
        with self._exact():
            self._state = tuple(self._template_graph(*inputs))

    def search(self, crop: NDArray[np.uint8]) -> tuple[Array, ...]:
        """Search a crop; see `vt_models.tracker.Engine`."""
        if self._state is None:
            raise InputError("search() before set_template()")
        with self._exact():
            outputs = self._search_graph(self._tensor(crop), *self._state)
            return tuple(output.float().cpu().numpy() for output in outputs)

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy of an array as a batch of one on the device."""
        return self._torch.from_numpy(array[None].copy()).to(self._device)

    def _exact(self) -> ExactInference:
        return ExactInference(self._torch)


class ExactInference:
    """Context: no gradients, and no TF32 on GPUs."""

    def __init__(self, torch: Any) -> None:
        self._contexts = (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        )

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: object) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


def import_onnxruntime() -> Any:
    """The onnxruntime module, or a BackendError that says how to get it."""
    try:
        import onnxruntime  # noqa: PLC0415 - loaded where it is used
    except ImportError as error:
        raise BackendError(
            f"this needs onnxruntime, which cannot be imported ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime


def import_torch() -> Any:
    """The torch module, or a BackendError that says how to get it."""
    try:
        import torch  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BackendError(
            f"this needs torch, which cannot be imported ({error}); "
            "pip install 'vt_ros[train]', or use backend 'onnxruntime' with an exported model"
        ) from error
    return torch


def _torch_device(torch: Any, device: Device) -> Any:
    if device == "tensorrt":
        raise BackendError("backend 'torch' has no TensorRT; use backend 'onnxruntime'")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise BackendError("device 'cuda' was asked for and torch sees no CUDA GPU; use 'cpu'")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and present) else "cpu")
