# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

import vt_models
from vt_models import BackendError, InputError, WeightsError
from vt_models.runtime.engine import Template
from vt_models.runtime.export_directory import sha256_of
from vt_models.runtime.onnx_engine import OnnxEngine

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
    with pytest.raises(BackendError, match="cannot load"):
        OnnxEngine(directory, "cpu")


def test_engine_graph_of_other_inputs_is_refused(directory, edit) -> None:
    state = json.loads((directory / "model.json").read_text())["state"]
    edit(state={**state, "more": [1]})
    with pytest.raises(WeightsError, match="more"):
        OnnxEngine(directory, "cpu")
