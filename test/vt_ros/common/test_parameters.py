# SPDX-License-Identifier: Apache-2.0
"""What a parameter refuses."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from vt_models.errors import InputError
from vt_ros.common.parameters import Setting, check_ros_name, declare, freeze


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_refused(value):
    """A range lets not-a-number pass: nothing is less or more than it."""
    setting = Setting("seconds", 1.0, "Of something.", 0.0, 60.0)
    assert f"seconds is {value!r}, expected a finite number" in setting.refusal(value)
    assert not setting.refusal(0.5)


def test_text_of_megabytes_is_refused_without_being_repeated():
    """It would be in every message of /diagnostics."""
    many = ["*" * 1000] * 5
    for setting, value in (
        (Setting("text", "", "A name."), "x" * 30_000_000),
        (Setting("one", "a", "A word.", choices=("a", "b")), "x" * 30_000_000),
        (Setting("texts", [""], "Names."), many),
    ):
        reason = setting.refusal(value)
        assert "characters, expected 4096 at most" in reason
        assert len(reason) < 100
    assert not Setting("text", "", "A name.").refusal("x" * 4096)
    assert not Setting("texts", [""], "Names.").refusal(many[:4])


@pytest.mark.parametrize("name", ["tracker", "/robot/tracker", "~/tracker", "_a1/b"])
def test_names_are_relative_private_or_absolute(name):
    check_ros_name("tracker", name, "a node")


@pytest.mark.parametrize("name", ["", "/", "a b", "a//b", "a/", "//a", "~a", "1st", "a/1st", "a\n"])
def test_what_nothing_in_ros_can_be_called_is_refused(name):
    with pytest.raises(InputError) as refused:
        check_ros_name("tracker", name, "a node")
    assert str(refused.value) == f"tracker is {name!r}, expected the name of a node"


SETTINGS = (
    Setting("text", "", "A name.", live=True),
    Setting("number", 1.5, "Of something.", 0.0, 60.0),
    Setting("count", 3, "Of something.", 0, 60),
    Setting("start", True, "At start.", read_only=True),
    Setting("new", "", "Renamed.", old_name="old"),
)


@pytest.fixture
def node_with(ros):
    """Make a node that is given parameters as on a command line."""
    context = rclpy.Context()
    nodes = []

    def make(*given):
        arguments = ["--ros-args", *(word for one in given for word in ("-p", one))]
        rclpy.init(args=arguments, context=context, domain_id=ros.domain)
        nodes.append(rclpy.create_node("parameters", context=context))
        declare(nodes[0], SETTINGS)
        return nodes[0]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.ros
@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ("text:=0", "text", "0"),
        ("text:=841512070000", "text", "841512070000"),
        ("text:=1.5", "text", "1.5"),
        ("number:=5", "number", 5.0),
        ("old:=7", "new", "7"),
    ],
)
def test_declare_takes_a_number_for_a_text_and_an_integer_for_a_float(
    node_with, given, name, value
):
    node = node_with(given)
    assert node.get_parameter(name).value == value
    assert type(node.get_parameter(name).value) is type(value)


@pytest.mark.ros
@pytest.mark.parametrize(
    "given",
    [
        *("count:=1.5", "count:=many", "text:=true", "start:=1"),
        *("text:=nan", "text:=.inf", "text:=-.inf", "old:=nan"),
    ],
)
def test_declare_refuses_what_is_no_number_for_a_text(node_with, given):
    with pytest.raises(ParameterException, match=given.partition(":")[0].replace("old", "new")):
        node_with(given)


@pytest.mark.ros
def test_parameters_may_be_set_to_what_they_are(node_with):
    """So `ros2 param load` takes a node's own dump, with what may not change in it."""
    node = node_with()
    freeze(node, SETTINGS, "restart the node")
    own = [node.get_parameter(setting.name) for setting in SETTINGS]
    assert all(result.successful for result in node.set_parameters(own))
    assert node.set_parameters_atomically(own).successful
    assert node.set_parameters([Parameter("text", value=2024)])[0].successful
    assert node.get_parameter("text").value == "2024"
    for name, value in (("start", False), ("count", 4)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful, name
        assert name in result.reason


@pytest.mark.ros
@pytest.mark.parametrize(
    ("kind", "field", "one"),
    [
        (DescribeParameters, "names", "text"),
        (GetParameters, "names", "text"),
        (GetParameterTypes, "names", "text"),
        (ListParameters, "prefixes", "text"),
        (SetParameters, "parameters", Parameter("text", value="a").to_parameter_msg()),
        (SetParametersAtomically, "parameters", Parameter("text", value="a").to_parameter_msg()),
    ],
)
def test_request_for_very_many_parameters_is_refused_at_once(node_with, kind, field, one):
    """The executor would have no time for images until it had worked through them."""
    node = node_with()
    calls = []
    (service,) = (service for service in node.services if service.srv_type is kind)
    node.get_parameter = node.describe_parameter = calls.append
    response = service.callback(kind.Request(**{field: [one] * 300_000}), kind.Response())
    assert not calls
    results = [getattr(response, "result", None), *getattr(response, "results", [])]
    if field == "parameters":
        refused = next(result for result in results if result is not None)
        assert not refused.successful
        assert refused.reason == "300000 parameters in a request, expected 256 at most"
    assert node._parameters["text"].value == ""
