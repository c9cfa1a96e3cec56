# SPDX-License-Identifier: Apache-2.0
"""The progress bar of a run that ends after so many samples or so much time."""

from __future__ import annotations

import math
import sys
import time

from tqdm import tqdm
from typing_extensions import Self


class RunBar:
    """Counts samples; its end is where the time is over, at the speed so far, if that is sooner.

    Args:
        samples: After which the run ends.
        limit: Seconds after which it ends, counted from here.
        unit: What a sample is.
        done: Samples of earlier runs.

    Attributes:
        end: Samples at which the run will probably end.
    """

    def __init__(self, samples: int, limit: float, unit: str, done: int = 0) -> None:
        self._samples, self._limit, self._done = samples, limit, done
        self._began = time.perf_counter()
        self.end = samples
        self._bar = tqdm(total=samples, initial=done, unit=unit, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def show(self, seen: int, text: str | None = None) -> None:
        """Move to this number of samples, with a remark behind the bar."""
        passed = time.perf_counter() - self._began
        if math.isfinite(self._limit):
            in_time = self._done + int((seen - self._done) * max(self._limit / passed, 1.0))
            self.end = self._bar.total = min(self._samples, in_time)
        self._bar.update(seen - self._bar.n)
        if text is not None:
            self._bar.set_postfix_str(text)
