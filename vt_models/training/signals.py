# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM end a run after its step, saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_signals(stop: Callable[[], None], second_ends: bool = True) -> Iterator[None]:
    """Let a first Ctrl-C or SIGTERM call `stop` while the block runs.

    Args:
        stop: has the run end soon.
        second_ends: a second one ends the process at once, as it would have before.
    """
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if second_ends:
            restore()
        stop()

    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
