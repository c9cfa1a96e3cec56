# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

import vt_models
from vt_models import BackendError, InputError, Tracker, WeightsError
from vt_models.runtime.engine import Template
from vt_models.runtime.export_directory import read_export, sha256_of
from vt_models.runtime.installed_weights import shipped_directory
from vt_models.runtime.onnx_engine import OnnxEngine
from vt_models.runtime.torch_engine import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from vt_models.registry import ModelSpec


@pytest.fixture
def directory(exported_small: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(exported_small, tmp_path / "export")


def crops(spec: ModelSpec):
    rng = np.random.default_rng(2)
    return [
        rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        for side in (spec.template_size, spec.search_size)
    ]


TEMPLATE_BOX = np.array((0.25, 0.25, 0.5, 0.5), np.float32)


def test_a_read_export_knows_its_sizes(exported_small) -> None:
    exported = read_export(exported_small)
    assert exported.spec.search_size == 64
    assert exported.spec.template_inputs == ("template_box",)
    assert list(exported.state) == ["kernel", "inside"]
    assert exported.outputs == {"score_map": (1, 16, 16), "box_map": (1, 4, 16, 16)}


def test_onnx_engine_reuses_its_buffers_and_keeps_its_template(exported_small) -> None:
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


def test_any_strides_of_a_crop_give_the_same(exported_small) -> None:
    engine = OnnxEngine(exported_small, "cpu")
    template, search = crops(engine.spec)
    engine.set_template(Template(template[None], TEMPLATE_BOX))
    expected = [array.copy() for array in engine.search(np.ascontiguousarray(search[::-1]))]
    for one, other in zip(engine.search(search[::-1]), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_template_replaces_the_first(exported_small) -> None:
    used, fresh = OnnxEngine(exported_small, "cpu"), OnnxEngine(exported_small, "cpu")
    template, search = crops(used.spec)
    used.set_template(Template(255 - template[None], TEMPLATE_BOX))
    used.search(search)
    for engine in (used, fresh):
        engine.set_template(Template(template[None], TEMPLATE_BOX))
    for one, other in zip(used.search(search), fresh.search(search), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_do_not_change_results(exported_small, threads) -> None:
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
def test_a_bad_number_of_threads(exported_small, threads) -> None:
    with pytest.raises(InputError, match="threads"):
        OnnxEngine(exported_small, "cpu", threads)


@pytest.mark.parametrize(
    ("device", "provider"),
    [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")],
)
def test_a_device_asked_for_by_name_never_falls_back(exported_small, device, provider) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is here")
    with pytest.raises(BackendError, match=provider):
        OnnxEngine(exported_small, device)
    with pytest.raises(BackendError, match=provider):
        vt_models.create_tracker("asymtrack_lite0", exported_small, device=device)


def test_a_provider_that_is_listed_but_does_not_start_is_an_error(exported_small, monkeypatch):
    real = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in real:
        pytest.skip("CUDA is here")
    claimed = ["CUDAExecutionProvider", *real]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: claimed)
    with pytest.raises(BackendError, match=r"'cuda'.*CUDAExecutionProvider did not start"):
        OnnxEngine(exported_small, "cuda")
    assert OnnxEngine(exported_small, "auto").providers[0] == "CPUExecutionProvider"


def test_unknown_device_and_backend(exported_small) -> None:
    with pytest.raises(InputError, match="auto, cpu, cuda, tensorrt"):
        OnnxEngine(exported_small, "gpu")
    with pytest.raises(InputError, match="onnxruntime, torch"):
        vt_models.create_tracker("asymtrack_lite0", exported_small, backend="tflite")


def test_create_tracker_from_a_directory(exported_small, moving_square) -> None:
    frames, boxes = moving_square
    tracker = vt_models.create_tracker("asymtrack_lite0", exported_small, threads=1)
    assert isinstance(tracker, Tracker)
    assert tracker.spec.search_size == 64
    tracker.init(frames[0], boxes[0])
    assert 0.0 <= tracker.update(frames[1]).score <= 1.0


def test_weights_of_another_model_are_refused(exported_small) -> None:
    with pytest.raises(WeightsError, match="holds asymtrack_lite0, not asymtrack_t"):
        vt_models.create_tracker("asymtrack_t", exported_small)


def test_weights_that_are_not_there_or_not_weights(tmp_path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        vt_models.create_tracker("asymtrack_t", tmp_path / "nothing")
    with pytest.raises(WeightsError, match=r"model\.json does not exist"):
        vt_models.create_tracker("asymtrack_t", tmp_path)
    (tmp_path / "file.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="weights import"):
        vt_models.create_tracker("asymtrack_t", tmp_path / "file.pth")
    with pytest.raises(WeightsError, match=r"no weights\.safetensors"):
        vt_models.create_tracker("asymtrack_t", tmp_path, backend="torch")


@pytest.mark.parametrize("name", vt_models.list_models())
def test_shipped_weights_track_or_the_error_says_what_to_do(name, moving_square) -> None:
    frames, boxes = moving_square
    if shipped_directory(vt_models.get_spec(name)) is None:
        with pytest.raises(
            WeightsError, match=f"no weights are bundled for {name}.*weights import"
        ):
            vt_models.create_tracker(name)
        return
    tracker = vt_models.create_tracker(name, device="cpu")
    tracker.init(frames[0], boxes[0])
    for frame in frames[1:]:
        estimate = tracker.update(frame)
        assert np.isfinite(estimate.box).all()


@pytest.mark.parametrize("file", ["template.onnx", "search.onnx"])
def test_a_changed_byte_is_refused(directory, file) -> None:
    data = bytearray((directory / file).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / file).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{file} was changed or damaged"):
        OnnxEngine(directory)


def test_a_missing_file_is_refused(directory) -> None:
    (directory / "search.onnx").unlink()
    with pytest.raises(WeightsError, match=r"search\.onnx cannot be read"):
        OnnxEngine(directory)


def edit(directory: Path, **changes) -> None:
    path = directory / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 99}, "format_version 99"),
        ({"model": "other"}, "unknown model"),
        ({"model": None}, "unknown model"),
        ({"files": {}}, r"does not list template\.onnx"),
        ({"files": None}, "not a complete"),
        ({"state": None}, "not a complete"),
        ({"outputs": {"box": ["x"]}}, "not a complete"),
        ({"spec": {}}, "lacks the fields"),
    ],
)
def test_a_broken_description_is_refused(directory, changes, words) -> None:
    edit(directory, **changes)
    with pytest.raises(WeightsError, match=words):
        read_export(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_description_that_is_no_object_is_refused(directory, text) -> None:
    (directory / "model.json").write_text(text)
    with pytest.raises(WeightsError):
        read_export(directory)


def test_a_description_cannot_point_outside_its_directory(directory) -> None:
    (directory.parent / "outside.onnx").write_bytes(b"x")
    files = json.loads((directory / "model.json").read_text())["files"]
    edit(directory, files={**files, "../outside.onnx": {"sha256": sha256_of(b"x"), "bytes": 1}})
    with pytest.raises(WeightsError, match="plain file name"):
        read_export(directory)


def test_a_graph_that_is_no_graph_is_an_error_not_a_crash(directory) -> None:
    (directory / "search.onnx").write_bytes(b"not onnx")
    files = json.loads((directory / "model.json").read_text())["files"]
    files["search.onnx"] = {"sha256": sha256_of(b"not onnx"), "bytes": 8}
    edit(directory, files=files)
    with pytest.raises(BackendError, match="cannot load"):
        OnnxEngine(directory, "cpu")


def test_a_graph_of_other_inputs_is_refused(directory) -> None:
    state = json.loads((directory / "model.json").read_text())["state"]
    edit(directory, state={**state, "more": [1]})
    with pytest.raises(WeightsError, match="more"):
        OnnxEngine(directory, "cpu")


def test_torch_engine_leaves_the_network_alone(small_model) -> None:
    net, spec = small_model
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    engine = TorchEngine(net, spec, "cpu")
    template, search = crops(spec)
    with pytest.raises(InputError, match="set_template"):
        engine.search(search)
    engine.set_template(Template(template[None], TEMPLATE_BOX))
    engine.search(search)
    assert net.training
    assert all(bool((value == before[key]).all()) for key, value in net.state_dict().items())


def test_torch_engine_refuses_what_is_not_there(small_model) -> None:
    torch = pytest.importorskip("torch")
    net, spec = small_model
    with pytest.raises(BackendError, match="TensorRT"):
        TorchEngine(net, spec, "tensorrt")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA GPU"):
            TorchEngine(net, spec, "cuda")
