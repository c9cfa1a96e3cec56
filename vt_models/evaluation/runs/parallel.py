# SPDX-License-Identifier: Apache-2.0
"""Do the same with every sequence, in one process or several, with a progress bar."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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
    if jobs == 1:
        finished = _run_here(tracker_factory, sequences, run)
    else:
        finished = _run_in_processes(tracker_factory, sequences, run, jobs)
    results: dict[int, Result] = {}
    with tqdm(total=len(sequences), desc=title, unit="seq", disable=not progress) as bar:
        for index, result in finished:
            results[index] = result
            bar.set_postfix_str(note(result))
            bar.update()
    return [results[index] for index in sorted(results)]


def _run_here(
    factory: TrackerFactory,
    sequences: Sequence[VideoSequence],
    run: Callable[[SingleObjectTracker, VideoSequence], Result],
) -> Iterator[tuple[int, Result]]:
    tracker = factory()
    for index in range(len(sequences)):
        yield index, run(tracker, sequences[index])


def _run_in_processes(
    factory: TrackerFactory,
    sequences: Sequence[VideoSequence],
    run: Callable[[SingleObjectTracker, VideoSequence], Result],
    jobs: int,
) -> Iterator[tuple[int, Result]]:
    """Results as they come, with the number of their sequence."""
    context = multiprocessing.get_context("spawn")
    line, own_end = context.Pipe(duplex=False)
    start = (_Worker(factory, run), line)
    pool = ProcessPoolExecutor(min(jobs, len(sequences)), context, _start_process, start)
    waiting = iter(range(len(sequences)))
    running: dict[Future[Result], int] = {}
    try:
        with line, own_end, pool:
            try:
                while True:
                    for index in itertools.islice(waiting, _AHEAD * jobs - len(running)):
                        with _ctrl_c_waits():
                            running[pool.submit(_run_in_worker, sequences[index])] = index
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
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


class _Worker(Generic[Result]):
    """What a process runs; its tracker is built with the first sequence so that errors get out."""

    def __init__(
        self,
        factory: TrackerFactory,
        run: Callable[[SingleObjectTracker, VideoSequence], Result],
    ) -> None:
        self._factory = factory
        self._run = run
        self._tracker: SingleObjectTracker | None = None

    def __call__(self, sequence: VideoSequence) -> Result:
        if self._tracker is None:
            cv2.setNumThreads(1)
            self._tracker = self._factory()
        return self._run(self._tracker, sequence)


class _Process:
    """This process' worker, set when the process starts."""

    worker: _Worker[Any]


def _start_process(worker: _Worker[Any], line: Connection) -> None:
    """Keep the worker; the process ends when nobody holds the other end of the line any more."""
    threading.Thread(target=_end_with_line, args=(line,), daemon=True).start()
    _Process.worker = worker


def _end_with_line(line: Connection) -> None:
    line.poll(None)
    os._exit(1)


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


def _run_in_worker(sequence: VideoSequence) -> Any:
    return _Process.worker(sequence)
