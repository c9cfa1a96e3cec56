# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil

import pytest

from vt_models import WeightsError
from vt_models.registry import get_spec, list_models
from vt_models.runtime.export_directory import read_export, sha256_of, spec_fields
from vt_models.runtime.onnx_engine import OnnxEngine


def test_read_export_knows_its_sizes(exported_small) -> None:
    exported = read_export(exported_small)
    assert exported.spec.search_size == 64
    assert exported.spec.template_inputs == ("template_box",)
    assert list(exported.state) == ["kernel", "inside"]
    assert exported.outputs == {"score_map": (1, 16, 16), "box_map": (1, 4, 16, 16)}


@pytest.mark.parametrize("file", ["template.onnx", "search.onnx"])
def test_read_export_changed_byte_is_refused(directory, file) -> None:
    data = bytearray((directory / file).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / file).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{file} was changed or damaged"):
        OnnxEngine(directory)


def test_read_export_missing_file_is_refused(directory) -> None:
    (directory / "search.onnx").unlink()
    with pytest.raises(WeightsError, match=r"search\.onnx cannot be read"):
        OnnxEngine(directory)


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
def test_read_export_broken_description_is_refused(directory, changes, words, edit) -> None:
    edit(**changes)
    with pytest.raises(WeightsError, match=words):
        read_export(directory)


def test_read_export_old_name_of_a_field_is_read(directory, edit) -> None:
    spec = json.loads((directory / "model.json").read_text())["spec"]
    assert spec.pop("size_calibration") == 0.5
    edit(spec={**spec, "size_fit": 0.25})
    assert read_export(directory).spec.size_calibration == 0.25


@pytest.mark.parametrize("value", [None, "x", [0.5], True, -0.1, 1.5, 1e308])
@pytest.mark.parametrize("name", ["size_fit", "size_smoothing"])
def test_read_export_setting_that_is_no_share_is_refused(directory, edit, name, value) -> None:
    spec = json.loads((directory / "model.json").read_text())["spec"]
    del spec["size_calibration"]
    edit(spec={**spec, name: value})
    with pytest.raises(WeightsError, match=r"size_\w+ is .*; expected a number from 0 to 1"):
        read_export(directory)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search_size", 10**30),
        ("search_size", -5),
        ("search_size", "256"),
        ("template_size", 128.0),
        ("search_factor", 1e9),
        ("search_factor", float("nan")),
        ("template_factor", float("inf")),
        ("std", [0.0, 0.5, 0.5]),
        ("mean", [0.5, 0.5]),
        ("context_factors", [2.0] * 1000),
        ("template_inputs", [1]),
        ("decoder", "other"),
        ("anchor", ["window"]),
        ("language", 1),
        ("text_length", 10**9),
        ("clip_margin", 10**9),
    ],
)
def test_read_export_field_out_of_its_limits_is_refused(directory, edit, name, value) -> None:
    spec = json.loads((directory / "model.json").read_text())["spec"]
    edit(spec={**spec, name: value})
    with pytest.raises(WeightsError, match=rf"asymtrack_lite0: {name} is .*; expected "):
        read_export(directory)


@pytest.mark.parametrize("name", list_models())
def test_read_export_fields_of_every_model_are_within_the_limits(directory, edit, name) -> None:
    spec = get_spec(name)
    files = json.loads((directory / "model.json").read_text())["files"]
    if spec.language:
        files |= {"text.onnx": files["search.onnx"], "tokenizer.json": files["template.onnx"]}
        shutil.copy(directory / "search.onnx", directory / "text.onnx")
        shutil.copy(directory / "template.onnx", directory / "tokenizer.json")
    maps = {"score_map": [1, 8, 8], "box_map": [1, 4, 8, 8]}
    outputs = maps if spec.decoder == "dense" else {"box": [1, 4], "score": [1]}
    edit(model=name, spec=spec_fields(spec), files=files, outputs=outputs)
    assert read_export(directory).spec == spec


@pytest.mark.parametrize(
    "shape",
    [[1, 1, 200_000, 200_000], [-1], [0], [1.5], ["1"], [True, 8], [], "", {}, {"1": 1}, [1] * 17],
)
@pytest.mark.parametrize("entry", ["outputs", "state"])
def test_read_export_shape_that_cannot_be_is_refused(directory, edit, entry, shape) -> None:
    shapes = json.loads((directory / "model.json").read_text())[entry]
    edit(**{entry: {**shapes, next(iter(shapes)): shape}})
    with pytest.raises(WeightsError, match="shape"):
        read_export(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000 + "]" * 100_000, "9" * 10_000])
def test_read_export_description_that_is_no_object_is_refused(directory, text) -> None:
    (directory / "model.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model\.json (cannot be read|does not hold)"):
        read_export(directory)


@pytest.mark.parametrize("file", ["model.json", "search.onnx"])
def test_read_export_does_not_wait_for_a_pipe_or_read_a_device(directory, file) -> None:
    (directory / file).unlink()
    os.mkfifo(directory / file)
    with pytest.raises(WeightsError, match=f"{file} cannot be read: it is a pipe"):
        read_export(directory)
    (directory / file).unlink()
    (directory / file).symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=f"{file} cannot be read: it is a device"):
        read_export(directory)


def test_read_export_tells_nothing_of_a_file_that_a_link_leads_to(directory) -> None:
    (directory.parent / "secret").write_text("content")
    (directory / "search.onnx").unlink()
    (directory / "search.onnx").symlink_to(directory.parent / "secret")
    with pytest.raises(WeightsError) as refused:
        read_export(directory)
    assert sha256_of(b"content")[:4] not in str(refused.value)


def test_read_export_file_outside_its_directory_is_refused(directory, edit) -> None:
    (directory.parent / "outside.onnx").write_bytes(b"x")
    files = json.loads((directory / "model.json").read_text())["files"]
    edit(files={**files, "../outside.onnx": {"sha256": sha256_of(b"x"), "bytes": 1}})
    with pytest.raises(WeightsError, match="no file of an export"):
        read_export(directory)


@pytest.mark.parametrize(
    "outputs",
    [
        {"score_map": [1, 32, 32]},
        {"box_map": [1, 4, 32, 32], "score_map": [1, 32, 32]},
        {"score_map": [1, 18, 18], "box_map": [1, 4, 9, 9]},
        {"score_map": [18], "box_map": [4]},
        {},
    ],
)
@pytest.mark.parametrize("entry", ["outputs", "narrow_outputs"])
def test_read_export_outputs_that_the_decoder_cannot_read_are_refused(
    directory, edit, entry, outputs
) -> None:
    manifest = json.loads((directory / "model.json").read_text())
    files = {**manifest["files"], "search_narrow.onnx": manifest["files"]["search.onnx"]}
    shutil.copy(directory / "search.onnx", directory / "search_narrow.onnx")
    maps = {"score_map": [1, 32, 32], "box_map": [1, 4, 32, 32]}
    spec = {**manifest["spec"], "decoder": "dense", "search_size": 128}
    spec["narrow_search_size"] = 96
    edit(files=files, spec=spec, **{"outputs": maps, "narrow_outputs": maps, entry: outputs})
    with pytest.raises(WeightsError, match=r"outputs of shapes .* for the decoder dense"):
        read_export(directory)
