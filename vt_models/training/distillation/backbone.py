# SPDX-License-Identifier: Apache-2.0
"""Teaching a backbone that no package has weights for: a trained tracker's maps are its labels.

Every cell of every window has the teacher's channels to predict, by a linear projection that is
thrown away at the end (Romero et al., FitNets, ICLR 2015, with a 1x1 convolution as the regressor).
That is much more to learn from than one box a pair, and windows can be small: 180 a second on two
CPU cores, where pairs of AsymTrack-T come at 40. The teacher's channels are standardised first, so
that each counts as much and the error is the share of their variance that stays unexplained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from vt_models.errors import InputError, TrainingError
from vt_models.nets.asymtrack import AsymTrackAttention
from vt_models.nets.layers import EfficientTemplateModulation
from vt_models.registry import ModelSpec
from vt_models.training.data.augmentation import (
    View,
    apply_colour,
    crop_view,
    draw_colour,
    lower_resolution,
    motion_blur,
)
from vt_models.training.data.batches import BatchNumbers, make_loader
from vt_models.training.data.targets import IndexedSequence
from vt_models.training.recipe.settings import AugmentConfig

Maps: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]

NARROWEST_PX = 32.0
"""Windows are at least that wide in their image."""
WARM_UP = 0.03
"""The learning rate rises during this share of the run."""
COLOURS = AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.3, grey=0.1)
BLURRED, COARSENED = 0.1, 0.15
"""These shares of the windows are blurred and shown with fewer pixels."""
STUDENTS = ("asymtrack",)
TEACHERS = ("asymtrack_lite", "asymtrack")
"""Families whose networks can learn and teach by their maps."""
MODULATION_INIT_SCALE = 0.1
"""What the modulation's norm scales with at first: an unlearned one drowns distilled features."""
SEARCH_MARK_CHANNELS = 16
"""Channels that tell search cells from template cells at first, by 1."""


@dataclass(frozen=True)
class BackboneSettings:
    """How a backbone is taught.

    Attributes:
        samples: The run ends after so many windows.
        max_seconds: The run ends after this time, with its schedule complete.
        batch_size: Each step takes so many windows.
        size: A window's crop has this side in pixels, a multiple of 32.
        lr: The peak of the learning rate, which falls to 0 along half a cosine. After 17,600
            windows of batches of 32, 0.006 left 0.48 of the finest map's variance unexplained,
            0.003 0.54.
        weight_decay: Matrices and kernels decay by this; biases and norms do not.
        branch_scale: See `ease_start`: after 16,000 windows 0.73 of the finest map's variance was
            unexplained from 0.001, 0.65 from 0.5.
        seed: Windows and projections are drawn by it.
        compile: The step goes through torch.compile, which takes a minute first: 215 windows a
            second and core, forward and backward, instead of 145.
    """

    samples: int = 300_000
    max_seconds: float = math.inf
    batch_size: int = 32
    size: int = 128
    lr: float = 7e-3
    weight_decay: float = 1e-2
    branch_scale: float = 1.0
    seed: int = 7
    compile: bool = False


class Windows(Dataset[dict[str, np.ndarray]]):
    """Number -> a random window of a random image; the same number always gives the same.

    `crop` (S, S, 3) uint8, `colour` (3,) and `grey` as in `ColourDraw`.
    """

    def __init__(self, images: IndexedSequence[np.ndarray], settings: BackboneSettings) -> None:
        self._images = images
        self._settings = settings

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        rng, size = np.random.default_rng((self._settings.seed, number)), self._settings.size
        image = self._any(rng)
        surroundings = self._any(rng) if rng.random() < 0.5 else None
        crop = crop_view(image, _anywhere(image.shape, rng), size, surroundings)
        if rng.random() < BLURRED:
            crop = motion_blur(crop, rng)
        if rng.random() < COARSENED:
            crop = lower_resolution(crop, size / 2, float(rng.uniform(8, 32)), 100)
        colour = draw_colour(COLOURS, rng)
        return {"crop": crop, "colour": colour.values[0], "grey": np.array(colour.grey)}

    def _any(self, rng: np.random.Generator) -> np.ndarray:
        return self._images[int(rng.integers(len(self._images)))]


def _anywhere(shape: tuple[int, ...], rng: np.random.Generator) -> View:
    """Draw a view: from a detail to the whole image, a little turned and stretched."""
    height, width = shape[:2]
    low, high = math.log(NARROWEST_PX), math.log(max(min(height, width), 2 * NARROWEST_PX))
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    angle = math.radians(rng.uniform(-20, 20))
    aspect = math.exp(rng.uniform(-0.2, 0.2))
    mirrored = bool(rng.random() < 0.5)
    return View(centre, math.exp(rng.uniform(low, high)), aspect, angle, mirrored)


class DistillationLoss(nn.Module):
    """How much of a teacher's maps a student's do not explain.

    Args:
        student: image (B, 3, S, S), normalised for it -> its maps.
        teacher: the same -> its maps; computes without gradients.
        size: S, to learn the maps' shapes.
        device: Where both compute.

    Raises:
        InputError: The teacher has no map of the size of one of the student's.
    """

    def __init__(self, student: Maps, teacher: Maps, size: int, device: torch.device) -> None:
        super().__init__()
        self._student, self._teacher = student, teacher
        with torch.no_grad():
            image = torch.zeros(1, 3, size, size, device=device)
            own, given = student(image), teacher(image)
        self._partners = [_of_same_size(one, given) for one in own]
        self.norms = nn.ModuleList(nn.BatchNorm2d(one.shape[1], affine=False) for one in given)
        self.projections = nn.ModuleList(
            nn.Conv2d(one.shape[1], given[partner].shape[1], 1)
            for one, partner in zip(own, self._partners, strict=True)
        )
        self.to(device)

    def forward(self, image: Tensor, for_teacher: Tensor) -> Tensor:
        """Return the unexplained shares of the variance, one a map of the student.

        Args:
            image: (B, 3, S, S), normalised for the student.
            for_teacher: The same image, normalised for the teacher.
        """
        with torch.no_grad():
            given = self._teacher(for_teacher)
            wanted = [norm(one.float()) for norm, one in zip(self.norms, given, strict=True)]
        own = zip(self.projections, self._student(image), self._partners, strict=True)
        return torch.stack(
            [F.mse_loss(project(one).float(), wanted[partner]) for project, one, partner in own]
        )


def _of_same_size(own: Tensor, given: tuple[Tensor, ...]) -> int:
    """Return which of the teacher's maps is as large as one of the student's."""
    sides = [one.shape[-1] for one in given]
    if own.shape[-1] not in sides:
        raise InputError(
            f"The teacher's maps have {sides} cells a side, one of the student's {own.shape[-1]}: "
            "choose another teacher."
        )
    return sides.index(own.shape[-1])


def _maps_of(net: nn.Module, spec: ModelSpec, known: tuple[str, ...]) -> Maps:
    """Image -> maps of strides 8 and 16, by which a network learns or teaches.

    Args:
        net: The network.
        spec: Its specification.
        known: Families that can.

    Raises:
        InputError: Its family cannot.
    """
    if spec.family not in known:
        verb = "learn" if known is STUDENTS else "teach"
        raise InputError(
            f"{spec.name} (family {spec.family}) cannot {verb} by its maps; those of the families "
            f"{', '.join(known)} can."
        )
    return net.backbone.plain_maps if spec.family == "asymtrack" else net.backbone


def distill_backbone(
    student: tuple[nn.Module, ModelSpec],
    teacher: tuple[nn.Module, ModelSpec],
    images: IndexedSequence[np.ndarray],
    settings: BackboneSettings,
    device: torch.device,
    workers: int = 0,
) -> Iterator[tuple[int, Tensor]]:
    """Teach a network's backbone, in place.

    Args:
        student: Learns; in evaluation mode at the end.
        teacher: Becomes frozen.
        images: RGB uint8 (H, W, 3) to cut windows from.
        settings: Of windows and optimiser.
        device: Where to compute; both networks are moved there.
        workers: Processes that cut windows; 0 does it in this one.

    Yields:
        After each step the windows seen, and `DistillationLoss`'s shares.

    Raises:
        InputError: The teacher has no maps for this student.
        TrainingError: The error is no longer a number.
    """
    net, spec = student
    learned = _maps_of(net, spec, STUDENTS)
    guide = teacher[0].to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    net.to(device, memory_format=torch.channels_last).train()
    ease_start(net, settings.branch_scale)
    loss = DistillationLoss(learned, _maps_of(guide, teacher[1], TEACHERS), settings.size, device)
    step = torch.compile(loss) if settings.compile else loss
    parameters = [*net.parameters(), *loss.projections.parameters()]
    optimizer = _optimizer(parameters, settings)
    prepare = _Normaliser(spec, teacher[1], device)
    began = time.perf_counter()
    numbers = BatchNumbers(0, settings.samples, settings.batch_size)
    loader = make_loader(Windows(images, settings), numbers, workers, pin=device.type == "cuda")
    for number, batch in enumerate(loader):
        seen = number * settings.batch_size
        done = max(seen / settings.samples, (time.perf_counter() - began) / settings.max_seconds)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _rate(done)
        with torch.autocast(device.type, torch.bfloat16):
            shares = step(*prepare(batch))
        if not bool(torch.isfinite(shares).all()):
            raise TrainingError(f"The error is not a number after {seen} windows: lower the rate.")
        optimizer.zero_grad(set_to_none=True)
        shares.sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        yield seen + settings.batch_size, shares.detach()
    net.eval()


def _optimizer(parameters: list[nn.Parameter], settings: BackboneSettings) -> torch.optim.AdamW:
    matrices = [one for one in parameters if one.ndim >= 2]
    others = [one for one in parameters if one.ndim < 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)


def _rate(done: float) -> float:
    """Return the factor on the peak learning rate."""
    return min(1.0, (done + 1e-4) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


class _Normaliser:
    """Bytes of windows -> what student and teacher read, coloured alike."""

    def __init__(self, student: ModelSpec, teacher: ModelSpec, device: torch.device) -> None:
        self._device = device
        self._figures = [
            tuple(torch.tensor(value, device=device).view(1, 3, 1, 1) for value in both)
            for both in ((student.mean, student.std), (teacher.mean, teacher.std))
        ]

    def __call__(self, batch: dict[str, Tensor]) -> list[Tensor]:
        moved = {name: value.to(self._device) for name, value in batch.items()}
        crops = moved["crop"].permute(0, 3, 1, 2).float()
        image = apply_colour(crops, moved["colour"], moved["grey"]) / 255.0
        return [
            ((image - mean) / std).contiguous(memory_format=torch.channels_last)
            for mean, std in self._figures
        ]


@torch.no_grad()
def ease_start(net: nn.Module, branch_scale: float) -> None:
    """Give a fresh AsymTrack a start from which it soon uses what it has, in place.

    Residual branches are open: their factors start at 1e-4 and 0 in the published training, which
    had hundreds of epochs to open them. Attention searches for what resembles: queries start as
    keys. Modulation starts small, but for a constant by which attention can tell the search region
    from the template, as nothing else does. With features distilled for three minutes and
    `loss.matching`, 3,840 pairs lead to an IoU of 0.40 from here and to 0.22 from the usual start;
    with queries as keys alone, 3,200 lead to 0.21 instead of 0.38.

    Args:
        net: Of the family asymtrack.
        branch_scale: What the factors of residual branches start from.
    """
    for name, parameter in net.named_parameters():
        if name.rsplit(".", 1)[-1] in ("gamma_1", "ibe_scale"):
            parameter.fill_(branch_scale)
    for module in net.modules():
        if isinstance(module, AsymTrackAttention):
            query, key, _ = module.qkv.weight.chunk(3)
            nn.init.normal_(key, std=key.shape[1] ** -0.5)
            query.copy_(key)
        elif isinstance(module, EfficientTemplateModulation):
            module.ln.weight.fill_(MODULATION_INIT_SCALE)
    last = [one for one in net.modules() if isinstance(one, EfficientTemplateModulation)][-1:]
    for module in last:
        module.ln.bias[:SEARCH_MARK_CHANNELS] = 1.0
