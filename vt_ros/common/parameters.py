# SPDX-License-Identifier: Apache-2.0
"""Node parameters as tables: name, default, description, range, and whether they change live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

Value = bool | int | float | str


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
    default: Value
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
        """Return why a value is not among the choices; empty when it is fine."""
        if not self.choices or value in self.choices:
            return ""
        return f"{self.name} is {value!r}, expected one of {', '.join(self.choices)}"


def declare(node: Node, settings: Iterable[Setting]) -> None:
    """Declare a table of parameters on a node; a choice that is not offered is refused.

    An old name is accepted at start and in requests to set parameters, with one warning in the log
    that names the new one. Where both are given at start, or in one atomic request, the new one
    counts. Old names are not declared: they are not listed, and reading one gives nothing.

    Raises:
        rclpy.exceptions.ParameterException: a value given at start is of the wrong type, out of
            range or not among the choices.
    """
    table = {setting.name: setting for setting in settings}

    def check(parameters: list[Parameter]) -> SetParametersResult:
        refusals = [
            table[parameter.name].refusal(parameter.value)
            for parameter in parameters
            if parameter.name in table
        ]
        reason = "; ".join(filter(None, refusals))
        return SetParametersResult(successful=not reason, reason=reason)

    node.add_on_set_parameters_callback(check)
    for setting in table.values():
        node.declare_parameter(setting.name, setting.default, setting.descriptor())
    _accept_old_names(node, {s.old_name: s.name for s in table.values() if s.old_name})


def _accept_old_names(node: Node, new_names: dict[str, str]) -> None:
    """Let a node take parameters by names of the previous release, at start and from now on."""
    warned: set[str] = set()

    def translate(parameters: list[Parameter]) -> list[Parameter]:
        given = {parameter.name for parameter in parameters}
        translated = []
        for parameter in parameters:
            new = new_names.get(parameter.name)
            if new is None:
                translated.append(parameter)
                continue
            _warn_of_old_name(node, parameter.name, new, new in given, warned)
            if new not in given:
                translated.append(Parameter(new, parameter.type_, parameter.value))
        return translated

    # rclpy has no public way to what was given at start for a name that is not declared.
    overrides = node._parameter_overrides  # noqa: SLF001
    for old, new in new_names.items():
        if old not in overrides:
            continue
        _warn_of_old_name(node, old, new, new in overrides, warned)
        if new not in overrides:
            value = overrides[old].value
            (result,) = node.set_parameters([Parameter(new, value=value)])
            if not result.successful:
                raise InvalidParameterValueException(new, value, result.reason)
    if new_names:
        node.add_pre_set_parameters_callback(translate)


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
