# SPDX-License-Identifier: Apache-2.0
"""One node in one process: started, spun, ended by a signal or by itself, with an exit code."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import rclpy
from rclpy._rclpy_pybind11 import RCLError, UnknownROSArgsError
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from vt_ros.common.errors import describe_error
from vt_ros.common.start_arguments import warn_of_unused

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STUCK = 3
"""A thread is stuck in native code, and the node is to be started again."""

SECONDS_TO_END = 2.0
"""After a signal the process has ended within these, whatever is stuck."""

# A callback that fails is logged, and the node goes on; so many in a row are no accident.
_MOST_FAILURES = 10

_QUIT = b"\0"


# What ROS says at a start that it refuses, and what to do; its own words name no remedy.
_REMEDIES = {
    "params file": "expected a YAML file without tabs, NODE: ros__parameters: NAME: VALUE",
    "parameter override": "write -p NAME:=VALUE",
    "remap rule": "write -r FROM:=TO, with names of letters, digits and _",
    "log level": "write debug, info, warn, error, fatal, or LOGGER:=LEVEL",
    "log directory": "set ROS_LOG_DIR to a folder that can be written",
    "error not set": "with ROS_SECURITY_ENABLE, check that the middleware was built with security",
}
_LONGEST_REASON = 1000
_HIGHEST_DOMAIN = 232  # a higher one has no UDP ports, and Fast DDS would end the process


class StartError(RuntimeError):
    """The node cannot start.

    Args:
        message: one sentence that says what to change.
        code: that the process ends with; `EXIT_FAILED` where a later start may go well.
    """

    def __init__(self, message: str, code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.code = code


class Program(Protocol):
    """What `run` needs of an rclpy node beside being one."""

    def close(self) -> None:
        """Stop threads and release everything; called once, after spinning."""

    def get_logger(self) -> RcutilsLogger:
        """As rclpy's nodes do."""

    def destroy_node(self) -> None:
        """As rclpy's nodes do."""


def run(create: Callable[[Future], Program], arguments: list[str] | None = None) -> int:
    """Run a node until it is finished, or Ctrl-C, SIGTERM or the end of its terminal comes.

    The process should end after this.

    A callback that raises is logged, and the node goes on. Once the node is finished, the process
    ends within `SECONDS_TO_END`, by force if something is stuck, and signals change nothing.

    Args:
        create: makes the node; it is given a future. Completing that with an exit code ends
            the process: the node itself does it, or a signal (code 0). `StartError`,
            refused parameters, and what ROS refuses at the start (arguments, files, names,
            environment) become one sentence on standard error and code 2.
        arguments: command line with --ros-args; None takes the process's own.

    Returns:
        The exit code.
    """
    finished = Future()
    last_resort = threading.Timer(SECONDS_TO_END, _end_by_force, (finished,))
    last_resort.daemon = True
    finished.add_done_callback(lambda _: last_resort.start())
    with _signals_complete(finished):
        # rclpy's own handlers would tear the context down under the node's feet: nothing could
        # be published any more, and a lifecycle node could not say that it goes.
        try:
            try:
                _check_environment()
                rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
                node = create(finished)
            except _START_ERRORS as error:
                sys.stderr.write(f"error: {_sentence(error)}\n")
                return error.code if isinstance(error, StartError) else EXIT_USAGE
            warn_of_unused(node, sys.argv if arguments is None else arguments)
            _spin(node, finished)
        finally:
            rclpy.try_shutdown()
            last_resort.cancel()
            if last_resort.is_alive():
                last_resort.join()
    return int(finished.result())


_START_ERRORS = (
    StartError,
    ParameterException,
    NameValidationException,
    RCLError,
    UnknownROSArgsError,
)


def _check_environment() -> None:
    """Raise StartError for what ROS would end the process for, or name in many lines."""
    if not any(os.environ.get(name) for name in ("HOME", "ROS_HOME", "ROS_LOG_DIR")):
        raise StartError("HOME is not set: set it, or ROS_LOG_DIR to a folder that can be written")
    domain = os.environ.get("ROS_DOMAIN_ID", "").strip()
    if domain and not (domain.isdecimal() and int(domain) <= _HIGHEST_DOMAIN):
        raise StartError(
            f"ROS_DOMAIN_ID is {domain!r}, expected an integer from 0 to {_HIGHEST_DOMAIN}"
        )


def _sentence(error: Exception) -> str:
    """Return what was refused at the start, on one line, and what to do."""
    if isinstance(error, UnknownROSArgsError):
        return f"unknown words after --ros-args: {error}; --help shows what there is"
    # Where it happened in ROS's own sources tells a user nothing.
    text = " ".join(re.sub(r",? at \S+:\d+", "", str(error)).split())
    if len(text) > _LONGEST_REASON:  # the value that was refused is in it
        text = f"{text[: _LONGEST_REASON // 2]}...{text[-_LONGEST_REASON // 2 :]}"
    remedies = [remedy for part, remedy in _REMEDIES.items() if part in text]
    return "; ".join([text.rstrip(".,"), *remedies[:1]])


def _spin(node: Program, finished: Future) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # spin_until_future_complete would hang one more callback on the future for each one that it
    # executes: 260 bytes an image, for as long as the process lives.
    finished.add_done_callback(lambda _: executor.create_task(_nothing))
    failures = 0
    try:
        while not finished.done():
            try:
                executor.spin_once()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == _MOST_FAILURES or not rclpy.ok():
                    raise
                node.get_logger().error(f"a callback failed: {describe_error(error)}")
    finally:
        if not finished.done():
            finished.set_result(EXIT_FAILED)
        node.close()
        executor.shutdown()
        node.destroy_node()


def _end_by_force(finished: Future) -> None:
    """End the process without its help: something in it does not return."""
    sys.stderr.write(f"error: not ended after {SECONDS_TO_END:g} s, so ended by force\n")
    sys.stderr.flush()
    os._exit(int(finished.result()))


def _nothing() -> None:
    """A task by which the executor notices that the future is done."""


@contextmanager
def _signals_complete(finished: Future) -> Iterator[None]:
    """Let signals to end complete the future with code 0; a later one changes nothing.

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
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, _done_by_the_watcher)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        # Python gives its own handlers up while it takes itself down; ignored ones stay ignored.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(previous)
        os.write(write_end, _QUIT)
        watcher.join()
        os.close(read_end)
        os.close(write_end)


def _done_by_the_watcher(number: int, frame: object) -> None:
    """Replace the default action: ending the process, or KeyboardInterrupt."""
