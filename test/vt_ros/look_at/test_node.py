# SPDX-License-Identifier: Apache-2.0
"""The node as a process, over DDS and UDP: each output, bad messages, silence, transitions."""

from __future__ import annotations

import contextlib
import math
import socket
import threading

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("trajectory_msgs", reason="make setup installs it")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from vt_interfaces.msg import TrackStatus
from vt_ros.mavlink.messages import (
    Command,
    CommandAck,
    CommandLong,
    ComponentType,
    FrameReader,
    GimbalManagerSetPitchyaw,
    Heartbeat,
    Result,
    encode,
)

pytestmark = pytest.mark.ros

RIGHT = {"state": TrackStatus.STATE_TRACKING, "azimuth": 0.2, "elevation": 0.0}
KINDS = {
    bool: ("bool_value", ParameterType.PARAMETER_BOOL),
    float: ("double_value", ParameterType.PARAMETER_DOUBLE),
    str: ("string_value", ParameterType.PARAMETER_STRING),
}


@pytest.fixture(scope="module")
def process(shared_ros):
    """One node for all tests; a loaded machine may be late by more than the defaults allow."""
    return shared_ros.start(
        "look_at",
        dead_time__measure=False,
        silence_timeout=0.5,
        max_image_age=2.0,
        lost__wait=0.0,
    )


class Bench:
    """Says what a tracker would say, twenty times a second, and reads the diagnostics."""

    def __init__(self, ros):
        self.ros = ros
        self.publisher = ros.publisher(TrackStatus, "tracker/status")
        self._diagnostics = ros.collect(DiagnosticArray, "/diagnostics")

    def status(self, frame_id="optical", age=0.0, **fields):
        now = self.ros.node.get_clock().now().nanoseconds - round(age * 1e9)
        header = Header(frame_id=frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(now, 1_000_000_000)
        return TrackStatus(header=header, target_id=1, **{**RIGHT, **fields})

    @contextlib.contextmanager
    def saying(self, **fields):
        ended = threading.Event()

        def say():
            while not ended.wait(0.05):
                self.publisher.publish(self.status(**fields))

        thread = threading.Thread(target=say)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def diagnosed(self, task, words, level=DiagnosticStatus.WARN):
        """Wait until a task of the node says something; its values."""

        def told():
            for message in reversed(self._diagnostics):
                for status in message.status:
                    if status.name == f"look_at: {task}":
                        good = words in status.message and status.level == level
                        return {one.key: one.value for one in status.values} if good else None
            return None

        self._diagnostics.clear()
        self.ros.until(lambda: told() is not None, f"{words!r} in the diagnostics of {task}")
        return told()

    def set(self, name, value):
        field, kind = KINDS[type(value)]
        value = ParameterValue(type=kind, **{field: value})
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        (result,) = self.ros.call(SetParameters, "look_at/set_parameters", request).results
        return result

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.ros.call(ChangeState, "look_at/change_state", request).success

    def use_output(self, output, **parameters):
        self.change(Transition.TRANSITION_DEACTIVATE)
        for name, value in {"output": output, **parameters}.items():
            assert self.set(name.replace("__", "."), value).successful
        self.change(Transition.TRANSITION_ACTIVATE)


@pytest.fixture
def bench(process, guest):
    bench = Bench(guest)
    yield bench
    assert process.alive, process.output
    assert "Traceback" not in process.output


def test_twist_turns_to_the_target_and_is_zero_after_silence_and_bad_messages(bench):
    ros = bench.ros
    bench.diagnosed("output", "nobody subscribes /look_at/cmd_vel")
    commands = ros.collect(TwistStamped, "look_at/cmd_vel")

    def turning():
        return bool(commands) and commands[-1].twist.angular.z < -0.1

    def still():
        return bool(commands) and commands[-1].twist.angular.z == 0.0

    with bench.saying():
        ros.until(turning, "a turn to the right")
        assert commands[-1].header.frame_id == "base_link"
        assert commands[-1].twist.angular.y == pytest.approx(0.0, abs=0.05)
        values = bench.diagnosed("camera", "following the target", DiagnosticStatus.OK)
        assert float(values["pan rate"]) > 0.0
    ros.until(still, "zero rates after silence")
    bad = (
        ({"azimuth": math.nan, "elevation": math.nan}, "no usable camera_info"),
        ({"azimuth": 12.0}, "radians from -pi to pi"),
        ({"frame_id": "rear"}, "expected 'optical'"),
        ({"frame_id": "f" * 5000}, "frame_id has 5000 characters"),
        ({"age": 30.0}, "synchronise the clocks"),
        ({"state": 17}, "the state is 17"),
    )
    number = len(commands)
    for fields, words in bad:
        with bench.saying(**fields):
            ros.until(lambda words=words: words in ros.logs(), words)
    assert len(commands) - number < 100  # zeros for a second, and then nothing
    assert not any(command.twist.angular.z for command in commands[number:])
    with bench.saying():
        ros.until(turning, "a turn after bad messages")
        bench.change(Transition.TRANSITION_DEACTIVATE)
    ros.until(still, "zero rates at the end")
    number = len(commands)
    bench.diagnosed("camera", "the node is inactive", DiagnosticStatus.STALE)
    assert len(commands) == number
    bench.change(Transition.TRANSITION_ACTIVATE)


def test_parameters_are_live_or_refused_with_a_reason(bench):
    result = bench.set("lost.action", "home")
    assert not result.successful
    assert "nobody says where the camera stands" in result.reason
    result = bench.set("output", "mavlink")
    assert not result.successful
    assert "deactivate the node first" in result.reason
    commands = bench.ros.collect(TwistStamped, "look_at/cmd_vel")
    assert bench.set("max_rate", 0.05).successful
    with bench.saying():
        bench.ros.until(
            lambda: commands and commands[-1].twist.angular.z == pytest.approx(-0.05),
            "the largest rate",
        )
        answer = bench.ros.call(Trigger, "look_at/measure_dead_time")
        assert answer.success
        bench.diagnosed("camera", "measuring", DiagnosticStatus.OK)
    assert bench.set("max_rate", 1.0).successful


def test_joints_are_led_from_where_they_are(bench):
    ros = bench.ros
    bench.use_output("joint_trajectory", joints__pan="neck", joints__tilt="head")
    bench.diagnosed("output", "/joint_states does not tell where neck and head are")
    trajectories = ros.collect(JointTrajectory, "look_at/joint_trajectory")
    publisher = ros.publisher(JointState, "joint_states")
    joints = JointState(name=["wheel", "neck", "head"], position=[9.0, 0.5, -0.1])
    ended = threading.Event()

    def publish():
        while not ended.wait(0.05):
            publisher.publish(joints)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        with bench.saying():
            ros.until(
                lambda: trajectories and trajectories[-1].points[0].positions[0] < 0.45,
                "a neck that turns to the right, from 0.5 rad",
            )
            assert trajectories[0].points[0].positions[0] == pytest.approx(0.5, abs=0.05)
            assert trajectories[-1].joint_names == ["neck", "head"]
            (point,) = trajectories[-1].points
            assert point.positions[1] == pytest.approx(-0.1, abs=0.02)
            assert not point.velocities
            # The joint does not move: it is not led away from where it is.
            ros.until(lambda: len(trajectories) > 200, "some seconds")
            assert trajectories[-1].points[0].positions[0] > 0.5 - 0.3 - 0.11
        joints.position = [9.0, math.nan, 0.0]
        bench.diagnosed("output", "neck")
        number = len(trajectories)
        joints.position = [9.0, 0.5, -0.1]
        ros.until(lambda: len(trajectories) > number, "commands after good messages")
        bench.use_output("joint_state", lost__action="home", lost__rate=0.4)
        commands = ros.collect(JointState, "look_at/joint_command")
        with bench.saying():
            ros.until(lambda: commands and commands[-1].velocity[0] < -0.1, "a velocity")
        with bench.saying(state=TrackStatus.STATE_LOST):
            ros.until(
                lambda: (
                    commands[-1].velocity[0] == pytest.approx(-0.4)
                    and commands[-1].velocity[1] == pytest.approx(0.38, abs=0.1)
                ),
                "the way home from 0.5, -0.1",
            )
        assert commands[-1].name == ["neck", "head"]
    finally:
        ended.set()
        thread.join()
    assert bench.set("lost.action", "hold").successful


def test_mavlink_gimbal_is_taken_turned_and_given_back(bench):
    ros, reader, sent = bench.ros, FrameReader(), []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as manager:
        manager.bind(("127.0.0.1", 0))
        manager.setblocking(False)
        port = manager.getsockname()[1]
        bench.use_output("mavlink", mavlink__url=f"udpout:127.0.0.1:{port}")
        bench.diagnosed("output", "nothing is heard of the gimbal manager 1/1")

        def serve():
            """Answer as a gimbal manager does; all that has come."""
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, address = manager.recvfrom(2000)
                    for frame in reader.read_datagram(data):
                        sent.append(frame.message)
                        answer(frame, address)
            return sent

        def answer(frame, address):
            message = frame.message
            if isinstance(message, Heartbeat):
                assert message.type == ComponentType.ONBOARD_CONTROLLER
                manager.sendto(encode(Heartbeat(type=2), 1, 1, 0), address)
            elif isinstance(message, CommandLong) and message.param1 == 1.0:
                assert message.command == Command.DO_GIMBAL_MANAGER_CONFIGURE
                assert message.param2 == 192.0
                ack = CommandAck(message.command, Result.ACCEPTED, 0, 0, 1, 192)
                manager.sendto(encode(ack, 1, 1, 1), address)

        with bench.saying():
            ros.until(
                lambda: any(
                    isinstance(one, GimbalManagerSetPitchyaw) and one.yaw_rate > 0.1
                    for one in serve()
                ),
                "a yaw rate to the right",
            )
        sent.clear()
        bench.use_output("twist")
        ros.until(
            lambda: any(isinstance(one, CommandLong) and one.param1 == -3.0 for one in serve()),
            "control that is given back",
        )
        last = [one for one in sent if isinstance(one, GimbalManagerSetPitchyaw)][-1]
        assert (last.pitch_rate, last.yaw_rate) == (0.0, 0.0)


def test_parameters_that_make_no_sense_together_are_one_sentence(ros):
    process = ros.start("look_at", output="twist", lost__action="home")
    assert process.wait() == 2
    assert "error: lost.action is home, but with the output twist" in process.output
    assert "Traceback" not in process.output
