# SPDX-License-Identifier: Apache-2.0
"""Control of a MAVLink gimbal is taken, respected, given back; pymavlink reads the frames."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
common = pytest.importorskip("pymavlink.dialects.v20.common", reason="make setup installs it")

from vt_ros.look_at.gimbal_manager import GimbalManagerClient
from vt_ros.look_at.parameters import GimbalSettings
from vt_ros.mavlink.links import parse_url
from vt_ros.mavlink.messages import (
    Command,
    CommandAck,
    Frame,
    GimbalManagerStatus,
    Heartbeat,
    Result,
)

US, MANAGER, STATION = (1, 192), (1, 154), (255, 190)


class Bench:
    """A client, its clock, and what it sends, read by pymavlink."""

    def __init__(self, **changes):
        self.now = 100.0
        self._parser, self.sent = common.MAVLink(None), []
        settings = {
            "system": 1,
            "component": 192,
            "manager_system": 1,
            "manager_component": 154,
            "gimbal_device_id": 0,
            "yaw_lock": True,
            "link": parse_url("udpin:127.0.0.1:1", "mavlink.url"),
            **changes,
        }
        self.client = GimbalManagerClient(
            GimbalSettings(**settings), self._take, clock=lambda: self.now
        )

    def _take(self, frame):
        for message in self._parser.parse_buffer(frame):
            assert (message.get_srcSystem(), message.get_srcComponent()) == US
            self.sent.append(message)

    def of(self, name):
        return [message for message in self.sent if message.get_type() == name]

    def hear(self, message, sender=MANAGER):
        self.client.receive(Frame(*sender, message))

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.client.tick()

    def get_control(self):
        self.hear(Heartbeat())
        self.client.wanted = True
        self.client.tick()
        self.hear(acknowledge(Result.ACCEPTED))
        assert self.client.problem == ""


def acknowledge(result, target=US):
    return CommandAck(
        command=Command.DO_GIMBAL_MANAGER_CONFIGURE,
        result=result,
        target_system=target[0],
        target_component=target[1],
    )


def controlled_by(owner):
    return GimbalManagerStatus(primary_control_sysid=owner[0], primary_control_compid=owner[1])


def test_nothing_is_sent_but_heartbeats_before_the_manager_is_heard():
    bench = Bench()
    bench.wait(5.0)
    bench.client.set_rates(0.1, 0.1)
    assert {message.get_type() for message in bench.sent} == {"HEARTBEAT"}
    assert 4 <= len(bench.sent) <= 6
    assert "nothing is heard of the gimbal manager 1/154" in bench.client.problem


def test_control_is_taken_used_and_given_back():
    bench = Bench()
    bench.hear(Heartbeat())
    bench.wait(3.0)
    assert not bench.of("COMMAND_LONG")  # there is nothing to look at
    assert "asked for when there is a target" in bench.client.problem
    bench.get_control()
    (request,) = bench.of("COMMAND_LONG")
    assert (request.command, request.param1, request.param2) == (1001, *US)
    assert (request.param3, request.param4) == (-1.0, -1.0)
    assert (request.target_system, request.target_component) == MANAGER
    bench.client.set_rates(0.25, -0.5)
    (setpoint,) = bench.of("GIMBAL_MANAGER_SET_PITCHYAW")
    assert (setpoint.pitch_rate, setpoint.yaw_rate) == (0.25, -0.5)
    assert math.isnan(setpoint.pitch)
    assert math.isnan(setpoint.yaw)
    assert setpoint.flags == 4 + 8 + 16
    bench.client.go_home()
    assert bench.of("GIMBAL_MANAGER_SET_PITCHYAW")[-1].flags == 2
    bench.client.give_control_back()
    last = bench.of("GIMBAL_MANAGER_SET_PITCHYAW")[-1]
    assert (last.pitch_rate, last.yaw_rate) == (0.0, 0.0)
    assert bench.sent[-1].command == 1001
    assert (bench.sent[-1].param1, bench.sent[-1].param2) == (-3.0, -3.0)
    bench.hear(acknowledge(Result.ACCEPTED))
    bench.hear(controlled_by(US))
    bench.client.set_rates(0.25, -0.5)
    assert bench.sent[-1].get_type() == "COMMAND_LONG"
    assert bench.client.problem


def test_control_that_is_refused_is_asked_for_again_and_nothing_is_sent():
    bench = Bench(yaw_lock=False, gimbal_device_id=3)
    bench.client.wanted = True
    bench.hear(Heartbeat())
    bench.client.tick()
    bench.hear(acknowledge(Result.DENIED))
    assert "DENIED" in bench.client.problem
    bench.client.set_rates(0.1, 0.1)
    assert not bench.of("GIMBAL_MANAGER_SET_PITCHYAW")
    bench.wait(2.5)
    assert 3 <= len(bench.of("COMMAND_LONG")) <= 4
    assert bench.of("COMMAND_LONG")[-1].param7 == 3.0
    bench.hear(acknowledge(Result.ACCEPTED))
    bench.client.set_rates(0.1, 0.1)
    assert bench.of("GIMBAL_MANAGER_SET_PITCHYAW")[0].flags == 4 + 8


def test_operator_who_takes_the_gimbal_keeps_it():
    bench = Bench()
    bench.get_control()
    bench.hear(controlled_by(STATION))
    assert "255/190 has taken control" in bench.client.problem
    bench.sent.clear()
    bench.client.set_rates(0.1, 0.1)
    bench.hear(Heartbeat())
    bench.wait(3.0)
    assert {message.get_type() for message in bench.sent} == {"HEARTBEAT"}
    bench.client.give_control_back()  # which it does not have
    assert {message.get_type() for message in bench.sent} == {"HEARTBEAT"}
    bench.client.wanted = True
    bench.hear(controlled_by((0, 0)))  # he lets go of it
    bench.hear(Heartbeat())
    bench.wait(1.5)
    assert bench.of("COMMAND_LONG")


def test_manager_that_falls_silent_or_restarts_is_asked_again():
    bench = Bench()
    bench.get_control()
    bench.wait(6.0)
    assert "nothing is heard" in bench.client.problem
    bench.sent.clear()
    bench.client.set_rates(0.1, 0.1)
    assert not bench.of("GIMBAL_MANAGER_SET_PITCHYAW")
    bench.get_control()
    bench.hear(controlled_by((0, 0)))
    assert bench.client.problem
    bench.hear(controlled_by(US))
    assert bench.client.problem == ""


def test_what_others_say_does_not_count():
    bench = Bench(gimbal_device_id=2)
    bench.client.wanted = True
    bench.hear(Heartbeat(), sender=STATION)
    bench.hear(acknowledge(Result.ACCEPTED), sender=(1, 1))
    assert "nothing is heard" in bench.client.problem
    bench.hear(acknowledge(Result.ACCEPTED, target=STATION))
    bench.hear(CommandAck(command=Command.REQUEST_MESSAGE, target_system=1, target_component=192))
    bench.client.tick()
    assert "has not given control" in bench.client.problem
    bench.get_control()
    bench.hear(controlled_by(STATION))  # of the gimbal 0, not 2
    assert bench.client.problem == ""
