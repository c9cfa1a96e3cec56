# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.grounding import check_text
from vt_models.grounding.text import prompt_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  the white\tcar\r\n on the left ", "the white car on the left"),
        ("cafe\u0301", "caf\u00e9"),
        ("red\x00 \x1b[31mcar", "red [31mcar"),
        ("\u202ecar\u202c \ufeffred", "car red"),
        ("trans\u00adport", "transport"),
        ("ن\u200cم", "ن\u200cم"),
        ("白い車", "白い車"),
        ("🚗", "🚗"),
        ("a\ud800b", "a?b"),
    ],
)
def test_check_text_strips_and_joins_whitespace(text: str, expected: str) -> None:
    assert check_text(text, 100) == expected


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "...", "\u200b\u202e", "\u200d"])
def test_text_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="holds no word"):
        check_text(text, 100)


def test_long_text_is_refused_with_its_length() -> None:
    with pytest.raises(InputError, match="10240 characters, at most 1000"):
        check_text("x" * 10240, 1000)
    assert check_text("x" * 1000, 1000) == "x" * 1000


def test_only_strings_are_texts() -> None:
    with pytest.raises(InputError, match="bytes"):
        check_text(b"car", 10)


@given(st.text())
def test_result_is_valid_one_line_and_stable(text: str) -> None:
    try:
        cleaned = check_text(text, 50)
    except InputError:
        return
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert unicodedata.normalize("NFC", cleaned) == cleaned
    assert len(cleaned) <= 50
    assert len(cleaned.splitlines()) == 1
    assert check_text(cleaned, 50) == cleaned


def test_prompt_is_one_description() -> None:
    assert prompt_of("The man. He runs?", True, ".", ".?") == "the man he runs."
    assert prompt_of("The man. He runs?", False, "", "") == "The man. He runs?"
