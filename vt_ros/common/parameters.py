# SPDX-License-Identifier: Apache-2.0
"""Node parameters as tables: name, default, description, range, and whether they change live."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time_source import USE_SIM_TIME_NAME as USE_SIM_TIME

from vt_models.errors import InputError

Value = bool | int | float | str

_LONGEST_TEXT = 4096
"""Characters: of a path or an address. Some texts are in every message of `/diagnostics`."""
_MOST_IN_A_REQUEST = 256
"""Several times what a node has; 300,000 would keep its executor from images for a minute."""

_ROS_NAME = re.compile(r"(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True)
class Setting:
    """One parameter of a node.

    Attributes:
        name: as users write it; a dot makes a group.
        default: its value and its type.
        description: shown by `ros2 param describe`.
        low, high: inclusive range of a number.
        choices: the only strings allowed; empty: any.
        live: may change at any time; otherwise only while the node is not at work.
        read_only: counts at start, and never changes.
        old_name: that it had in the previous release, still accepted in its place; empty: none.
    """

    name: str
    default: Any  # Value, or strings in a list
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    read_only: bool = False
    old_name: str = ""  # those of 0.1 are accepted until 0.2

    def descriptor(self) -> ParameterDescriptor:
        """Return what ROS is told about this parameter; rclpy enforces type and range."""
        message = ParameterDescriptor(
            name=self.name, description=self.description, read_only=self.read_only
        )
        if self.choices:
            message.additional_constraints = f"one of {', '.join(self.choices)}"
        if self.low is None or self.high is None:
            return message
        if isinstance(self.default, float):
            message.floating_point_range = [
                FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            ]
        else:
            message.integer_range = [
                IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)
            ]
        return message

    def refusal(self, value: object) -> str:
        """Return why a value is too long, not finite or none of the choices; else nothing."""
        if isinstance(value, float) and not math.isfinite(value):
            return f"{self.name} is {value!r}, expected a finite number"
        texts = value if isinstance(value, list) else [value]
        length = sum(len(text) for text in texts if isinstance(text, str))
        if length > _LONGEST_TEXT:
            return f"{self.name} has {length} characters, expected {_LONGEST_TEXT} at most"
        if not self.choices or value in self.choices:
            return ""
        return f"{self.name} is {value!r}, expected one of {', '.join(self.choices)}"


# What several nodes have.
AUTOSTART = Setting(
    "autostart",
    True,
    "Configure and activate by itself at start; else a manager does.",
    read_only=True,
)
HARDWARE_ID = Setting("hardware_id", "none", "hardware_id in /diagnostics.", live=True)
TRACKER = Setting("tracker", "tracker", "Name of the tracker node, relative or absolute.")


def declare(node: Node, settings: Iterable[Setting]) -> None:
    """Declare a table of parameters on a node; a choice that is not offered is refused.

    A number is accepted where a text is wanted (`source:=0`), and an integer where a float is. What
    has the value already is accepted, also where it may not change, so that a node takes its own
    `ros2 param dump`.

    An old name is accepted at start and in requests to set parameters, with one warning in the log
    that names the new one. Where both are given at start, or in one atomic request, the new one
    counts. Old names are not declared: they are not listed, and reading one gives nothing.

    A request for more than 256 parameters is refused, whatever it asks: working through it would
    keep the node from everything else.

    Raises:
        rclpy.exceptions.ParameterException: a value given at start is of the wrong type, out of
            range or not among the choices.
    """
    table = {setting.name: setting for setting in settings}
    new_names = {setting.old_name: name for name, setting in table.items() if setting.old_name}
    warned: set[str] = set()

    def check(parameters: list[Parameter]) -> SetParametersResult:
        refusals = [
            table[parameter.name].refusal(parameter.value)
            for parameter in parameters
            if parameter.name in table
        ]
        reason = "; ".join(filter(None, refusals))
        return SetParametersResult(successful=not reason, reason=reason)

    def translate(parameters: Iterable[Parameter]) -> list[Parameter]:
        given = {parameter.name for parameter in parameters}
        translated = []
        for parameter in parameters:
            new = new_names.get(parameter.name, parameter.name)
            if new != parameter.name:
                _warn_of_old_name(node, parameter.name, new, new in given, warned)
                if new in given:
                    continue
            translated.append(_fitted(parameter, new, table.get(new)))
        return translated

    def translate_and_shorten(parameters: list[Parameter]) -> list[Parameter]:
        changed = [one for one in translate(parameters) if not _is_present_value(node, one)]
        # rclpy refuses to set nothing; this is on every node, and may be set.
        return changed or [node.get_parameter(USE_SIM_TIME)]

    # rclpy has no public way to what was given at start for a name that is not declared.
    overrides = node._parameter_overrides  # noqa: SLF001
    for parameter in translate(list(overrides.values())):
        overrides[parameter.name] = parameter
    for old in new_names:
        overrides.pop(old, None)
    node.add_on_set_parameters_callback(check)
    for setting in table.values():
        node.declare_parameter(setting.name, setting.default, setting.descriptor())
    node.add_pre_set_parameters_callback(translate_and_shorten)
    for service in node.services:
        if service.srv_type in _ASKED:
            service.callback = _refusing_many(node, service.srv_type, service.callback)


# The parameter services, and the field of the request that holds what is asked for.
_ASKED: dict[type, str] = {
    DescribeParameters: "names",
    GetParameters: "names",
    GetParameterTypes: "names",
    ListParameters: "prefixes",
    SetParameters: "parameters",
    SetParametersAtomically: "parameters",
}


def _refusing_many(node: Node, kind: Any, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callback of a parameter service that refuses a request for too many of them."""

    def guarded(request: Any, response: Any) -> Any:
        count = len(getattr(request, _ASKED[kind]))
        if count <= _MOST_IN_A_REQUEST:
            return answer(request, response)
        reason = f"{count} parameters in a request, expected {_MOST_IN_A_REQUEST} at most"
        node.get_logger().warning(f"refused: {reason}", throttle_duration_sec=1.0)
        refusal = SetParametersResult(successful=False, reason=reason)
        if kind is SetParameters:
            response.results = [refusal]
        elif kind is SetParametersAtomically:
            response.result = refusal
        return response

    return guarded


def _fitted(parameter: Parameter, name: str, setting: Setting | None) -> Parameter:
    """Return a parameter under a name, a number as the text or float that its setting wants.

    A number that is not finite is no text: YAML makes one of the bare words .nan and nan.
    """
    wanted, value = type(setting.default) if setting else None, parameter.value
    is_number = type(value) in (int, float) and math.isfinite(value)
    if (wanted is str and is_number) or (wanted is float and type(value) is int):
        return Parameter(name, value=wanted(value))
    return Parameter(name, parameter.type_, value)


def _is_present_value(node: Node, parameter: Parameter) -> bool:
    """Return whether a parameter is declared, and has this value."""
    if not node.has_parameter(parameter.name):
        return False
    present = node.get_parameter(parameter.name)
    return bool(present.type_ == parameter.type_ and present.value == parameter.value)


def _warn_of_old_name(node: Node, old: str, new: str, both: bool, warned: set[str]) -> None:
    """Say that a parameter has another name now; if both are given, every time."""
    if both:
        node.get_logger().warning(f"both {old} and {new} are given; {new} counts, its new name")
    elif old not in warned:
        node.get_logger().warning(
            f"the parameter {old} is now called {new}; the old name goes with the next release"
        )
    warned.add(old)


def freeze(
    node: Node, settings: Iterable[Setting], remedy: str, frozen: Callable[[], bool] | None = None
) -> None:
    """Refuse changes of parameters that are not live, from now on.

    Args:
        node: they are declared on.
        settings: the node's table.
        remedy: what to do instead, a clause.
        frozen: asked at every change; None: always.
    """
    fixed = {setting.name for setting in settings if not setting.live}

    def check(parameters: list[Parameter]) -> SetParametersResult:
        names = sorted(parameter.name for parameter in parameters if parameter.name in fixed)
        if not names or (frozen is not None and not frozen()):
            return SetParametersResult(successful=True)
        reason = f"{', '.join(names)} cannot change now; {remedy}"
        return SetParametersResult(successful=False, reason=reason)

    node.add_on_set_parameters_callback(check)


def lock(node: Node, patterns: Sequence[str], locked: Callable[[], bool]) -> None:
    """Refuse changes of parameters whose names match, from the moment they are locked.

    Args:
        node: the parameters are declared on.
        patterns: of names, with `*` and `?`.
        locked: asked at every change.
    """

    def check(parameters: list[Parameter]) -> SetParametersResult:
        names = [
            parameter.name
            for parameter in parameters
            if any(fnmatchcase(parameter.name, pattern) for pattern in patterns)
            and not _is_present_value(node, parameter)
        ]
        if not names or not locked():
            return SetParametersResult(successful=True)
        reason = (
            f"{', '.join(names)} may not change since the node has been active (parameter locked); "
            "start it anew with the value, or with another `locked`"
        )
        return SetParametersResult(successful=False, reason=reason)

    node.add_on_set_parameters_callback(check)


def refuse_if(node: Node, objection: Callable[[Callable[[str], Value]], str]) -> None:
    """Refuse changes that are wrong together.

    Args:
        node: the parameters are declared on.
        objection: given a lookup of values as they would be, says what is wrong with them; empty
            when they are fine.
    """

    def check(parameters: list[Parameter]) -> SetParametersResult:
        changed = {parameter.name: parameter.value for parameter in parameters}

        def value(name: str) -> Value:
            return changed[name] if name in changed else value_of(node, name)

        reason = objection(value)
        return SetParametersResult(successful=not reason, reason=reason)

    node.add_on_set_parameters_callback(check)


def value_of(node: Node, name: str) -> Value:
    """Return the present value of a declared parameter."""
    value: Value = node.get_parameter(name).value
    return value


def check_ros_name(parameter: str, name: str, kind: str) -> None:
    """Check a name in ROS: relative, private (`~/`) or absolute, its parts between single slashes.

    Args:
        parameter: that the name is of; it stands in the error.
        name: the name.
        kind: "a node", "a topic" or "an action".

    Raises:
        InputError: nothing of that kind can have this name.
    """
    if not _ROS_NAME.fullmatch(name):
        raise InputError(f"{parameter} is {name!r}, expected the name of {kind}")
