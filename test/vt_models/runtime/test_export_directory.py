# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from vt_models import WeightsError
from vt_models.runtime.export_directory import read_export, sha256_of
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


@pytest.mark.parametrize("value", [None, "x", [0.5], True, -0.1, 1.5, float("nan"), 1e308])
@pytest.mark.parametrize("name", ["size_fit", "size_smoothing"])
def test_read_export_setting_that_is_no_share_is_refused(directory, edit, name, value) -> None:
    spec = json.loads((directory / "model.json").read_text())["spec"]
    del spec["size_calibration"]
    edit(spec={**spec, name: value})
    with pytest.raises(WeightsError, match=r"size_\w+ is .*; expected a number from 0 to 1"):
        read_export(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_read_export_description_that_is_no_object_is_refused(directory, text) -> None:
    (directory / "model.json").write_text(text)
    with pytest.raises(WeightsError):
        read_export(directory)


def test_read_export_file_outside_its_directory_is_refused(directory, edit) -> None:
    (directory.parent / "outside.onnx").write_bytes(b"x")
    files = json.loads((directory / "model.json").read_text())["files"]
    edit(files={**files, "../outside.onnx": {"sha256": sha256_of(b"x"), "bytes": 1}})
    with pytest.raises(WeightsError, match="plain file name"):
        read_export(directory)
