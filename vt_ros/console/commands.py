# SPDX-License-Identifier: Apache-2.0
"""What a browser may say: each message is checked as a stranger's before anything acts on it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vt_ros.common.convert import Box

MOST_MESSAGE_BYTES = 8192
"""Of one message from a browser; a text of 1000 characters takes half of it."""

_MOST_TEXT = 1000  # characters, as SetTarget.srv says
_MOST_NUMBER = 2**53 - 1  # integers that JavaScript tells apart
_MOST_REAL = 1e15  # milliseconds of a browser that has been open for long
_MOST_PIXELS = 1e5  # the largest image has 32766 a side
_LAST_STAMP = (2**31 - 1) * 10**9  # builtin_interfaces/Time has an int32 of seconds
_LONGEST_VALUE = 200  # characters of a parameter's text


class CommandError(ValueError):
    """A message of a browser that is refused; the text is one sentence.

    Args:
        reason: what was wrong, and the value.
        number: that the browser gave the message; None where there was none to read.
    """

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


@dataclass(frozen=True)
class Shown:
    """The browser has a frame on its screen; it was there `transfer` seconds after its mark."""

    tracker: int
    frame: int
    transfer: float


@dataclass(frozen=True)
class View:
    """The browser shows a tile `width` pixels wide; 0: not at all."""

    tracker: int
    width: int


@dataclass(frozen=True)
class Clock:
    """A question for the time; `sent` is given back as it came."""

    sent: float


@dataclass(frozen=True)
class Start:
    """Start a target: by a box, a point or a text, a box and a text together.

    Attributes:
        number: of the request, for its answer.
        stamp: of the frame that it was drawn on, nanoseconds.
        box: x, y, w, h in pixels of the source image.
        point: x, y in the same.
        text: description; empty: none.
    """

    tracker: int
    number: int
    stamp: int
    box: Box | None
    point: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class Stop:
    """Forget the target."""

    tracker: int
    number: int


@dataclass(frozen=True)
class Confirm:
    """Say whether the target that waits for confirmation is the right one."""

    tracker: int
    number: int
    accept: bool


@dataclass(frozen=True)
class SaveRecording:
    """Have the flight recorder write what led to now."""

    tracker: int
    number: int


@dataclass(frozen=True)
class SetParameter:
    """Change one parameter of a tracker."""

    tracker: int
    number: int
    name: str
    value: bool | int | float | str


Request = Start | Stop | Confirm | SaveRecording | SetParameter
"""What changes something, and is answered."""

Command = Shown | View | Clock | Request


def parse_command(message: str, trackers: int) -> Command:
    """Read a message of a browser.

    Args:
        message: JSON text.
        trackers: how many there are; a message about another one is refused.

    Raises:
        CommandError: it is none of the messages above, or a value in it makes no sense.
    """
    if len(message) > MOST_MESSAGE_BYTES:
        raise CommandError(f"message of {len(message)} characters, at most {MOST_MESSAGE_BYTES}")
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        raise CommandError("message is not JSON") from None
    if not isinstance(content, dict):
        raise CommandError("message is not a JSON object")
    kind = content.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise CommandError(f"type is {_shown(kind)}, expected one of {', '.join(_READERS)}")
    number = content.get("id")
    try:
        return read(_Fields(content, trackers))
    except CommandError as error:
        raise CommandError(str(error), number if type(number) is int else None) from None


class _Fields:
    """The fields of a message by name, each checked when it is taken."""

    def __init__(self, content: Mapping[str, Any], trackers: int) -> None:
        self._content, self._trackers = content, trackers

    def integer(self, name: str, most: int = _MOST_NUMBER) -> int:
        value = self._content.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise CommandError(f"{name} is {_shown(value)}, expected an integer from 0 to {most}")
        return value

    def tracker(self) -> int:
        return self.integer("tracker", self._trackers - 1)

    def number(self) -> int:
        return self.integer("id")

    def boolean(self, name: str) -> bool:
        value = self._content.get(name)
        if type(value) is not bool:
            raise CommandError(f"{name} is {_shown(value)}, expected true or false")
        return value

    def real(self, name: str) -> float:
        return _finite(name, self._content.get(name), _MOST_REAL)

    def stamp(self) -> int:
        """Nanoseconds, as text: JavaScript's numbers would round them."""
        value = self._content.get("stamp")
        digits = value if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value) else "-1"
        stamp = int(digits)
        if not 0 <= stamp <= _LAST_STAMP:
            raise CommandError(f"stamp is {_shown(value)}, expected nanoseconds as text")
        return stamp

    def pixels(self, name: str, count: int) -> tuple[float, ...] | None:
        """So many pixel coordinates; None where the field is not there."""
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise CommandError(f"{name} is {_shown(value)}, expected {count} numbers")
        return tuple(_finite(name, item, _MOST_PIXELS) for item in value)

    def text(self, name: str, most: int) -> str:
        value = self._content.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            raise CommandError(f"{name} is {_shown(value)}, expected at most {most} characters")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise CommandError(f"{name} has half a character in it; write it again")
        if "\0" in value:
            raise CommandError(f"{name} has a character of code 0 in it; write it again")
        return value

    def value(self) -> bool | int | float | str:
        value = self._content.get("value")
        if isinstance(value, str):
            return self.text("value", _LONGEST_VALUE)
        if type(value) is int and abs(value) <= _MOST_NUMBER:
            return value
        if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
            return value
        raise CommandError(f"value is {_shown(value)}, expected a truth value, a number or a text")


def _start(fields: _Fields) -> Start:
    box, point = fields.pixels("box", 4), fields.pixels("point", 2)
    text = fields.text("text", _MOST_TEXT).strip()
    if box is not None and point is not None:
        raise CommandError("box and point are both given; give one of them")
    if box is None and point is None and not text:
        raise CommandError("there is no box, point or text to start on")
    if box is not None and not (box[2] > 0 and box[3] > 0):
        raise CommandError(f"box is {_shown(list(box))}, expected a width and a height above 0")
    if point is not None and text:
        raise CommandError("a point is given with a text; give a box with a text, or one alone")
    return Start(
        fields.tracker(),
        fields.number(),
        fields.stamp(),
        None if box is None else (box[0], box[1], box[2], box[3]),
        None if point is None else (point[0], point[1]),
        text,
    )


def _set_parameter(fields: _Fields) -> SetParameter:
    name = fields.text("name", _LONGEST_VALUE)
    if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
        raise CommandError(f"name is {_shown(name)}, expected the name of a parameter")
    return SetParameter(fields.tracker(), fields.number(), name, fields.value())


_READERS: dict[str, Callable[[_Fields], Command]] = {
    "shown": lambda fields: Shown(
        fields.tracker(), fields.integer("frame"), fields.real("transfer_ms") / 1e3
    ),
    "view": lambda fields: View(fields.tracker(), fields.integer("width", 16384)),
    "clock": lambda fields: Clock(fields.real("sent")),
    "start": _start,
    "stop": lambda fields: Stop(fields.tracker(), fields.number()),
    "confirm": lambda fields: Confirm(fields.tracker(), fields.number(), fields.boolean("accept")),
    "save_recording": lambda fields: SaveRecording(fields.tracker(), fields.number()),
    "set_parameter": _set_parameter,
}


def _finite(name: str, value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CommandError(f"{name} has {_shown(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > most:
        raise CommandError(f"{name} has {_shown(value)}, expected a number within {most:g}")
    return number


def _shown(value: object) -> str:
    """Return a value as it may stand in a message: short, on one line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
