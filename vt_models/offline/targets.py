# SPDX-License-Identifier: Apache-2.0
"""Which targets to track through a recording, and from when on; from options or a YAML file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vt_models.errors import InputError
from vt_models.files import read_bytes
from vt_models.geometry.boxes import Box
from vt_models.grounding import Grounder, check_text
from vt_models.grounding.onnx_detector import OnnxDetector, open_detector
from vt_models.grounding.point import thing_at
from vt_models.video.sources import Frame

Point = tuple[float, float]

MOST_TARGETS = 32
"""Each has a network of its own in memory."""
_MOST_BYTES = 2**20
_KEYS = ("name", "at", "box", "text", "point")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class TargetPlan:
    """A target, and where it is when its tracking begins.

    Attributes:
        name: of the target, as a node would be called: letters, digits and _.
        at: seconds since the first frame of the recording, by its stamps.
        box: x, y, w, h in pixels; None: it is found by the text or the point.
        text: the description; empty: none.
        point: x, y in pixels of which the object is the target; None: none.

    Raises:
        InputError: no place or two, a bad name, a time that is none.
    """

    name: str
    at: float = 0.0
    box: Box | None = None
    text: str = ""
    point: Point | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"a target is called {self.name!r}; expected a letter, then at most 63 letters, "
                "digits and _"
            )
        if not 0.0 <= self.at < math.inf:
            raise InputError(f"target {self.name}: at is {self.at}; expected seconds, 0 or more")
        if self.point is not None and (self.box is not None or self.text):
            raise InputError(f"target {self.name}: a point is given beside a box or a text")
        if self.point is None and self.box is None and not self.text:
            raise InputError(f"target {self.name}: give its box, text or point")
        for numbers in (self.box, self.point):
            if numbers is not None and not all(map(math.isfinite, numbers)):
                raise InputError(f"target {self.name}: {numbers} is not finite")
        if self.text:
            check_text(self.text)


def read_plans(path: Path) -> list[TargetPlan]:
    """Read a YAML file: `targets:`, a list of mappings with the fields of `TargetPlan`.

    Raises:
        InputError: missing, too large, no such YAML, no target, too many, or two of one name.
    """
    try:
        data = yaml.safe_load(read_bytes(path, _MOST_BYTES))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is no YAML: {error}") from error
    listed = data.get("targets") if isinstance(data, dict) else None
    if not isinstance(listed, list) or set(data) != {"targets"}:
        raise InputError(f"{path}: expected `targets:` and a list of them, nothing else")
    if not 0 < len(listed) <= MOST_TARGETS:
        raise InputError(f"{path} has {len(listed)} targets; expected 1 to {MOST_TARGETS}")
    plans = [_read_plan(f"{path}: targets[{index}]", one) for index, one in enumerate(listed)]
    names = [plan.name for plan in plans]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: two targets are called {twice}; their topics would be the same")
    return plans


def _read_plan(where: str, data: Any) -> TargetPlan:
    if not isinstance(data, dict):
        raise InputError(f"{where} is no mapping; its keys are {', '.join(_KEYS)}")
    unknown = [str(key) for key in data if key not in _KEYS]
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]}; its keys are {', '.join(_KEYS)}")
    values: dict[str, Any] = dict(data)
    for key in ("name", "text"):
        if not isinstance(values.get(key, ""), str):
            raise InputError(f"{where}: {key} is {values[key]!r}; expected a text")
    for key, count in (("box", 4), ("point", 2)):
        if values.get(key) is not None:
            numbers = values[key]
            if not isinstance(numbers, list) or len(numbers) != count:
                raise InputError(f"{where}: {key} is {numbers!r}; expected {count} numbers")
            values[key] = tuple(_number(where, key, one) for one in numbers)
    values["at"] = _number(where, "at", values.get("at", 0.0))
    if "name" not in values:
        raise InputError(f"{where} has no name")
    try:
        return TargetPlan(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: {key} has {value!r}; expected a number")
    return float(value)


class TargetFinder:
    """Finds the box of a target by its text or its point; loads what it needs for that once.

    Args:
        grounder: makes what finds a text.
    """

    def __init__(self, grounder: Callable[[], Grounder]) -> None:
        self._make_grounder = grounder
        self._grounder: Grounder | None = None
        self._detector: OnnxDetector | None = None

    def find(self, plan: TargetPlan, frame: Frame) -> tuple[Box, str]:
        """Return the box of a target in a (H, W, 3) uint8 RGB frame, and what decided.

        Raises:
            InputError: nothing is found, or several things that cannot be told apart.
        """
        if plan.box is not None:
            return plan.box, ""
        if plan.point is not None:
            x, y = plan.point
            if self._detector is None:
                self._detector = open_detector(None, "cpu", 1)
            found = thing_at(self._detector, frame, plan.point, lambda: False)
            if found is None:
                raise InputError(f"no object was found at the point ({x:g}, {y:g}); give its box")
            return found.box, f"an object at ({x:g}, {y:g}), confidence {found.score:.2f}"
        if self._grounder is None:
            self._grounder = self._make_grounder()
        grounding = self._grounder.find(frame, plan.text)
        if grounding.chosen is None:
            places = "; ".join(as_option(one.box) for one in grounding.candidates)
            raise InputError(f"{grounding.reason}. Give one box{': ' + places if places else ''}")
        return grounding.chosen.box, grounding.reason


def as_option(box: Box) -> str:
    """Return a box as `--box` takes it."""
    return ",".join(f"{value:.1f}" for value in box)
