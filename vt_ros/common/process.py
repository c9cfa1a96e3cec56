# SPDX-License-Identifier: Apache-2.0
"""One node in one process: started, spun, ended by a signal or by itself, with an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

_QUIT = b"\0"


class StartError(RuntimeError):
    """The node cannot start; the message is one sentence that says what to change."""


class Program(Protocol):
    """What `run` needs of an rclpy node beside being one."""

    def close(self) -> None:
        """Stop threads and release everything; called once, after spinning."""

    def destroy_node(self) -> None:
        """As rclpy's nodes do."""


def run(create: Callable[[Future], Program], arguments: list[str] | None = None) -> int:
    """Run a node until it is finished, Ctrl-C or SIGTERM. The process should end after this.

    Args:
        create: makes the node; it is given a future. Completing that with an exit code ends
            the process: the node itself does it, or a signal (code 0). `StartError` and
            refused parameters become one sentence on standard error and code 2.
        arguments: command line with --ros-args; None takes the process's own.

    Returns:
        The exit code.
    """
    finished = Future()
    with _signals_complete(finished):
        # rclpy's own handlers would tear the context down under the node's feet: nothing could
        # be published any more, and a lifecycle node could not say that it goes.
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            _spin(create, finished)
        except (StartError, ParameterException) as error:
            sys.stderr.write(f"error: {error}\n")
            return EXIT_USAGE
        finally:
            rclpy.try_shutdown()
    return int(finished.result())


def _spin(create: Callable[[Future], Program], finished: Future) -> None:
    node = create(finished)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # spin_until_future_complete would hang one more callback on the future for each one that it
    # executes: 260 bytes an image, for as long as the process lives.
    finished.add_done_callback(lambda _: executor.create_task(_nothing))
    try:
        while not finished.done():
            executor.spin_once()
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()


def _nothing() -> None:
    """A task by which the executor notices that the future is done."""


@contextmanager
def _signals_complete(finished: Future) -> Iterator[None]:
    """Let SIGINT and SIGTERM complete the future with code 0; a second one changes nothing.

    A Python handler alone would not do: it runs between bytecodes of the main thread, which
    waits inside DDS. So the interpreter's C handler writes to a pipe, and a thread that reads
    the pipe completes the future, which wakes the executor.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def watch() -> None:
        while os.read(read_end, 1) != _QUIT:
            if not finished.done():
                finished.set_result(EXIT_OK)

    # The pipe first: a signal that comes between the two would find a handler that does nothing.
    previous = signal.set_wakeup_fd(write_end)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _done_by_the_watcher)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.write(write_end, _QUIT)
        watcher.join()
        os.close(read_end)
        os.close(write_end)


def _done_by_the_watcher(number: int, frame: object) -> None:
    """Replace the default action: ending the process, or KeyboardInterrupt."""
