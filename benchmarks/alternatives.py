# SPDX-License-Identifier: Apache-2.0
"""Measure the search graph of a model in other runtimes, settings and number formats.

    python -m benchmarks.run --only alternatives --model asymtrack_lite0

All take turns on one thread in one process, in processor time. What is not installed, or does not
take the graph, is named with the reason. Nothing here says what a format does to the accuracy, but
for the largest difference of the score map from ONNX Runtime's on a search crop of noise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.operators import exported_model, noise_inputs
from vt_models.api import create_model
from vt_models.errors import BackendError, ExportError, InputError
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import table
from vt_models.runtime.export_directory import SEARCH_GRAPH, TORCH_WEIGHTS, ExportedModel
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.runtime.onnx_engine import _session_options

RUNS, BURN_IN = 60, 10
BASE = "onnxruntime"

Feed: TypeAlias = "Mapping[str, NDArray[Any]]"
Program: TypeAlias = "Callable[[], NDArray[Any]]"
"""Runs the graph once and returns its first output."""


def benchmark(models: Iterable[str], seed: int = 0) -> dict[str, Any]:
    """Measure all that can be measured here."""
    about = provenance(command_line(), seed)
    measured: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in models:
        try:
            exported, _ = exported_model(name, seed)
            feed = noise_inputs(exported, exported.spec.search_size, seed)
        except (BackendError, ExportError, InputError) as error:
            left_out[name] = f"{name}: {error}"
            continue
        programs: dict[str, Program] = {}
        for alternative, make in MAKERS.items():
            try:
                programs[alternative] = make(exported, feed)
                programs[alternative]()
            except Exception as error:  # each library has exceptions of its own
                programs.pop(alternative, None)
                left_out[f"{name} {alternative}"] = " ".join(str(error).split())[:200]
        measured[name] = _measure(programs)
        columns = {"CPU time": "cpu_median_ms", "times as fast": "speedup"}
        print(table(name, columns, measured[name].items()))
    for alternative, reason in left_out.items():
        print(f"left out: {alternative}: {reason}")
    return {"benchmark": "alternatives", **about, "models": measured, "left_out": left_out}


def _measure(programs: Mapping[str, Program]) -> dict[str, Any]:
    """Let the programs take turns, a run each."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    expected = programs[BASE]().copy()
    differences = {
        name: float(np.abs(np.asarray(program(), np.float64) - expected).max())
        for name, program in programs.items()
    }
    for _ in range(RUNS + BURN_IN):
        for name, program in programs.items():
            begin = time.process_time()
            program()
            times[name].append(1e3 * (time.process_time() - begin))
    medians = {name: float(np.median(one[BURN_IN:])) for name, one in times.items()}
    return {
        name: {
            "cpu_median_ms": medians[name],
            "speedup": float(np.median(np.divide(times[BASE], one)[BURN_IN:])),
            "difference": differences[name],
            "repeats": [{"cpu_median_ms": ms} for ms in one[BURN_IN:]],
        }
        for name, one in times.items()
    }


def _session_program(
    graph: bytes | str, feed: Feed, options: onnxruntime.SessionOptions
) -> Program:
    session = onnxruntime.InferenceSession(graph, options)
    return lambda: session.run(None, dict(feed))[0]


def _onnxruntime(exported: ExportedModel, feed: Feed) -> Program:
    return _session_program(exported.files[SEARCH_GRAPH], feed, _session_options(1))


def _without_nchwc(exported: ExportedModel, feed: Feed) -> Program:
    """Without the blocked layout of ONNX Runtime's highest level."""
    options = _session_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return _session_program(exported.files[SEARCH_GRAPH], feed, options)


def _int8(exported: ExportedModel, feed: Feed) -> Program:
    """Convolutions and products in eight bits, calibrated on one crop: for the time alone."""
    from onnxruntime.quantization import (  # noqa: PLC0415 - needs the package onnx
        CalibrationDataReader,
        QuantFormat,
        quantize_static,
    )

    class Once(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter([dict(feed)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rest, None)

    with tempfile.TemporaryDirectory(prefix="vt_models-") as folder:
        source, target = Path(folder) / "folded.onnx", Path(folder) / "int8.onnx"
        options = _session_options(1)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(source)  # constants folded: weights are weights
        onnxruntime.InferenceSession(exported.files[SEARCH_GRAPH], options)
        quantize_static(source, target, Once(), QuantFormat.QDQ, per_channel=True)
        return _session_program(str(target), feed, _session_options(1))


def _opencv(exported: ExportedModel, feed: Feed) -> Program:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(exported.files[SEARCH_GRAPH], np.uint8))

    def run() -> NDArray[Any]:
        for name, value in feed.items():
            net.setInput(value, name)
        return np.asarray(net.forward())

    return run


def _torch(exported: ExportedModel, feed: Feed, bf16: bool = False) -> Program:
    import torch  # noqa: PLC0415 - of the extra train

    from vt_models.nets.graphs import SearchGraph  # noqa: PLC0415

    torch.set_num_threads(1)
    spec = exported.spec
    directory = bundled_directory(spec)
    if directory is None or not (directory / TORCH_WEIGHTS).is_file():
        raise BackendError(f"no weights of {spec.name} are bundled in torch's form")
    net: Any = create_model(spec.name, directory / TORCH_WEIGHTS)
    graph = SearchGraph(net.merge(), spec).eval()
    inputs = [torch.from_numpy(value.copy()) for value in feed.values()]

    def run() -> NDArray[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return np.asarray(graph(*inputs)[0].float().numpy())

    return run


def _torch_bf16(exported: ExportedModel, feed: Feed) -> Program:
    return _torch(exported, feed, bf16=True)


def _openvino(exported: ExportedModel, feed: Feed, precision: str = "f32") -> Program:
    if find_spec("openvino") is None:
        raise BackendError("openvino is not installed")
    core = import_module("openvino").Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    model = core.compile_model(core.read_model(exported.files[SEARCH_GRAPH]), "CPU", settings)
    request = model.create_infer_request()
    return lambda: np.asarray(request.infer(dict(feed))[0])


def _openvino_bf16(exported: ExportedModel, feed: Feed) -> Program:
    return _openvino(exported, feed, "bf16")


MAKERS: dict[str, Callable[[ExportedModel, Feed], Program]] = {
    BASE: _onnxruntime,
    "onnxruntime_without_nchwc": _without_nchwc,
    "onnxruntime_int8": _int8,
    "opencv_dnn": _opencv,
    "torch": _torch,
    "torch_bf16": _torch_bf16,
    "openvino": _openvino,
    "openvino_bf16": _openvino_bf16,
}
