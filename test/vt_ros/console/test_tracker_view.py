# SPDX-License-Identifier: Apache-2.0
"""Trackers that hang, answer oddly or are started anew, as other programs do."""

from __future__ import annotations

import asyncio
import json
import math
import re

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
aiohttp = pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from vt_interfaces.msg import TrackStatus
from vt_interfaces.srv import SetTarget
from vt_ros.common.convert import bounding_box_from_xywh
from vt_ros.console.parameters import SETTINGS, read_settings
from vt_ros.console.session import Session

pytestmark = pytest.mark.ros

BUFFER = ["frame_buffer.megabytes", "frame_buffer.seconds"]


class OddTracker:
    """A node with the services of a tracker: it hangs, or answers what it is told to."""

    def __init__(self, ros, hangs=False):
        self.node = rclpy.create_node(
            "tracker", context=ros.node.context, start_parameter_services=False
        )
        self.model, self.buffer_value = "first", ParameterValue(type=1)
        self.asked = 0
        self._hangs = hangs
        self._status = self.node.create_publisher(TrackStatus, "tracker/status", 10)
        self._detections = self.node.create_publisher(Detection2DArray, "tracker/detections", 10)
        self._diagnostics = self.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        for kind, answer in (
            (ListParameters, self._list),
            (DescribeParameters, self._describe),
            (GetParameters, self._get),
            (SetTarget, self._set_target),
            (Trigger, self._clear),
        ):
            name = re.sub("(?<=.)(?=[A-Z])", "_", kind.__name__).lower()
            name = "clear_target" if kind is Trigger else name
            self.node.create_service(kind, f"tracker/{name}", answer)
        ros._executor.add_node(self.node)

    def say(self, processed, *tasks):
        header = Header(frame_id="camera")
        header.stamp.sec = processed
        self._status.publish(TrackStatus(header=header, frames_processed=processed))
        self._detections.publish(Detection2DArray(header=header))
        status = [DiagnosticStatus(name=f"tracker: {t}", message="is well") for t in tasks]
        self._diagnostics.publish(DiagnosticArray(status=status))

    async def _list(self, _request, answer):
        self.asked += 1
        if self._hangs:
            await Future()
        answer.result.names = ["model", *BUFFER]
        return answer

    async def _clear(self, _request, answer):
        if self._hangs:
            await Future()
        return answer

    def _describe(self, request, answer):
        answer.descriptors = [
            ParameterDescriptor(name=name, type=ParameterType.PARAMETER_STRING)
            for name in request.names
        ]
        return answer

    def _get(self, request, answer):
        model = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=self.model)
        answer.values = [model if n == "model" else self.buffer_value for n in request.names]
        return answer

    def _set_target(self, _request, answer):
        answer.error_code = answer.ERROR_AMBIGUOUS
        for x in (1.0, math.nan):
            box = bounding_box_from_xywh((x, 2.0, 3.0, 4.0))
            answer.alternatives.detections.append(Detection2D(bbox=box))
        return answer


@pytest.fixture
def open_session(ros):
    sessions = []

    def open_one():
        defaults = {setting.name: setting.default for setting in SETTINGS} | {"port": 0}
        settings = read_settings(defaults.get)
        sessions.append(Session(ros.node, lambda: settings))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


def visit(session, visitor):
    async def run():
        async with aiohttp.ClientSession(session.url) as client:
            await asyncio.wait_for(visitor(client), 60.0)

    asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("hangs", [True, False])
def test_images_are_subscribed_to_and_left_whatever_a_tracker_answers(ros, open_session, hangs):
    tracker = OddTracker(ros, hangs)
    tracker.buffer_value = ParameterValue()  # of a parameter that is gone meanwhile
    session = open_session()
    read = lambda: tracker.node.count_subscribers("image_raw")  # noqa: E731

    async def visitor(client):
        for _ in range(2):
            async with client.ws_connect("/ws"):
                await until(lambda: read() == 1 and tracker.asked)
            await until(lambda: read() == 0)

    visit(session, visitor)


def test_tracker_that_is_started_anew_is_asked_anew_and_old_tasks_are_forgotten(ros, open_session):
    tracker, session = OddTracker(ros), open_session()
    reports = {}

    async def visitor(client):
        async with client.ws_connect("/ws") as socket:

            async def read_reports():
                async for message in socket:
                    reports.update(json.loads(message.data))

            def reported(model, *tasks):
                named = [one["value"] for one in reports.get("parameters", ())]
                return named == [model] and tasks == tuple(
                    one["task"] for one in reports["diagnostics"]
                )

            async def say_until(processed, model, *tasks):
                while not reported(model, *tasks):
                    processed += 1
                    tracker.say(processed, *tasks)
                    await asyncio.sleep(0.05)

            reading = asyncio.ensure_future(read_reports())
            await say_until(1000, "first", "tracking", "recorder")
            tracker.model = "second"  # no event tells: it is another process
            await say_until(0, "second", "tracking")
            reading.cancel()

    visit(session, visitor)


def test_candidate_that_is_no_box_is_left_out_of_the_answer(ros, open_session):
    OddTracker(ros)
    session = open_session()

    async def visitor(client):
        async with client.ws_connect("/ws") as socket:
            start = {"type": "start", "tracker": 0, "id": 5, "stamp": "0", "text": "a car"}
            while True:
                await socket.send_json(start)
                answer = {}
                while answer.get("type") != "answer":
                    answer = await socket.receive_json()
                if "is the tracker running" not in answer["message"]:
                    break
                await asyncio.sleep(0.1)
            assert (answer["id"], answer["candidates"]) == (5, [[1.0, 2.0, 3.0, 4.0]])

    visit(session, visitor)


def test_tracker_that_hangs_while_images_come_is_told_and_stop_is_answered_soon(ros, open_session):
    tracker, session = OddTracker(ros, hangs=True), open_session()
    images = ros.node.create_publisher(Image, "image_raw", 5)
    reports, answers = {}, []

    async def visitor(client):
        async with client.ws_connect("/ws") as socket:

            async def read():
                async for message in socket:
                    content = json.loads(message.data)
                    if content["type"] == "answer":
                        answers.append(content)
                    else:
                        reports.update(content)

            async def publish():
                while True:
                    images.publish(Image(height=1, width=1, encoding="mono8", step=1, data=[9]))
                    await asyncio.sleep(0.1)

            tasks = [asyncio.ensure_future(work) for work in (read(), publish())]
            await until(lambda: "is silent, though images come" in reports.get("state", ""))
            await until(lambda: tracker.node.count_clients("tracker/clear_target"))
            await socket.send_json({"type": "stop", "tracker": 0, "id": 1})
            await until(lambda: answers)
            assert answers[0]["message"] == "/tracker/clear_target did not answer in 5 s"
            for task in tasks:
                task.cancel()

    visit(session, visitor)
