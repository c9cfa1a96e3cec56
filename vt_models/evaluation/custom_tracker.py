# SPDX-License-Identifier: Apache-2.0
"""A tracker of the user's own, named as `module:Class`, with `init` and `update`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.geometry.boxes import Box
from vt_models.tracker.tracker import Estimate


class CustomTracker:
    """Adapt any object with `init(frame, box)` and `update(frame)`.

    `update` returns an object with `box` and `score`, or the box alone, whose score is then 1. None
    means that the target was not found: the previous box with a score of 0.

    Args:
        reference: `module:Class`; the module is looked up as `import` does, and first in the
            working directory. The class is called without arguments.

    Raises:
        InputError: there is no such module or class, or it lacks a method.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        create = load_class(reference)
        self._tracker: Any = self._called("its constructor", create)
        self._box: Box = (0.0, 0.0, 0.0, 0.0)

    def init(self, frame: NDArray[np.uint8], box: Box) -> None:
        """Start on the target at `box` (x, y, w, h in pixels) of an (H, W, 3) uint8 RGB frame."""
        self._box = box
        self._called("init()", self._tracker.init, frame, box)

    def update(self, frame: NDArray[np.uint8]) -> Estimate:
        """Find the target in the next (H, W, 3) uint8 RGB frame.

        Raises:
            InputError: the answer is not a box of four finite numbers.
        """
        answer = self._called("update()", self._tracker.update, frame)
        if answer is None:
            return Estimate(self._box, 0.0)
        box, score = getattr(answer, "box", answer), getattr(answer, "score", 1.0)
        try:
            x, y, w, h = (float(value) for value in box)
            score = float(score)
        except (TypeError, ValueError, OverflowError):
            raise self._bad_answer(answer) from None
        if not np.isfinite((x, y, w, h, score)).all():
            raise self._bad_answer(answer)
        self._box = (x, y, w, h)
        return Estimate(self._box, score)

    def _called(self, what: str, call: Callable[..., Any], *arguments: object) -> Any:
        """Call the user's code; whatever it raises, an exit included, names the class."""
        try:
            return call(*arguments)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{self._reference}: {what} raised {type(error).__name__}: {error}"
            ) from error

    def _bad_answer(self, answer: object) -> InputError:
        return InputError(
            f"{self._reference}: update() returned {answer!r}; expected x, y, w, h in pixels, or "
            "an object with such a box and a score"
        )


def load_class(reference: str) -> type:
    """Import the class that `module:Class` names.

    Raises:
        InputError: there is none, or it has no `init` or `update`.
    """
    module_name, colon, class_name = reference.partition(":")
    if not (module_name and colon and class_name) or module_name.startswith("."):
        raise InputError(f"--tracker {reference!r}; expected module:Class, such as mine:MyTracker")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # One that the user's module imports itself is the user's to install.
        where = f"; looked in {here} and where Python looks" if error.name == module_name else ""
        raise InputError(f"--tracker {reference}: {error}{where}") from error
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--tracker {reference}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        where = getattr(module, "__file__", None) or module_name
        raise InputError(f"--tracker {reference}: {where} has no class {class_name}")
    missing = [name for name in ("init", "update") if not callable(getattr(found, name, None))]
    if missing:
        raise InputError(
            f"--tracker {reference}: the class has no {' and no '.join(missing)}; expected "
            "init(frame, box) and update(frame)"
        )
    return found


def source_file(reference: str) -> Path | None:
    """The file that defines the class of `module:Class`; None where Python does not know it."""
    file = sys.modules[load_class(reference).__module__].__file__
    return None if file is None else Path(file)
