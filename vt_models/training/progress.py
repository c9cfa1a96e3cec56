# SPDX-License-Identifier: Apache-2.0
"""What a training run reports: loss terms, throughput, waiting for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vt_models.training.distributed import ProcessGroup


@dataclass
class Progress:
    """What the steps since the last report gave.

    Attributes:
        samples: Pairs seen so far.
        terms: Loss terms and `iou`, averaged.
        lr: Largest learning rate, that of the head.
        pairs_per_second: Throughput of all processes; validation, checkpoints and the start of the
            data processes take no part in it.
        data_wait: Share of that time spent waiting for data (of the first process).
    """

    samples: int
    terms: dict[str, float]
    lr: float
    pairs_per_second: float
    data_wait: float


@dataclass
class Hooks:
    """What the caller wants to hear.

    Attributes:
        on_progress: Called every `LOG_EVERY_STEPS` steps.
        on_validate: Called with the averaged network and the number of samples.
        on_save: Called after each checkpoint.
        on_notice: Called with a sentence that a user should read.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_validate: Callable[[nn.Module, int], None] | None = None
    on_save: Callable[[], None] | None = None
    on_notice: Callable[[str], None] | None = None


class Meter:
    """Adds up steps; nothing here waits for a GPU until the sums are asked for."""

    def __init__(self) -> None:
        self.steps = 0
        self._terms: dict[str, Tensor] = {}
        self._finite: Tensor | None = None
        self._waited = 0.0
        self._paused = 0.0
        self._started = time.perf_counter()

    def add(self, terms: dict[str, Tensor], finite: Tensor, waited: float) -> None:
        """Take in a step: this process's share of its terms, and the seconds before it."""
        self._finite = finite if self._finite is None else self._finite & finite
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(value)) + value.detach()
        self.steps += 1
        self._waited += waited

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the time of the block out."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - begun

    @property
    def finite(self) -> bool:
        """Whether every step's gradient was a number."""
        return self._finite is None or bool(self._finite)

    def means(self, processes: ProcessGroup) -> dict[str, float]:
        """Return the loss terms of the average step, over all processes; every process must ask."""
        if not self._terms:
            return {}
        sums = processes.total(torch.stack([value.float() for value in self._terms.values()]))
        return dict(zip(self._terms, (sums / self.steps).tolist(), strict=True))

    def report(self, processes: ProcessGroup, samples: int, batch_size: int, lr: float) -> Progress:
        """Return everything so far; every process must ask."""
        terms = self.means(processes)
        elapsed = max(time.perf_counter() - self._started - self._paused, 1e-9)
        return Progress(
            samples=samples,
            terms=terms,
            lr=lr,
            pairs_per_second=self.steps * batch_size / elapsed,
            data_wait=self._waited / elapsed,
        )
