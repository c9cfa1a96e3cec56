# SPDX-License-Identifier: Apache-2.0
"""Text to word pieces: what BERT expects, whatever is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="needs the library of word pieces")

from vt_models.errors import InputError, WeightsError
from vt_models.text import MAX_CHARACTERS, Tokenizer, no_text, refused_panics, vocabulary

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = 16
PAD, CLS, SEP = 0, 101, 102
SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "white", "car", "##s", "["]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.uncased(LENGTH)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a white car", [1037, 2317, 2482]),
        ("A  White\tCAR", [1037, 2317, 2482]),
        ("unaffable", [14477, 20961, 3468]),
        ("the car, on the left!", [1996, 2482, 1010, 2006, 1996, 2187, 999]),
        ("Café", [7668]),
    ],
)
def test_word_pieces_are_bert_s(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    found, mask = tokenizer(text)

    used = len(ids) + 2
    assert found.tolist() == [CLS, *ids, SEP] + [PAD] * (LENGTH - used)
    assert mask.tolist() == [True] * used + [False] * (LENGTH - used)
    assert found.dtype == np.int64
    assert mask.dtype == np.bool_


def test_a_long_text_is_cut_and_still_ends(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer("car " * 100)

    assert ids.tolist() == [CLS] + [2482] * (LENGTH - 2) + [SEP]
    assert mask.all()


@given(st.text(max_size=60) | st.text(st.characters(), max_size=60))
def test_any_unicode_gives_word_pieces_or_is_refused(tokenizer: Tokenizer, text: str) -> None:
    try:
        ids, mask = tokenizer(text)
    except InputError:
        return

    used = int(mask.sum())
    assert ids.shape == mask.shape == (LENGTH,)
    assert mask[:used].all()
    assert used >= 3
    assert ids[0] == CLS
    assert ids[used - 1] == SEP
    assert not np.isin(ids[1 : used - 1], [PAD, CLS, SEP]).any()
    assert (ids[used:] == PAD).all()
    assert 0 <= ids.min() <= ids.max() < len(tokenizer.pieces()) == 30522


def test_lone_surrogates_and_unknown_signs_are_text(tokenizer: Tokenizer) -> None:
    question_mark, _ = tokenizer("?")

    assert (tokenizer("\ud800")[0] == question_mark).all()
    assert tokenizer("\U0001f4a5")[1].sum() == 3


def test_names_of_special_tokens_are_text(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer("car [SEP] [PAD]")

    assert (ids == SEP).sum() == 1
    assert mask.sum() > 5


@pytest.mark.parametrize("text", ["", " \t\n", "\u3000", "\x00\x01", "\u200b\ufeff"])
def test_a_text_without_a_word_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InputError, match="text"):
        tokenizer(text)


def test_length_of_the_text_is_bounded(tokenizer: Tokenizer) -> None:
    tokenizer("x" * MAX_CHARACTERS)
    with pytest.raises(InputError, match=f"{MAX_CHARACTERS + 1} characters, at most"):
        tokenizer("x" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("text", [None, b"car", 3])
def test_what_is_no_string_is_refused(tokenizer: Tokenizer, text: object) -> None:
    with pytest.raises(InputError, match="must be a string"):
        tokenizer(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [2, 0, -1, 3.0, True])
def test_a_length_without_room_for_a_word_is_refused(length: object) -> None:
    with pytest.raises(InputError, match="at least 3"):
        Tokenizer.uncased(length)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 3"):
        no_text(length)  # type: ignore[arg-type]


def test_no_text_is_padding_alone() -> None:
    ids, mask = no_text(5)

    assert ids.tolist() == [0] * 5
    assert mask.tolist() == [False] * 5
    assert ids.dtype == np.int64


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_reads_a_list_of_word_pieces(tmp_path: Path, newline: str) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text(newline.join(SMALL) + newline, newline="")

    ids, _ = Tokenizer.from_file(file, 8)("White cars, [SEP]")

    assert ids.tolist() == [2, 4, 5, 6, 1, 7, 1, 3]


def test_what_a_file_says_of_length_and_padding_does_not_count() -> None:
    content = json.loads(vocabulary())
    content["truncation"] = {
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }

    ids, mask = Tokenizer.from_bytes(json.dumps(content).encode(), LENGTH)("a white car")

    assert len(ids) == LENGTH
    assert mask.sum() == 5


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{}", b"\xff\xfe", b"white\ncar\n", b"[PAD]\n[UNK]\n[CLS]\ncar\n"]
)
def test_what_is_no_vocabulary_is_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(data)

    with pytest.raises(WeightsError, match="vocabulary"):
        Tokenizer.from_bytes(data, LENGTH)
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        Tokenizer.from_file(file, LENGTH)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.json"):
        Tokenizer.from_file(tmp_path / "nothing.json", LENGTH)


def test_needs_neither_torch_nor_a_network() -> None:
    """Not even the library's own client of its hub is loaded."""
    program = (
        "import sys, socket\n"
        "socket.socket = None\n"
        "from vt_models.text import Tokenizer\n"
        "Tokenizer.uncased(8)('a car')\n"
        "assert not {'torch', 'huggingface_hub'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


BERT = json.loads(vocabulary())


@pytest.mark.parametrize(
    "changes",
    [
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Isolated",
            }
        },
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "([a-z]+)+9"}, "content": "x"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "a" * 1000}},
        {"normalizer": {"type": "Prepend", "prepend": "x" * 3000}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 13}},
        {"model": {**BERT["model"], "continuing_subword_prefix": "#" * 5000}},
        {"model": {**BERT["model"], "vocab": {**BERT["model"]["vocab"], "[PAD]": 2**31}}},
        {"model": {**BERT["model"], "vocab": {**BERT["model"]["vocab"], "[PAD]": -1}}},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}},
        {"added_tokens": [{"content": "x"}]},
        {"added_tokens": 3},
    ],
)
def test_a_tokenizer_whose_rules_may_not_end_is_refused(changes) -> None:
    with pytest.raises(WeightsError, match="not a vocabulary of word pieces"):
        Tokenizer.from_bytes(json.dumps({**BERT, **changes}).encode(), LENGTH)


@pytest.mark.parametrize("data", [b"{" + b'"a":{' * 100_000, b"{}", b"{" + b" " * 2**24])
def test_a_file_that_is_no_tokenizer_is_refused(data) -> None:
    with pytest.raises(WeightsError, match="not a vocabulary of word pieces"):
        Tokenizer.from_bytes(data, LENGTH)


def test_a_panic_of_the_library_is_an_error_of_ours() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(WeightsError, match="broke down"), refused_panics():
        raise PanicException
    with pytest.raises(KeyboardInterrupt), refused_panics():
        raise KeyboardInterrupt
