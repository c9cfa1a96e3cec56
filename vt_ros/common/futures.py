# SPDX-License-Identifier: Apache-2.0
"""Waiting in a callback for another thread."""

from __future__ import annotations

from concurrent.futures import Future as ThreadFuture
from typing import Any

from rclpy.executors import Executor
from rclpy.task import Future


async def until_done(answer: ThreadFuture[Any], executor: Executor) -> None:
    """Wait for another thread's future without blocking the executor."""
    arrived = Future(executor=executor)

    def wake(_: object) -> None:
        arrived.set_result(None)
        executor.wake()

    answer.add_done_callback(wake)
    await arrived
