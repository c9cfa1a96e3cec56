# SPDX-License-Identifier: Apache-2.0
"""Batches of training pairs: which numbers make one, and how they get to the training device."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vt_models.registry import ModelSpec
from vt_models.training.data.augmentation import apply_colour
from vt_models.training.data.pairs import Sample
from vt_models.training.distributed import SINGLE_PROCESS, ProcessGroup
from vt_models.training.losses.families import Truth

IMAGES = ("template", "search", "dynamic")
"""Inputs that are images, in the order of `ColourDraw.values`."""
PREFETCH = 4
"""Batches that each data process has ready."""
GRACE_S = 5
"""A data process ends so long after a SIGTERM."""


@dataclass(frozen=True)
class Batch:
    """A batch on the training device.

    Attributes:
        inputs: What the network is called with, by name (`ModelSpec.forward_inputs`); images are
            normalised float32 (B, 3, S, S), templates with several views (B, V, 3, T, T).
        truth: The answers.
        template_box: (B, 4) cxcywh of the target, fractions of the template's crop.
    """

    inputs: dict[str, Tensor]
    truth: Truth
    template_box: Tensor


class BatchNumbers(Sampler[list[int]]):
    """Sample numbers from `start` up to `stop` in whole batches: one process's parts of each.

    The processes' shares of a batch are its consecutive slices, and so are a share's parts: the
    pairs of a step are the same however many there are.

    Args:
        start, stop: What is left of a run; an incomplete last batch is left out.
        batch_size: Pairs a step, over all processes.
        processes: This process among the others.
        parts: Lists that a process's share of a batch is given in.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        batch_size: int,
        processes: ProcessGroup = SINGLE_PROCESS,
        parts: int = 1,
    ) -> None:
        self._batches = range(start, stop - batch_size + 1, batch_size)
        self._size = batch_size // (processes.size * parts)
        self._parts = range(processes.rank * parts, (processes.rank + 1) * parts)

    def __iter__(self) -> Iterator[list[int]]:
        for first in self._batches:
            for part in self._parts:
                begin = first + part * self._size
                yield list(range(begin, begin + self._size))

    def __len__(self) -> int:
        return len(self._batches) * len(self._parts)


def make_loader(
    dataset: Dataset[Sample], numbers: BatchNumbers, workers: int, pin: bool
) -> DataLoader[Sample]:
    """Load the samples of each list of numbers, in order.

    Args:
        dataset: Makes a sample of a number.
        numbers: What to load.
        workers: Processes that cut crops; 0 does it in this one.
        pin: Into memory that a GPU copies from by itself.
    """
    return DataLoader(
        dataset,
        batch_sampler=numbers,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_start_worker if workers else None,
        # Forked processes share the decoded images; any other way would copy them to each.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


def _start_worker(_number: int) -> None:
    """Use one thread. Stop signals to the whole process group are for the parent to answer.

    After a SIGTERM a worker goes on for some seconds, so that the parent can finish its step; to
    ignore it would be to wait forever where the parent ends by an error and terminates its workers.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))


class BatchPreprocessor:
    """Makes a batch of a collated sample: moved as bytes, coloured and normalised on the device.

    Args:
        spec: Whose inputs they are.
        device: Where the batch is wanted.
    """

    def __init__(self, spec: ModelSpec, device: torch.device) -> None:
        self._spec = spec
        self._device = device
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def __call__(self, sample: dict[str, Tensor]) -> Batch:
        """Finish one collated sample; on a GPU this only queues the work."""
        moved = {k: v.to(self._device, non_blocking=True) for k, v in sample.items()}
        inputs = {name: moved[name] for name in self._spec.forward_inputs}
        for row, name in enumerate(IMAGES):
            if name in inputs:
                inputs[name] = self._preprocess(
                    inputs[name], moved["colour"][:, row], moved["grey"]
                )
        return Batch(inputs, Truth(moved["box"], moved["present"]), moved["shown"])

    def truth(self, sample: dict[str, Tensor]) -> Truth:
        """Return the truth alone."""
        box, present = sample["box"], sample["present"]
        move = {"device": self._device, "non_blocking": True}
        return Truth(box.to(**move), present.to(**move))

    def _preprocess(self, crops: Tensor, colour: Tensor, grey: Tensor) -> Tensor:
        """(B, S, S, 3) or (B, V, S, S, 3) bytes -> what the network reads; views coloured alike."""
        if crops.ndim == 5:
            views = crops.shape[1]
            colour, grey = colour.repeat_interleave(views, 0), grey.repeat_interleave(views, 0)
            return self._preprocess(crops.flatten(0, 1), colour, grey).unflatten(0, (-1, views))
        coloured = apply_colour(_to_map(crops), colour, grey)
        normalised = (coloured / 255.0 - self._mean) / self._std
        return normalised.contiguous(memory_format=torch.channels_last)


def _to_map(crops: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels-last in memory."""
    return crops.permute(0, 3, 1, 2).float()
