# SPDX-License-Identifier: Apache-2.0
"""Futures between threads: waiting for one in a callback, and completing one safely."""

from __future__ import annotations

from concurrent.futures import Future as ThreadFuture
from concurrent.futures import InvalidStateError
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


def claim(answer: ThreadFuture[Any]) -> bool:
    """Begin to answer, so that it cannot be cancelled; False if it was, or is answered already."""
    return not answer.done() and answer.set_running_or_notify_cancel()


def settle(answer: ThreadFuture[Any], outcome: object) -> bool:
    """Complete with a result, or with an exception; False if that has happened already."""
    try:
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
    except InvalidStateError:
        return False
    return True
