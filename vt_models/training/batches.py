# SPDX-License-Identifier: Apache-2.0
"""Batches of training pairs on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from vt_models.training.augment import apply_colour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vt_models.registry import ModelSpec
    from vt_models.training.crops import PairDataset, Sample

IMAGES = ("template", "search", "dynamic")
"""Inputs that are images, in the order of `ColourDraw.values`."""


@dataclass(frozen=True)
class Batch:
    """A batch on the training device.

    Attributes:
        inputs: What the network is called with, by name (`ModelSpec.forward_inputs`); images are
            normalised float32 (B, 3, S, S), templates with several views (B, V, 3, T, T).
        box: (B, 4) cx, cy, w, h as fractions of the search crop.
        present: (B,) bool.
    """

    inputs: dict[str, Tensor]
    box: Tensor
    present: Tensor


class ConsecutiveNumbers(Sampler[int]):
    """Sample numbers from `start` up to `stop`: what is left of a run."""

    def __init__(self, start: int, stop: int) -> None:
        self._numbers = range(start, stop)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def make_loader(
    dataset: PairDataset, batch_size: int, start: int, stop: int, workers: int, pin: bool
) -> DataLoader[Sample]:
    """Loads samples `start` to `stop` in order; an incomplete last batch is dropped."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=ConsecutiveNumbers(start, stop),
        num_workers=workers,
        drop_last=True,
        pin_memory=pin,
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )


def to_device(sample: dict[str, Tensor], spec: ModelSpec, device: torch.device) -> Batch:
    """Moves a collated sample to the device as bytes, and colours and normalises it there."""
    moved = {k: v.to(device, non_blocking=True) for k, v in sample.items()}
    inputs = {name: moved[name] for name in spec.forward_inputs}
    for row, name in enumerate(IMAGES):
        if name in inputs:
            inputs[name] = _finished(inputs[name], moved["colour"][:, row], moved["gray"], spec)
    return Batch(inputs, moved["box"], moved["present"])


def _finished(crops: Tensor, colour: Tensor, gray: Tensor, spec: ModelSpec) -> Tensor:
    """(B, S, S, 3) or (B, V, S, S, 3) bytes -> what the network reads; views are coloured alike."""
    if crops.ndim == 5:
        views = crops.shape[1]
        colour, gray = colour.repeat_interleave(views, 0), gray.repeat_interleave(views, 0)
        return _finished(crops.flatten(0, 1), colour, gray, spec).unflatten(0, (-1, views))
    coloured = apply_colour(_to_map(crops), colour, gray)
    return _normalise(coloured, spec)


def _to_map(crops: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels-last in memory."""
    return crops.permute(0, 3, 1, 2).float()


def _normalise(crops: Tensor, spec: ModelSpec) -> Tensor:
    mean = crops.new_tensor(spec.mean).view(1, 3, 1, 1)
    std = crops.new_tensor(spec.std).view(1, 3, 1, 1)
    return ((crops / 255.0 - mean) / std).contiguous(memory_format=torch.channels_last)
