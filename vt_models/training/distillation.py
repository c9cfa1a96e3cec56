# SPDX-License-Identifier: Apache-2.0
"""Learning from a trained tracker which cells of a search crop look alike.

For networks whose backbone starts from nothing because no package carries its ImageNet weights. The
pair-wise term of structured distillation (Liu et al., CVPR 2019, eq. 2): the cosine similarities
between all cells of the student's map shall be those of the teacher's. It needs no projection
between maps of different widths, so a checkpoint holds the student and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.errors import RecipeError
from vt_models.registry import get_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from vt_models.registry import ModelSpec
    from vt_models.training.recipe import DistillConfig

STUDENT_TAPS: dict[str, tuple[str, ...]] = {
    "asymtrack": (
        "backbone.layers.0.downsample",
        "backbone.layers.1.downsample",
        "backbone.layers.2.downsample",
    )
}
"""Modules whose output maps learn, by family; strides 8, 16 and 32."""

TEACHER_TAPS: dict[str, tuple[str, ...]] = {"asymtrack_lite": ("backbone",)}
"""Module that gives the maps to learn from (a tuple, strides 8 and 16), by family."""

MAX_CELLS = 16
"""Maps are pooled to at most 16 x 16 cells: the similarities grow with the fourth power."""


class Distiller:
    """Adds to a student's loss how much its maps differ from a teacher's.

    Args:
        net: The student; its maps are caught by hooks, so it must run before each call.
        teacher: A trained network; becomes frozen and is moved to `device`.
        spec: The student's.
        config: The recipe's section `distill`.
        device: Where both compute.

    Raises:
        RecipeError: No maps are known for the student's or the teacher's family.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module,
        spec: ModelSpec,
        config: DistillConfig,
        device: torch.device,
    ) -> None:
        self.config = config
        teacher_spec = get_spec(config.teacher)
        taps = _known(STUDENT_TAPS, spec, "learn from maps of")
        self._maps: dict[str, Tensor] = {}
        for tap in taps:
            net.get_submodule(tap).register_forward_hook(self._catcher(tap))
        self._taps = taps
        frozen = teacher.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        (backbone,) = _known(TEACHER_TAPS, teacher_spec, "teach with")
        self._backbone = frozen.get_submodule(backbone)
        # The student's crop arrives normalised for the student: x_t = x_s * scale + shift.
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (spec.mean, spec.std, teacher_spec.mean, teacher_spec.std)
        )
        self._scale, self._shift = std / own_std, (mean - own_mean) / own_std

    def __call__(
        self, terms: dict[str, Tensor], search: Tensor, samples: int, pairs: int
    ) -> dict[str, Tensor]:
        """The terms with `distill`, and `total` with its share of it.

        Args:
            terms: Of the tracking loss, from the forward pass just done.
            search: (B, 3, S, S), normalised for the student.
            samples: Pairs seen so far.
            pairs: In the whole step; more than B where the batch comes in parts.
        """
        tracking, weight = self._weights(samples)
        found = [self._maps.pop(tap) for tap in self._taps]
        if weight == 0:  # the teacher is a quarter of a step
            return terms
        with torch.no_grad():
            wanted = self._backbone(torch.addcmul(self._shift, search, self._scale))
        each = [relation_difference(own, _closest(wanted, own)).sum() for own in found]
        distill = torch.stack(each).mean() / pairs
        total = tracking * terms["total"] + weight * distill
        return {**terms, "distill": distill.detach(), "total": total}

    def _weights(self, samples: int) -> tuple[float, float]:
        """Of the tracking loss and of the distillation."""
        config = self.config
        if samples < config.alone_samples:
            return 0.0, config.weight
        left = 1.0 - (samples - config.alone_samples) / config.fade_samples
        return 1.0, config.weight * max(left, 0.0)

    def _catcher(self, tap: str) -> Callable[[nn.Module, object, Tensor], None]:
        def catch(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self._maps[tap] = output

        return catch


def _known(taps: dict[str, tuple[str, ...]], spec: ModelSpec, verb: str) -> tuple[str, ...]:
    if spec.family not in taps:
        raise RecipeError(
            f"distill: it is not known which maps to {verb} {spec.name} (family {spec.family}); "
            f"known: {', '.join(sorted(taps))}."
        )
    return taps[spec.family]


def _closest(maps: tuple[Tensor, ...], own: Tensor) -> Tensor:
    """The coarsest of the teacher's maps that is not coarser than the student's."""
    fine = [one for one in maps if one.shape[-1] >= own.shape[-1]]
    return min(fine or maps, key=lambda one: one.shape[-1])


def relation_difference(own: Tensor, wanted: Tensor) -> Tensor:
    """How differently two maps (B, C, H, W) relate the cells of a crop.

    Returns:
        (B,) mean squared difference of the cosine similarities between all cells.
    """
    cells = min(own.shape[-1], wanted.shape[-1], MAX_CELLS)
    return (_similarities(own, cells) - _similarities(wanted, cells)).square().mean((1, 2))


def _similarities(features: Tensor, cells: int) -> Tensor:
    """(B, C, H, W) -> (B, cells^2, cells^2) cosines; the mean over the crop's cells taken away.

    Without that all cosines of features behind a ReLU are near 1.
    """
    flat = F.adaptive_avg_pool2d(features.float(), cells).flatten(2)
    unit = F.normalize(flat - flat.mean(-1, keepdim=True), dim=1)
    return unit.transpose(1, 2) @ unit
