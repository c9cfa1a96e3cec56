# SPDX-License-Identifier: Apache-2.0
"""Batches of training pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vt_models.training.augment import (
    Box,
    View,
    apply_colour,
    box_in_view,
    crop_view,
    draw_colour,
    erase,
    jittered_view,
    lower_resolution,
    motion_blur,
    occlude,
)
from vt_models.training.lookalikes import add_distractor, cut_object, transplant
from vt_models.training.sampling import Pair, PairSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vt_models.registry import ModelSpec
    from vt_models.training.data import ImagePack, Target
    from vt_models.training.recipe import Recipe

Sample = dict[str, np.ndarray]
LABEL_ATTEMPTS = 10


@dataclass(frozen=True)
class Batch:
    """A batch on the training device.

    Attributes:
        template, search: (B, 3, T, T), (B, 3, S, S) normalised float32.
        template_box: (B, 4) x, y, w, h as fractions of the template crop.
        box: (B, 4) cx, cy, w, h as fractions of the search crop.
        present: (B,) bool.
    """

    template: Tensor
    search: Tensor
    template_box: Tensor
    box: Tensor
    present: Tensor


class PairDataset(Dataset[Sample]):
    """Sample number -> one pair of crops. The same number always gives the same crops."""

    def __init__(self, pack: ImagePack, spec: ModelSpec, recipe: Recipe) -> None:
        self._pack = pack
        self._spec = spec
        self._config = recipe.augment
        self._sampler = PairSampler(pack, recipe.sampling, recipe.seed)

    def __getitem__(self, number: int) -> Sample:
        rng = self._sampler.rng(number)
        pair = self._sampler.draw(rng)
        flip = bool(rng.random() < self._config.joint_flip)
        template, template_box = self._template(pair, flip, rng)
        search, box, present = self._search(pair, flip, rng)
        if rng.random() < self._config.template_blur:
            template = motion_blur(template, rng)
        if rng.random() < self._config.small:
            template, search = _as_small(template, template_box, search, box, rng)
        colour = draw_colour(self._config, rng)
        return {
            "template": template,
            "search": search,
            "template_box": template_box,
            "box": box,
            "present": np.array(present),
            "colour": colour.values,
            "gray": np.array(colour.gray),
        }

    def _mirror(self, joint: bool, rng: np.random.Generator) -> bool:
        return joint ^ bool(rng.random() < self._config.crop_flip)

    def _template(
        self, pair: Pair, flip: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        config, spec = self._config, self._spec
        target = pair.template
        view = jittered_view(
            target.box, spec.template_factor, config.template_centre, config.template_scale, rng
        )
        view = View(view.centre, view.side, mirrored=self._mirror(flip, rng))
        crop = crop_view(self._pack.images[target.image], view, spec.template_size)
        cx, cy, w, h = box_in_view(target.box, view)
        return crop, np.array([cx - w / 2, cy - h / 2, w, h], np.float32)

    def _search(
        self, pair: Pair, flip: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        config, images, present = self._config, self._pack.images, pair.present
        shown, moved = pair.search, False
        if present and rng.random() < config.transplant:
            elsewhere = self._sampler.lookalike(pair.search, rng)
            shown, moved = elsewhere or shown, elsewhere is not None
        view, box = self._search_view(shown.box, self._mirror(flip, rng), rng)
        outside = self._any_image(rng) if rng.random() < config.foreign_border else None
        crop = crop_view(images[shown.image], view, self._spec.search_size, outside)
        if moved:
            box = transplant(crop, box, self._patch(pair.search, view.mirrored), rng)
        if rng.random() < config.distractor:
            other = self._sampler.lookalike(pair.search, rng)
            if other is not None:
                crop = add_distractor(crop, box, self._patch(other, False), rng)
        if present and rng.random() < config.occlusion:
            crop = occlude(crop, box, self._any_image(rng), rng)
        if present and rng.random() < config.erase:
            crop, present = erase(crop, box, self._any_image(rng), rng), False
        if rng.random() < config.blur:
            crop = motion_blur(crop, rng)
        return crop, box, present

    def _patch(self, target: Target, mirrored: bool) -> np.ndarray:
        patch = cut_object(self._pack.images[target.image], target)
        return patch[:, ::-1] if mirrored else patch

    def _any_image(self, rng: np.random.Generator) -> np.ndarray:
        return self._pack.images[int(rng.integers(len(self._pack.images)))]

    def _search_view(
        self, box: Box, mirrored: bool, rng: np.random.Generator
    ) -> tuple[View, np.ndarray]:
        """A random window that shows the middle of the target."""
        config, spec = self._config, self._spec
        for attempt in range(LABEL_ATTEMPTS):
            shrink = 1.0 - attempt / LABEL_ATTEMPTS
            view = jittered_view(
                box, spec.search_factor, config.search_centre * shrink, config.search_scale, rng
            )
            aspect = float(np.exp(rng.uniform(-1, 1) * config.aspect))
            most = 90.0 if rng.random() < config.spin else config.rotation_deg
            angle = float(np.deg2rad(rng.uniform(-1, 1) * most))
            view = View(view.centre, view.side / aspect**0.5, aspect, angle, mirrored)
            label = box_in_view(box, view)
            if 0.02 < label[0] < 0.98 and 0.02 < label[1] < 0.98:
                break
        return view, label


def _as_small(
    template: np.ndarray,
    template_box: np.ndarray,
    search: np.ndarray,
    box: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Both crops as if the target were 5 to 24 pixels large, about the same in both."""
    wanted = float(np.exp(rng.uniform(np.log(5.0), np.log(24.0))))
    coarse = []
    for crop, (w, h) in ((template, template_box[2:]), (search, box[2:])):
        target_px = crop.shape[0] * float(np.sqrt(w * h))
        quality = int(rng.integers(35, 95)) if rng.random() < 0.5 else 100
        change = float(np.exp(rng.standard_normal() * 0.15))
        coarse.append(lower_resolution(crop, target_px, wanted * change, quality))
    return coarse[0], coarse[1]


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

    def finished(crops: Tensor, index: int) -> Tensor:
        coloured = apply_colour(_to_map(crops), moved["colour"][:, index], moved["gray"])
        return _normalise(coloured, spec)

    return Batch(
        finished(moved["template"], 0),
        finished(moved["search"], 1),
        moved["template_box"],
        moved["box"],
        moved["present"],
    )


def _to_map(crops: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels-last in memory."""
    return crops.permute(0, 3, 1, 2).float()


def _normalise(crops: Tensor, spec: ModelSpec) -> Tensor:
    mean = crops.new_tensor(spec.mean).view(1, 3, 1, 1)
    std = crops.new_tensor(spec.std).view(1, 3, 1, 1)
    return ((crops / 255.0 - mean) / std).contiguous(memory_format=torch.channels_last)
