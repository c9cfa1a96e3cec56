# SPDX-License-Identifier: Apache-2.0
"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.files import file_name, write_bytes, write_text


def test_a_file_is_replaced_with_the_usual_permissions(tmp_path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first", parents=True)
    write_text(path, "sécond")
    assert path.read_text(encoding="utf-8") == "sécond"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path, monkeypatch, step) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"former")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    place = "os.fsync" if step == "fsync" else "pathlib.Path.replace"
    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"former"
    assert [one.name for one in tmp_path.iterdir()] == ["file.bin"]


def test_a_missing_folder_is_an_error_unless_it_is_to_be_made(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "missing" / "file", b"")


@given(st.text(max_size=400))
def test_file_name_stands_for_any_text_in_one_folder(name) -> None:
    written = file_name(name)
    assert len(written.encode()) <= 200
    assert Path(written).name == written
    assert written not in ("", ".", "..")
    assert written.isprintable()


def test_file_name_keeps_plain_names_and_tells_others_apart() -> None:
    assert file_name("uav123_car14.2 (b)") == "uav123_car14.2 (b)"
    assert file_name("\u8eca") == "\u8eca"
    assert file_name("a/b") == "a%2Fb"
    assert file_name("/../x\0") == "%2F..%2Fx%00"
    assert file_name("x" * 300 + "1") != file_name("x" * 300 + "2")
