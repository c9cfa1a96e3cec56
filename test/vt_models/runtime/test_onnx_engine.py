# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

import vt_models
from vt_models import BackendError, InputError, WeightsError
from vt_models.runtime import onnx_engine
from vt_models.runtime.engine import Template
from vt_models.runtime.export_directory import sha256_of
from vt_models.runtime.onnx_engine import OnnxEngine, in_a_line

TEMPLATE_BOX = np.array((0.25, 0.25, 0.5, 0.5), np.float32)


def test_search_reuses_its_buffers_and_keeps_the_template(exported_small, crops) -> None:
    engine = OnnxEngine(exported_small, "cpu")
    template, search = crops(engine.spec)
    with pytest.raises(InputError, match="set_template"):
        engine.search(search)
    engine.set_template(Template(template[None], TEMPLATE_BOX))
    first = engine.search(search)
    copies = [array.copy() for array in first]
    again = engine.search(255 - search)
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert not np.array_equal(copies[0], again[0])
    for one, other in zip(engine.search(search[:, :]), copies, strict=True):
        np.testing.assert_array_equal(one, other)


def test_search_any_strides_of_a_crop_give_the_same(exported_small, crops) -> None:
    engine = OnnxEngine(exported_small, "cpu")
    template, search = crops(engine.spec)
    engine.set_template(Template(template[None], TEMPLATE_BOX))
    expected = [array.copy() for array in engine.search(np.ascontiguousarray(search[::-1]))]
    for one, other in zip(engine.search(search[::-1]), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_set_template_again_replaces_the_first(exported_small, crops) -> None:
    used, fresh = OnnxEngine(exported_small, "cpu"), OnnxEngine(exported_small, "cpu")
    template, search = crops(used.spec)
    used.set_template(Template(255 - template[None], TEMPLATE_BOX))
    used.search(search)
    for engine in (used, fresh):
        engine.set_template(Template(template[None], TEMPLATE_BOX))
    for one, other in zip(used.search(search), fresh.search(search), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 2, None])
def test_search_any_number_of_threads_gives_the_same(exported_small, threads, crops) -> None:
    engine, single = (
        OnnxEngine(exported_small, "cpu", threads),
        OnnxEngine(exported_small, "cpu", 1),
    )
    template, search = crops(engine.spec)
    for each in (engine, single):
        each.set_template(Template(template[None], TEMPLATE_BOX))
    for one, other in zip(engine.search(search), single.search(search), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_engine_bad_number_of_threads_is_an_input_error(exported_small, threads) -> None:
    with pytest.raises(InputError, match="threads"):
        OnnxEngine(exported_small, "cpu", threads)


@pytest.mark.parametrize(
    ("device", "provider"),
    [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")],
)
def test_engine_unavailable_device_is_a_backend_error(exported_small, device, provider) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is here")
    with pytest.raises(BackendError, match=provider):
        OnnxEngine(exported_small, device)
    with pytest.raises(BackendError, match=provider):
        vt_models.create_tracker("asymtrack_lite0", exported_small, device=device)


def test_engine_provider_that_does_not_start_is_a_backend_error(exported_small, monkeypatch):
    real = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in real:
        pytest.skip("CUDA is here")
    claimed = ["CUDAExecutionProvider", *real]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: claimed)
    with pytest.raises(BackendError, match=r"'cuda'.*CUDAExecutionProvider did not start"):
        OnnxEngine(exported_small, "cuda")
    assert OnnxEngine(exported_small, "auto").providers[0] == "CPUExecutionProvider"


def test_engine_file_that_is_no_graph_is_a_backend_error(directory, edit) -> None:
    (directory / "search.onnx").write_bytes(b"not onnx")
    files = json.loads((directory / "model.json").read_text())["files"]
    files["search.onnx"] = {"sha256": sha256_of(b"not onnx"), "bytes": 8}
    edit(files=files)
    with pytest.raises(BackendError, match=r"cannot load .* 'cpu': \w.*; export it again"):
        OnnxEngine(directory, "cpu")


def test_in_a_line_is_what_onnxruntime_says_without_its_codes() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : node\n of 'x'" + "y" * 10_000)
    said = in_a_line(error)
    assert said.startswith("node of 'x'yyy")
    assert len(said) == 303


def test_engine_graph_of_other_inputs_is_refused(directory, edit) -> None:
    state = json.loads((directory / "model.json").read_text())["state"]
    edit(state={**state, "more": [1]})
    with pytest.raises(WeightsError, match="more"):
        OnnxEngine(directory, "cpu")


def test_engine_graph_that_never_ends_is_refused(directory, edit, monkeypatch) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    model = onnx.load(str(directory / "search.onnx"))
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["looped" if output == name else output for output in node.output]
    values = [
        helper.make_tensor_value_info(value, kind, shape)
        for value, kind, shape in (
            ("round", kinds.INT64, []),
            ("go", kinds.BOOL, []),
            ("in", kinds.FLOAT, None),
            ("went", kinds.BOOL, []),
            ("out", kinds.FLOAT, None),
        )
    ]
    steps = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "went"), ("in", "out"))]
    body = helper.make_graph(steps, "body", values[:3], values[3:])
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array(2**62, np.int64), "rounds"),
            onnx.numpy_helper.from_array(np.array(True), "true"),
        ]
    )
    loop = helper.make_node("Loop", ["rounds", "true", "looped"], [name], body=body)
    model.graph.node.append(loop)
    data = model.SerializeToString()
    (directory / "search.onnx").write_bytes(data)
    files = json.loads((directory / "model.json").read_text())["files"]
    edit(files={**files, "search.onnx": {"sha256": sha256_of(data), "bytes": len(data)}})
    monkeypatch.setitem(onnx_engine._TRIAL_SECONDS, "cpu", 0.5)
    with pytest.raises(WeightsError, match=r"did not end within 0\.5 s"):
        OnnxEngine(directory, "cpu")


def test_engine_graph_of_other_outputs_is_refused_before_the_first_frame(directory, edit) -> None:
    outputs = json.loads((directory / "model.json").read_text())["outputs"]
    edit(outputs={name: [*shape[:-2], 3, 3] for name, shape in outputs.items()})
    with pytest.raises(BackendError, match="search graph"):
        OnnxEngine(directory, "cpu")


def test_engine_outputs_that_no_decoder_reads_are_refused_with_the_description(
    directory, edit
) -> None:
    outputs = json.loads((directory / "model.json").read_text())["outputs"]
    edit(outputs={name: [1, 1] for name in outputs})
    with pytest.raises(WeightsError, match=r"outputs of shapes .* for the decoder dense"):
        OnnxEngine(directory, "cpu")
