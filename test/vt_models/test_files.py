# SPDX-License-Identifier: Apache-2.0
"""Files are read within limits, and written whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.files import (
    draft_of,
    draft_of_directory,
    file_name,
    parse_json,
    read_bytes,
    write_bytes,
    write_text,
)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "it is a pipe"),
        ("/dev/zero", "it is a device"),
        ("/dev/stdin", "it is a"),
        ("folder", "it is a folder"),
        ("large", "it has 11 bytes; expected at most 10"),
        ("missing", "No such file"),
    ],
)
def test_read_bytes_of_what_is_no_small_regular_file_is_an_error(tmp_path, kind, said) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"x" * 11)
    elif kind != "missing":
        path.symlink_to(kind)
    with pytest.raises(OSError, match=said):
        read_bytes(path, 10)


def test_read_bytes_follows_links_and_reads_no_further_than_the_size(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", 7) == b"content"
    assert read_bytes("/proc/self/status") == b""  # its size is 0, as that of those without an end


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "secret", b"\xff\x00"])
def test_parse_json_refuses_in_a_sentence_that_quotes_nothing(text) -> None:
    with pytest.raises(ValueError, match=r"JSON|nested") as refused:
        parse_json(text)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


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


WRITER = """
import sys
from pathlib import Path
from vt_models.files import draft_of
with draft_of(Path(sys.argv[1])) as draft:
    draft.write_bytes(b"half")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_one_draft_which_the_next_takes_over(tmp_path) -> None:
    path = tmp_path / "file.bin"
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout.readline() == "written\n"
            write_bytes(path, b"meanwhile")  # a second writer does not wait, and spoils nothing
            assert (tmp_path / ".file.partial.bin").read_bytes() == b"half"
            writer.send_signal(signal.SIGKILL)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".file.partial.bin", "file.bin"]
    write_bytes(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["file.bin"]
    assert path.read_bytes() == b"new"


def filled(directory, text) -> None:
    with draft_of_directory(directory) as draft:
        (draft / "made").write_text(text)


def test_a_directory_appears_whole_and_keeps_what_it_does_not_make(tmp_path, monkeypatch) -> None:
    filled(tmp_path / "a" / "out", "first")
    directory = tmp_path / "a" / "out"
    (directory / "card").write_text("card")
    (directory / "more").mkdir()
    filled(directory, "second")
    contents = {path.name: path.is_dir() or path.read_text() for path in directory.iterdir()}
    assert contents == {"made": "second", "card": "card", "more": True}
    with pytest.raises(ZeroDivisionError), draft_of_directory(directory) as draft:
        (draft / "made").write_text(str(1 / 0))
    monkeypatch.chdir(directory)
    filled(Path(), "third")
    assert (directory / "made").read_text() == "third"
    assert [path.name for path in directory.parent.iterdir()] == ["out"]


def test_ctrl_c_between_two_names_leaves_the_directory_as_it_was(tmp_path, monkeypatch) -> None:
    directory = tmp_path / "out"
    filled(directory, "first")
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filled(directory, "second")
    assert (directory / "made").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_that_a_killed_writer_left_is_taken_over(tmp_path) -> None:
    directory, draft = tmp_path / "out", tmp_path / ".out.partial"
    for name, text in (("new", "half"), ("previous", "first")):  # killed between its two renames
        (draft / name).mkdir(parents=True)
        (draft / name / "made").write_text(text)
    with pytest.raises(FileNotFoundError), draft_of_directory(directory) as built:
        (built / "made").read_text()
    assert (directory / "made").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    draft.mkdir()
    filled(directory, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_of_a_directory_are_one_too_many(tmp_path) -> None:
    directory = tmp_path / "out"
    with draft_of_directory(directory) as draft:
        (draft / "made").write_text("first")
        with pytest.raises(OSError, match=f"another process writes {directory}"):
            filled(directory, "second")
    assert (directory / "made").read_text() == "first"


def test_what_is_no_regular_file_is_not_replaced(tmp_path) -> None:
    (tmp_path / "out").symlink_to("/dev/full")
    with pytest.raises(OSError, match="it is a device"), draft_of(tmp_path / "out"):
        pytest.fail("nothing to write to")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


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
