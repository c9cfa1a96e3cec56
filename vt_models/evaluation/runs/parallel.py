# SPDX-License-Identifier: Apache-2.0
"""Do the same with every sequence, in one process or several, with a progress bar."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
from tqdm import tqdm

from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import BackendError, InputError

if TYPE_CHECKING:
    from vt_models.evaluation.runs.runner import SingleObjectTracker, TrackerFactory

Result = TypeVar("Result")

_AHEAD = 2
"""Sequences in a process' hands or waiting for it; a lazy dataset is read no further."""


def run_all(
    tracker_factory: TrackerFactory,
    sequences: Sequence[VideoSequence],
    run: Callable[[SingleObjectTracker, VideoSequence], Result],
    *,
    title: str = "",
    jobs: int = 1,
    progress: bool = True,
    note: Callable[[Result], str] = lambda _: "",
) -> list[Result]:
    """Do `run` with every sequence; arguments and errors as those of `evaluate`.

    Args:
        tracker_factory, sequences, jobs, progress: as for `evaluate`.
        run: of any result.
        title: of the progress bar.
        note: what the bar says about a finished sequence.

    Returns:
        The results in the order of the sequences.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; expected 1 or more")
    if not len(sequences):
        raise InputError("no sequence to run over")
    finished: Iterator[tuple[int, Result]]
    if jobs == 1:
        tracker = tracker_factory()
        finished = ((index, run(tracker, sequences[index])) for index in range(len(sequences)))
    else:
        finished = _run_in_processes(tracker_factory, sequences, run, jobs)
    results: dict[int, Result] = {}
    with _ctrl_c_waits():  # so that the thread that redraws the bar never takes the signal
        bar = tqdm(total=len(sequences), desc=title, unit="seq", disable=not progress)
    with bar:
        for index, result in finished:
            results[index] = result
            bar.set_postfix_str(note(result))
            bar.update()
    return [results[index] for index in sorted(results)]


def _run_in_processes(
    factory: TrackerFactory,
    sequences: Sequence[VideoSequence],
    run: Callable[[SingleObjectTracker, VideoSequence], Result],
    jobs: int,
) -> Iterator[tuple[int, Result]]:
    """Results as they come, with the number of their sequence."""
    context = multiprocessing.get_context("spawn")
    line, own_end = context.Pipe(duplex=False)
    start = (factory, run, line)
    pool = ProcessPoolExecutor(min(jobs, len(sequences)), context, _start_process, start)
    waiting = iter(range(len(sequences)))
    running: dict[Future[Result], int] = {}
    # Not `concurrent.futures.wait`: when Ctrl-C interrupts it, a lock that the pool's thread needs
    # may stay locked, and the program never ends (1 of 40 interrupted evaluations did not).
    done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    try:
        with line, own_end, pool:
            try:
                while True:
                    for index in itertools.islice(waiting, _AHEAD * jobs - len(running)):
                        with _ctrl_c_waits():
                            future = pool.submit(_run_in_process, sequences[index])
                            running[future] = index
                            future.add_done_callback(done.put)
                    if not running:
                        return
                    future = done.get()
                    yield running.pop(future), future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                own_end.close()
                raise
    except BrokenProcessPool as error:
        raise BackendError(
            "a process that ran a tracker died (was it killed, or out of memory?); use fewer "
            "--jobs and run it again"
        ) from error


class _Process:
    """What this process runs, set when it starts; None where it is no process of a pool."""

    factory: TrackerFactory
    run: Callable[[SingleObjectTracker, VideoSequence], Any]
    tracker: SingleObjectTracker | None = None


def _start_process(
    factory: TrackerFactory,
    run: Callable[[SingleObjectTracker, VideoSequence], Any],
    line: Connection,
) -> None:
    """Keep what is to be run; the process ends when nobody holds the other end of the line."""

    def end_with_line() -> None:
        line.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_line, daemon=True).start()
    _Process.factory, _Process.run = staticmethod(factory), staticmethod(run)


def _run_in_process(sequence: VideoSequence) -> Any:
    if _Process.tracker is None:  # built with the first sequence, so that its errors get out
        cv2.setNumThreads(1)
        _Process.tracker = _Process.factory()
    return _Process.run(_Process.tracker, sequence)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C counts afterwards, and never in processes that are started meanwhile.

    A terminal sends it to all of them; if they ended by it themselves, it would be chance whether
    this process saw the interruption or the death of a worker first.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
