# SPDX-License-Identifier: Apache-2.0
"""Settings as fields of a frozen dataclass: checked, and read from plain data such as YAML."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import reprlib
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar, get_type_hints

from vt_models.errors import InputError, VtModelsError

Section = TypeVar("Section")
POSITIVE, FRACTION = "greater than 0", "a fraction in [0, 1]"
PositiveInt: TypeAlias = Annotated[int, POSITIVE]
PositiveFloat: TypeAlias = Annotated[float, POSITIVE]
Fraction: TypeAlias = Annotated[float, FRACTION]
_PLURALS = {str: "texts", int: "whole numbers", float: "numbers", tuple: "lists"}


def setting(
    default: object,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field for a number, for True and False, or for one of several words.

    Args:
        default: whole where the setting is; None where it may be None.
        description: a sentence; the node shows it as that of the parameter.
        low, high: inclusive range of a number.
        choices: the words.
    """
    metadata = {"description": description, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def check_settings(settings: Any) -> None:
    """Check a dataclass whose fields are all made by `setting`.

    Raises:
        InputError: a value of another kind or out of range; the message names it.
    """
    for field in dataclasses.fields(settings):
        value, default = getattr(settings, field.name), field.default
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise InputError(f"{field.name} must be True or False, got {value!r}")
            continue
        if value is None and default is None:
            continue
        if choices := field.metadata["choices"]:
            if value not in choices:
                raise InputError(f"{field.name} is {value!r}, expected {' or '.join(choices)}")
            continue
        whole = isinstance(default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            kind = "a whole number" if whole else "a number"
            raise InputError(f"{field.name} must be {kind}, got {value!r}")
        low, high = field.metadata["low"], field.metadata["high"]
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(
                f"{field.name} is {value!r}, expected a number from {low:g} to {high:g}"
            )


def read_section(
    cls: type[Section],
    data: Any,
    at: Callable[[str], str],
    error: type[VtModelsError],
    prefix: str = "",
    default: Section | None = None,
) -> Section:
    """Read a dataclass from plain data, checked by the types of its fields.

    A number is 0 or more, and what its type is annotated with.

    Args:
        cls: the dataclass; fields may be dataclasses, tuples, texts, numbers and Literals.
        data: a mapping of its fields.
        at: key ("optim.lr") to the place that messages name.
        error: what is raised.
        prefix: of the keys, such as "optim.".
        default: what has the values that the data do not; None for the fields' own.

    Raises:
        VtModelsError: of the type `error`: an unknown or missing key, a wrong type or an impossible
            value; the message names the place, the value and what is allowed.
    """
    if not isinstance(data, dict):
        section = prefix.rstrip(".")
        raise error(f"{at(section)}: `{section}` must be a mapping.")
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise error(
                f"{at(f'{prefix}{key}')}: unknown key `{prefix}{key}`.{hint} "
                f"Allowed here: {', '.join(hints)}."
            )
        before = getattr(default, key, None)
        values[key] = _convert(hints[key], value, at, error, f"{prefix}{key}", before)
    if default is not None:
        return dataclasses.replace(default, **values)  # type: ignore[type-var]
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        has_default = {field.default, field.default_factory} != {dataclasses.MISSING}
        if field.name not in values and not has_default:
            raise error(f"{at(prefix.rstrip('.'))}: `{prefix}{field.name}:` is missing.")
    return cls(**values)


def _convert(
    kind: Any,
    value: Any,
    at: Callable[[str], str],
    error: type[VtModelsError],
    key: str,
    default: Any,
) -> Any:
    """Return a value as a field of this type has it; raise `error` where it cannot be one."""
    if dataclasses.is_dataclass(kind):
        return read_section(kind, value, at, error, f"{key}.", default)  # type: ignore[arg-type]
    wrong, shown = f"{at(key)}: `{key}`", reprlib.repr(value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        if isinstance(value, dict):
            return value
        raise error(f"{wrong} must be a mapping, not {shown}.")
    if origin is tuple:
        if isinstance(value, list) and (... in arguments or len(value) == len(arguments)):
            return tuple(
                _convert(arguments[0], entry, at, error, f"{key}[{number}]", None)
                for number, entry in enumerate(value)
            )
        count = "" if ... in arguments else f"{len(arguments)} "
        entry = arguments[0]
        if typing.get_origin(entry) is Annotated:
            entry = typing.get_args(entry)[0]
        wanted = _PLURALS.get(typing.get_origin(entry) or entry, "mappings")
        raise error(f"{wrong} must be a list of {count}{wanted}, not {shown}.")
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise error(f"{wrong} is {shown}; allowed: {', '.join(arguments)}.")
    if kind in (str, bool) and isinstance(value, kind):
        return value
    kind, rule = arguments if origin is Annotated else (kind, "")
    return _number(kind, rule, value, wrong, error)


def _number(kind: type, rule: str, value: Any, wrong: str, error: type[VtModelsError]) -> Any:
    """Return a value as a number of this type that is 0 or more and follows the rule."""
    # YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); people write 1e-4.
    readable = (int, float, str) if kind is float else (int, float)
    number, shown = None, reprlib.repr(value)
    if kind in (int, float) and isinstance(value, readable) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if number is None or (kind is int and not number.is_integer()):
        raise error(f"{wrong} must be a {kind.__name__}, not {shown}.")
    if not math.isfinite(number):
        raise error(f"{wrong} must be a finite number, but is {shown}.")
    if number < 0 or (rule == POSITIVE and number == 0):
        least = POSITIVE if rule == POSITIVE else "0 or more"
        raise error(f"{wrong} must be {least}, but is {shown}.")
    if rule == FRACTION and number > 1:
        raise error(f"{wrong} is {FRACTION}, but is {shown}.")
    return kind(number if kind is float else value)
