# SPDX-License-Identifier: Apache-2.0
"""Sentences for the language models: text to BERT's word pieces, through the library `tokenizers`.

>>> from vt_models.text import Tokenizer
>>> tokenizer = Tokenizer.uncased(length=6)
>>> ids, mask = tokenizer("A white car")
>>> ids.tolist(), mask.tolist()
([101, 1037, 2317, 2482, 102, 0], [True, True, True, True, True, False])

Nothing here uses a network: a vocabulary is a file, or the one that is bundled with the package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.files import parse_json, read_bytes

if TYPE_CHECKING:
    import tokenizers
    from typing_extensions import Self

MAX_CHARACTERS = 1000
"""A longer text is refused: it would be cut to a few dozen word pieces and mean something else."""

# The 30,522 word pieces of BERT uncased (Devlin et al., NAACL 2019; Apache-2.0).
_UNCASED = Path(__file__).parent / "vocabulary" / "bert_uncased.json"
_LEAST_LENGTH = 3  # [CLS], one word piece, [SEP]
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]")
_UNKNOWN = "[UNK]"

_MOST_BYTES = 16 * 2**20
_MOST_PIECES = 2**20
# A tokenizer.json is a program: with a rule such as (a+)+$, a replacement of nothing by a thousand
# letters, or a prefix of a megabyte, one sentence takes for ever. Those of BERT and of CLIP (the
# second since transformers 5) consist of these parts.
_PARTS = (
    *("WordPiece", "BPE", "Sequence", "BertNormalizer", "NFC", "Lowercase", "BertPreTokenizer"),
    *("ByteLevel", "TemplateProcessing", "RobertaProcessing", "WordPieceDecoder"),
)
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_RULES = (
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    *(
        {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Removed", "invert": True}
        for rule in (_CLIP_WORDS, rf"<\|startoftext\|>|<\|endoftext\|>|{_CLIP_WORDS}")
    ),
)
_MOST_PARTS = 12
_MOST_OTHER_CHARACTERS = 4096

Tokens: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_]]


class Tokenizer:
    """Text to a fixed number of word pieces, ``[CLS]`` first and ``[SEP]`` last.

    Made by `uncased`, `from_file` or `from_bytes`.

    Attributes:
        length: L, word pieces of every result; a longer text is cut, a shorter one padded.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, length: int) -> None:
        self.length = _checked_length(length)
        self._tokenizer = tokenizer
        self._configure()

    @classmethod
    def uncased(cls, length: int) -> Self:
        """BERT's uncased English vocabulary, which comes with the package; see `from_bytes`."""
        return cls.from_bytes(vocabulary(), length)

    @classmethod
    def from_file(cls, path: str | Path, length: int) -> Self:
        """A vocabulary from a `tokenizer.json` or a `vocab.txt`; see `from_bytes`."""
        try:
            data = read_bytes(path, _MOST_BYTES)
        except OSError as error:
            raise WeightsError(f"the vocabulary {path} cannot be read: {error}") from error
        try:
            return cls.from_bytes(data, length)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes, length: int) -> Self:
        """A vocabulary from the contents of a `tokenizer.json` or a `vocab.txt`.

        Args:
            data: JSON of the library `tokenizers`, or one word piece a line in UTF-8, lower case.
            length: L >= 3.

        Raises:
            InputError: `length` is not a whole number >= 3.
            WeightsError: not a vocabulary, or one without [PAD], [CLS] or [SEP].
            BackendError: the library `tokenizers` is missing.
        """
        library = import_tokenizers()
        if data.lstrip().startswith(b"{"):
            return cls(load_tokenizer(data), length)
        try:
            lines = data.decode("utf-8").rstrip("\n").split("\n")
            tokenizer = _word_pieces(library, [line.rstrip("\r") for line in lines])
        except Exception as error:  # the library raises Exception itself
            raise _no_vocabulary(error) from error
        return cls(tokenizer, length)

    def pieces(self) -> dict[str, int]:
        """Every word piece and its id."""
        found: dict[str, int] = self._tokenizer.get_vocab()
        return found

    def __call__(self, text: str) -> Tokens:
        """Cut a text into word pieces.

        Names of special tokens in the text, such as "[SEP]", are text like any other. What is not
        Unicode (lone surrogates) counts as a question mark.

        Args:
            text: at most `MAX_CHARACTERS` characters.

        Returns:
            ids (L,) int64 and mask (L,) bool, True where there is a word piece and False where
            there is padding, whose ids are [PAD]'s.

        Raises:
            InputError: not a string, too long, or without a single word piece.
        """
        with refused_panics():
            encoding = self._tokenizer.encode(check_text(text))
        mask = np.array(encoding.attention_mask, dtype=np.bool_)
        if mask.sum() < _LEAST_LENGTH:
            raise InputError(f"the text {text!r} holds no word; describe the target in words")
        return np.array(encoding.ids, dtype=np.int64), mask

    def words(self, text: str) -> list[tuple[str, list[int]]]:
        """Return the words of a text, each with the indices of its pieces in what a call gives.

        Raises:
            InputError: as of a call.
        """
        with refused_panics():
            encoding = self._tokenizer.encode(check_text(text))
        found: dict[int, list[int]] = {}
        for index, word in enumerate(encoding.word_ids):
            if word is not None:
                found.setdefault(word, []).append(index)
        return [
            ("".join(encoding.tokens[index].removeprefix("##") for index in indices), indices)
            for indices in found.values()
        ]

    def _configure(self) -> None:
        """What a file says of length and special tokens is replaced by what this class promises."""
        tokenizer = self._tokenizer
        missing = [token for token in _SPECIAL if tokenizer.token_to_id(token) is None]
        if missing:
            raise WeightsError(f"the vocabulary has no {', '.join(missing)}; expected BERT's")
        tokenizer.encode_special_tokens = True
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), length=self.length)


def check_text(text: str) -> str:
    """Return `text` as valid Unicode if it can be a description of a target.

    Raises:
        InputError: not a string, empty, only white space, or longer than `MAX_CHARACTERS`.
    """
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, got {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the text has {len(text)} characters, at most {MAX_CHARACTERS} are read; "
            "describe the target in one sentence"
        )
    if not text.strip():
        raise InputError("the text is empty; describe the target in words, or leave the text out")
    return text.encode("utf-8", "replace").decode("utf-8")


def vocabulary() -> bytes:
    """A `tokenizer.json` with BERT's uncased word pieces, as it comes with the package."""
    return _UNCASED.read_bytes()


def no_text(length: int) -> Tokens:
    """What a language model is given where there is no text: ids (L,) of 0, mask (L,) of False."""
    length = _checked_length(length)
    return np.zeros(length, np.int64), np.zeros(length, np.bool_)


def _checked_length(length: int) -> int:
    if isinstance(length, bool) or not isinstance(length, int) or length < _LEAST_LENGTH:
        raise InputError(f"the number of word pieces must be at least 3, got {length!r}")
    return length


def _word_pieces(library: Any, lines: list[str]) -> tokenizers.Tokenizer:
    """BERT's uncased tokeniser over a list of word pieces, whose ids are their line numbers."""
    ids = {piece: index for index, piece in enumerate(lines)}
    tokenizer = library.Tokenizer(library.models.WordPiece(ids, unk_token=_UNKNOWN))
    tokenizer.add_special_tokens([piece for piece in (*_SPECIAL, _UNKNOWN) if piece in ids])
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(piece, ids[piece]) for piece in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def load_tokenizer(data: bytes) -> tokenizers.Tokenizer:
    """A tokeniser of the library `tokenizers` that takes bounded time for any sentence.

    Args:
        data: contents of a `tokenizer.json`.

    Raises:
        WeightsError: not such a file, or one whose rules are not those of BERT or CLIP.
        BackendError: the library is missing.
    """
    library = import_tokenizers()
    try:
        _check_rules(parse_json(data[: _MOST_BYTES + 1]))
        with refused_panics():
            return library.Tokenizer.from_buffer(data)
    except WeightsError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise _no_vocabulary(error) from error


def _check_rules(content: Any) -> None:
    """ValueError for a tokenizer.json that could take for ever, or whose ids are none."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise ValueError("it has no model with a vocab")  # noqa: TRY004
    ids = [*model["vocab"].values(), *(one["id"] for one in content.get("added_tokens") or ())]
    if not all(isinstance(number, int) and 0 <= number < _MOST_PIECES for number in ids):
        raise ValueError(f"ids of word pieces that are not from 0 to {_MOST_PIECES - 1}")
    small = {name: value for name, value in content.items() if name != "added_tokens"}
    small["model"] = {k: v for k, v in model.items() if k not in ("vocab", "merges")}
    if len(json.dumps(small)) > _MOST_OTHER_CHARACTERS:
        raise ValueError("more beside the word pieces than rules are long")
    parts, waiting = 0, [small]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and part not in _RULES:
            if part.get("type", _PARTS[0]) not in _PARTS or "pattern" in part:
                raise ValueError("it has a rule that BERT's and CLIP's have not")
            parts += "type" in part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    if parts > _MOST_PARTS:
        raise ValueError(f"{parts} rules")


def _no_vocabulary(error: Exception) -> WeightsError:
    return WeightsError(
        f"this is not a vocabulary of word pieces ({error}); expected a tokenizer.json of BERT's "
        "or CLIP's kind, or a vocab.txt with one word piece a line"
    )


@contextmanager
def refused_panics() -> Iterator[None]:
    """Make a panic of the library, which is no `Exception`, a WeightsError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise WeightsError(f"the tokenizer broke down ({error}); export the model again") from error


def import_tokenizers() -> Any:
    """The library `tokenizers`, or a BackendError that says how to get it."""
    try:
        import tokenizers  # noqa: PLC0415 - only the language models need it
    except ImportError as error:
        raise BackendError(
            f"a text needs the library tokenizers, which cannot be imported ({error}); "
            "pip install tokenizers"
        ) from error
    return tokenizers
