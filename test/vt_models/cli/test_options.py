# SPDX-License-Identifier: Apache-2.0
"""What is done to the words of a command line before they are parsed."""

from __future__ import annotations

import pytest

from vt_models.cli.main import main
from vt_models.cli.options import with_current_names


def test_both_names_of_an_option_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        with_current_names(["bench", "--models", "asymtrack_t", "--model=asymtrack_lite0"])
    assert stop.value.code == 2
    assert "--models is --model now, which is there too" in capsys.readouterr().err


def test_numbers_below_0_belong_to_the_option_before_them() -> None:
    words = ["track", "a.mp4", "--box", "-10,80,60,60", "--json"]
    assert with_current_names(words) == ["track", "a.mp4", "--box=-10,80,60,60", "--json"]


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["ground", "--image", "INPUT", "--text", "car", "--draw", "OUTPUT"],
        ["weights", "import", "INPUT", "--model", "asymtrack_t", "--output", "OUTPUT"],
        ["distill-text-encoder", "INPUT", "--output", "OUTPUT"],
        [
            "distill-backbone",
            "m",
            "--data",
            ".",
            "--teacher-weights",
            "INPUT",
            "--output",
            "OUTPUT",
        ],
    ],
    ids=lambda words: words[0],
)
def test_no_command_writes_over_what_it_reads(tmp_path, capsys, words, link) -> None:
    if words[0].startswith("distill"):
        pytest.importorskip("torch", reason="needs the training packages")
    elif words[0] == "weights":
        pytest.importorskip("safetensors", reason="needs the training packages")
    source = output = tmp_path / "file.safetensors"
    source.write_bytes(b"mine")
    if link:
        output = tmp_path / "link.safetensors"
        output.symlink_to(source)
    named = {"INPUT": str(source), "OUTPUT": str(output)}
    assert main([named.get(word, word) for word in words]) == 2
    assert f"{output} is {source}, which is read; give another file" in capsys.readouterr().err
    assert source.read_bytes() == b"mine"
