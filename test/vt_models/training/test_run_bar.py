# SPDX-License-Identifier: Apache-2.0
"""Where the progress bar of a run expects its end."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from vt_models.training import run_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that `RunBar` believes to have passed; the last counts."""
    seconds = [0.0]
    monkeypatch.setattr(run_bar, "time", SimpleNamespace(perf_counter=lambda: seconds[-1]))
    return seconds


def test_run_bar_without_limit_ends_at_its_samples(clock: list[float]) -> None:
    with run_bar.RunBar(1000, math.inf, "pair") as bar:
        clock.append(5.0)
        bar.show(10)
        assert bar.end == 1000


@pytest.mark.parametrize(
    ("done", "seen", "passed", "end"),
    [
        (0, 100, 10.0, 600),  # 10 a second, for 60 seconds
        (400, 500, 10.0, 1000),  # of a resumed run only what it did itself, in its own time
        (0, 500, 10.0, 1000),  # the samples end first
        (0, 700, 70.0, 700),  # a step that took longer than was left
    ],
)
def test_run_bar_with_limit_ends_where_the_time_does(
    clock: list[float], done: int, seen: int, passed: float, end: int
) -> None:
    with run_bar.RunBar(1000, 60.0, "pair", done) as bar:
        clock.append(passed)
        bar.show(seen, "loss 1.0")
        assert bar.end == end
