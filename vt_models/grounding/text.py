# SPDX-License-Identifier: Apache-2.0
"""The text of a request, made safe."""

from __future__ import annotations

import unicodedata

from vt_models.errors import InputError

_SHOWN = 40
_JOINERS = "\u200c\u200d"  # part of words in Persian, Hindi and others


def check_text(text: object, max_length: int = 1000) -> str:
    """A description as the backends get it: valid Unicode (NFC), on one line, bounded.

    Control characters and line breaks count as a space, and runs of white space become one space.
    Format characters (direction overrides, byte order marks, soft hyphens) are dropped, other than
    the joiners that some scripts are written with. Lone surrogates count as a question mark.

    Args:
        text: what a user typed.
        max_length: characters, before and after.

    Raises:
        InputError: not a string, longer than `max_length`, or nothing to read in it.

    >>> check_text("  the white car   on the left ")
    'the white car on the left'
    """
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, got {type(text).__name__}")
    _check_length(text, max_length)
    valid = text.encode("utf-8", "replace").decode("utf-8")
    composed = unicodedata.normalize("NFC", valid)
    cleaned = " ".join("".join(map(_printable, composed)).split())
    _check_length(cleaned, max_length)
    if not any(unicodedata.category(character)[0] in "LNS" for character in cleaned):
        given = f"{text[:_SHOWN]!r}" + ("..." if len(text) > _SHOWN else "")
        raise InputError(f"the text {given} holds no word; describe the target, e.g. 'the red car'")
    return cleaned


def prompt_of(text: str, lower_case: bool, ending: str, separators: str) -> str:
    """A description as a network was trained on it.

    >>> prompt_of("The man in the U.S. shirt?", True, ".", ".?")
    'the man in the u s shirt.'
    """
    kept = "".join(" " if character in separators else character for character in text)
    words = " ".join(kept.split())
    return (words.lower() if lower_case else words) + ending


def _check_length(text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise InputError(
            f"the text has {len(text)} characters, at most {max_length} are read; "
            "describe the target in one sentence"
        )


def _printable(character: str) -> str:
    """The character itself, a space, or nothing."""
    category = unicodedata.category(character)
    if category == "Cf":
        return character if character in _JOINERS else ""
    return " " if category in ("Cc", "Zl", "Zp") else character
