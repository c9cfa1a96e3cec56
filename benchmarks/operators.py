# SPDX-License-Identifier: Apache-2.0
"""Measure where the search graph of a model spends its time, operator by operator.

    python -m benchmarks.run --only operators --model asymtrack_lite0,asymtrack_t

ONNX Runtime's profiler times every node by the clock; a node's time is the tenth percentile over
the runs, so that those in which another program took the core do not count. The arithmetic of
convolutions and matrix products, two operations for each multiplication, is counted from the shapes
in the profile. Beside it stands what the same runtime reaches in one large matrix product on one
thread in the same run: the core's sgemm.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vt_models.api import create_model
from vt_models.errors import BackendError, ExportError, InputError, import_torch
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.evaluation.reports.tables import Table
from vt_models.registry import get_spec
from vt_models.runtime.engine import Template, search_states, template_extras
from vt_models.runtime.export_directory import (
    NARROW_SEARCH_GRAPH,
    SEARCH_GRAPH,
    TEMPLATE_GRAPH,
    ExportedModel,
    read_export,
)
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.runtime.onnx_engine import _session_options

RUNS, BURN_IN, QUANTILE, SGEMM_SIDE = 60, 10, 10.0, 512
# A graph that takes long is run less often: so many seconds of processor time, but these runs.
MOST_SECONDS, LEAST_RUNS = 10.0, 15

DENSE, DEPTHWISE, POINTWISE = "dense", "depthwise", "pointwise"
REDUCTIONS, LAYOUT = "reductions", "layout"
KINDS = {
    DENSE: "dense convolutions and matrix products",
    DEPTHWISE: "depthwise convolutions",
    POINTWISE: "activations, arithmetic by element",
    REDUCTIONS: "normalisation and reductions",
    LAYOUT: "layout and shapes",
}
"""Kinds of operators, and what to call them."""
_PRODUCTS = {"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
_REDUCTIONS = ("Reduce", "LayerNorm", "SkipLayerNorm", "Softmax", "InstanceNorm", "GroupNorm")
_LAYOUT = {
    *("Transpose", "ReorderInput", "ReorderOutput", "Concat", "Reshape", "Split", "Slice", "Pad"),
    *("Expand", "Squeeze", "Unsqueeze", "Gather", "Cast", "Upsample", "Resize", "Shape"),
    *("Flatten", "Identity", "Tile", "ScatterND", "Range", "Where"),
}

Event = Mapping[str, Any]
"""A node's run in ONNX Runtime's profile."""


def benchmark(models: Iterable[str], seed: int = 0) -> dict[str, Any]:
    """Profile the search graphs of some models on one thread, with bundled or random weights."""
    about = provenance(command_line(), seed)
    measured: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in models:
        try:
            exported, weights = exported_model(name, seed)
            graphs = {name: (SEARCH_GRAPH, exported.spec)}
            if exported.spec.narrow is not None:
                graphs[f"{name}_narrow"] = (NARROW_SEARCH_GRAPH, exported.spec.narrow)
            for place, (graph, spec) in graphs.items():
                feed = noise_inputs(exported, spec.search_size, seed)
                measured[place] = {"weights": weights, **_measure(exported.files[graph], feed)}
                print(to_text(place, measured[place]))
        except (BackendError, ExportError, InputError) as error:
            left_out[name] = f"{name}: {error}"
    return {"benchmark": "operators", **about, "models": measured} | {"left_out": left_out}


def to_text(name: str, model: Mapping[str, Any]) -> Table:
    """Return a table of the kinds of operators."""
    rows = [
        (KINDS[kind], (one["ms"], one["share"], one["gflops_per_s"]))
        for kind, one in model["kinds"].items()
    ]
    total = model["run_ms"], 1.0, model["gflop"] / model["run_ms"] * 1e3
    return Table(name, ("ms", "share", "GFLOP/s"), [*rows, ("whole graph", total)])


def kind_of(operator: str, arithmetic: int, is_depthwise: bool) -> str:
    """Return the kind of an operator, one of `KINDS`, by its name in ONNX Runtime."""
    if arithmetic:
        return DEPTHWISE if is_depthwise else DENSE
    if operator in _LAYOUT:
        return LAYOUT
    return REDUCTIONS if operator.startswith(_REDUCTIONS) else POINTWISE


def operations(event: Event) -> tuple[int, bool]:
    """Count the floating-point operations of a node, and say whether it is a depthwise convolution.

    Args:
        event: with the shapes of the node's inputs and outputs.

    Returns:
        Twice the multiplications of a convolution or matrix product, 0 for anything else.
    """
    arguments = event["args"]
    operator = arguments["op_name"]
    if operator not in _PRODUCTS:
        return 0, False
    inputs, outputs = (
        _shapes(arguments["input_type_shape"]),
        _shapes(arguments["output_type_shape"]),
    )
    elements = math.prod(outputs[0])
    if operator.endswith("Conv"):
        each = inputs[1][1:]  # (O, I / groups, height, width): what one output is the sum of
        return 2 * elements * math.prod(each), each[0] == 1 and inputs[0][1] > 1
    # A of (..., M, K), transposed or not, gives (..., M, N). B is missing where it was packed.
    summed = math.prod(inputs[0]) // math.prod(outputs[0][:-1])
    return 2 * elements * summed, False


def summary(events: Iterable[Event], run_ms: float, sgemm: float | None) -> dict[str, Any]:
    """Sum up a profile by kind and by operator.

    Args:
        events: of several runs of a graph.
        run_ms: processor time of one run without the profiler, milliseconds.
        sgemm: GFLOP/s of the core in a large matrix product; None where that is not known.

    Returns:
        "run_ms"; "gflop"; "kinds" and "operators" by name, each with "ms", "share" of the sum of
        all nodes and "gflops_per_s" (0 without arithmetic counted); "overhead_ms", what a run
        takes beside its nodes; "share_of_sgemm".
    """
    runs: dict[str, list[Event]] = {}
    for event in events:
        runs.setdefault(event["name"], []).append(event)
    kinds = {kind: [0.0, 0] for kind in KINDS}
    operators: dict[str, list[float]] = {}
    for same in runs.values():
        arithmetic, is_depthwise = operations(same[0])
        operator = same[0]["args"]["op_name"]
        ms = 1e-3 * float(np.percentile([event["dur"] for event in same], QUANTILE))
        name = f"Depthwise{operator}" if is_depthwise else operator
        for sums in (
            kinds[kind_of(operator, arithmetic, is_depthwise)],
            operators.setdefault(name, [0.0, 0]),
        ):
            sums[0] += ms
            sums[1] += arithmetic
    total = sum(ms for ms, _ in kinds.values())
    gflop = 1e-9 * sum(arithmetic for _, arithmetic in kinds.values())

    def numbers(sums: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
        longest_first = sorted(sums.items(), key=lambda one: -one[1][0])
        return {
            name: {
                "ms": ms,
                "share": ms / total if total else 0.0,
                "gflops_per_s": 1e-6 * arithmetic / ms if ms else 0.0,
            }
            for name, (ms, arithmetic) in longest_first
        }

    return {
        "run_ms": run_ms,
        "gflop": gflop,
        "nodes": len(runs),
        "overhead_ms": run_ms - total,
        "sgemm_gflops_per_s": sgemm,
        "share_of_sgemm": 1e3 * gflop / run_ms / sgemm if sgemm else None,
        "kinds": {kind: numbers(kinds)[kind] for kind in KINDS},
        "operators": numbers(operators),
    }


def _measure(graph: bytes, feed: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Profile a graph on one thread; it takes turns with itself without the profiler, and sgemm."""
    plain = onnxruntime.InferenceSession(graph, _session_options(1))
    product = sgemm_program()
    with tempfile.TemporaryDirectory(prefix="vt_models-") as folder:
        options = _session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        profiled = onnxruntime.InferenceSession(graph, options)
        run_ms, rates = [], []
        begin = time.process_time()
        for number in range(RUNS + BURN_IN):
            is_long = time.process_time() - begin > MOST_SECONDS
            if is_long and number >= BURN_IN + LEAST_RUNS:
                break
            profiled.run(None, feed)
            run_ms.append(1e3 * _cpu_seconds(lambda: plain.run(None, feed)))
            if product is not None and number % 4 == 0:
                rates.append(2e-9 * SGEMM_SIDE**3 / _cpu_seconds(product))
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    nodes = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    sgemm = float(np.median(rates)) if rates else None
    runs = len(run_ms) - BURN_IN
    return {"runs": runs, **summary(nodes, float(np.median(run_ms[BURN_IN:])), sgemm)}


def sgemm_program() -> Callable[[], object] | None:
    """Return what multiplies two large matrices in ONNX Runtime; None without the package onnx."""
    try:
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - of the extra train
    except ImportError:
        return None
    shape = SGEMM_SIDE, SGEMM_SIDE
    matrix = np.random.default_rng(0).standard_normal(shape, np.float32)
    left, product = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "ac")
    # A constant: packed once, as a network's weights are.
    right = numpy_helper.from_array(matrix, "b")
    node = helper.make_node("MatMul", ("a", "b"), ("c",))
    graph = helper.make_graph([node], "sgemm", [left], [product], [right])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), _session_options(1))
    return lambda: session.run(None, {"a": matrix})


def exported_model(name: str, seed: int) -> tuple[ExportedModel, str]:
    """Read the bundled export of a model, else make one with random weights.

    Returns:
        The export, and "bundled" or "random".

    Raises:
        InputError: unknown name, or a model with a dynamic template or language.
        BackendError, ExportError: there are no random weights without torch, or no export.
    """
    spec = get_spec(name)
    if spec.dynamic_template or spec.language:
        raise InputError("its search graph takes more than a template; profiled are those without")
    directory = bundled_directory(spec)
    if directory is not None:
        return read_export(directory), "bundled"
    torch = import_torch()
    from vt_models.export.exporter import export_model  # noqa: PLC0415 - imports torch

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory(prefix="vt_models-") as folder:
        export_model(create_model(name), spec, Path(folder) / name)
        return read_export(Path(folder) / name), "random"


def noise_inputs(exported: ExportedModel, side: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return noise for a search graph with crops of `side` pixels, and a template's state."""
    spec = exported.spec
    rng = np.random.default_rng(seed)
    crop = rng.integers(0, 256, (1, spec.template_size, spec.template_size, 3), np.uint8)
    mask = np.zeros((spec.template_size, spec.template_size), np.bool_)
    template = Template(crop, np.array((0.25, 0.25, 0.5, 0.5), np.float32), mask)
    session = onnxruntime.InferenceSession(exported.files[TEMPLATE_GRAPH], _session_options(1))
    state = session.run(list(exported.state), {"template": crop, **template_extras(template, spec)})
    feed: dict[str, NDArray[Any]] = {"search": rng.integers(0, 256, (1, side, side, 3), np.uint8)}
    if "search_mask" in spec.search_inputs:
        feed["search_mask"] = np.zeros((1, side, side), np.bool_)
    names = search_states(spec, tuple(exported.state), ())
    return feed | dict(zip(names, state, strict=True))


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _shapes(typed: Iterable[Mapping[str, list[int]]]) -> list[list[int]]:
    return [shape for one in typed for shape in one.values()]
