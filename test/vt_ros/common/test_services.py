# SPDX-License-Identifier: Apache-2.0
"""Services under a flood of requests from one client."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from vt_ros.common.futures import until_done
from vt_ros.common.services import create_service_for_many

pytestmark = pytest.mark.ros

COUNT = 900
"""Fewer than ROS keeps for a service that does not get to them."""


@pytest.fixture
def flood(ros):
    """Return a function: give a callback, get the responses to `COUNT` requests at once."""
    context = rclpy.Context()
    rclpy.init(
        context=context, domain_id=ros.domain, signal_handler_options=SignalHandlerOptions.NO
    )
    server = rclpy.create_node("server", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(server)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    # It keeps all responses: what it would overlook is not what is tested.
    client = ros.node.create_client(Trigger, "many", qos_profile=QoSProfile(depth=2 * COUNT))

    def refuse(response, reason):
        response.message = reason

    def ask(callback):
        create_service_for_many(server, Trigger, "many", callback, refuse)
        spinning.start()
        assert client.wait_for_service(60.0)
        ros.until(lambda: server.count_clients("/many"), "the client")
        return [client.call_async(Trigger.Request()) for _ in range(COUNT)]

    ask.executor = executor
    yield ask
    executor.shutdown()
    spinning.join()
    server.destroy_node()
    rclpy.shutdown(context=context)
    ros.node.destroy_client(client)


def test_create_service_for_many_flood_answers_every_request(ros, flood):
    called = []

    def callback(_request, response):
        called.append(True)
        response.success = True
        return response

    answers = flood(callback)
    ros.until(lambda: all(answer.done() for answer in answers), "all answers")
    assert all(answer.result().success for answer in answers)
    assert len(called) == COUNT


def test_create_service_for_many_while_many_wait_refuses_the_others_at_once(ros, flood):
    waiting = []

    async def callback(_request, response):
        waiting.append(Future())
        await until_done(waiting[-1], flood.executor)
        response.success = True
        return response

    answers = flood(callback)
    ros.until(lambda: sum(answer.done() for answer in answers) >= COUNT - 250, "the refusals")
    refused = [answer.result() for answer in answers if answer.done()]
    assert len(refused) == COUNT - 250
    assert {answer.message for answer in refused} == {
        "250 requests are being worked on; ask again later"
    }
    assert len(waiting) == 250
    for future in waiting:
        future.set_result(None)
    ros.until(lambda: all(answer.done() for answer in answers), "all answers")
    assert sum(answer.result().success for answer in answers) == 250
