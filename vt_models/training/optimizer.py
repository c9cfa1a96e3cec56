# SPDX-License-Identifier: Apache-2.0
"""What changes weights: AdamW's groups, the schedule of its rate, the moving average."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vt_models.errors import RecipeError
from vt_models.training.recipe.settings import OptimConfig

RECIPE_KEYS = ("peak_lr", "weight_decay", "fused", "foreach")
"""Settings of a parameter group that a checkpoint does not bring back."""


def make_optimizer(net: nn.Module, optim: OptimConfig, fused: bool = False) -> torch.optim.AdamW:
    """Make AdamW with four groups: backbone or not, decayed (matrices, kernels) or not (the rest).

    Frozen parameters are in none of them and need no gradient.

    Args:
        net: On its device.
        optim: Rates, and what learns.
        fused: One kernel for all parameters, on a GPU.

    Raises:
        RecipeError: A prefix names nothing, or nothing is left to learn.
    """
    names = [name for name, _ in net.named_parameters()]
    for setting in ("frozen", "only", "backbone"):
        for prefix in getattr(optim, setting):
            if not any(name.startswith(prefix) for name in names):
                raise RecipeError(
                    f"optim.{setting}: no parameter begins with {prefix!r}; they begin with "
                    f"{', '.join(sorted({'.'.join(name.split('.')[:2]) for name in names}))}."
                )
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        backbone = name.startswith(optim.backbone)
        still = name.startswith(optim.frozen) or (backbone and optim.backbone_lr_factor == 0)
        if still or (optim.only and not name.startswith(optim.only)):
            parameter.requires_grad_(False)
            continue
        groups.setdefault((backbone, parameter.ndim >= 2), []).append(parameter)
    if not groups:
        raise RecipeError("optim.frozen and optim.only leave nothing to learn: change them.")
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak_lr": optim.lr * (optim.backbone_lr_factor if backbone else 1.0),
                "lr": optim.lr,
                "weight_decay": optim.weight_decay if decayed else 0.0,
                "backbone": backbone,
            }
            for (backbone, decayed), parameters in groups.items()
        ],
        lr=optim.lr,
        fused=fused or None,
    )


def load_optimizer(optimizer: torch.optim.AdamW, state: dict[str, Any]) -> None:
    """Load moments and step counts of a checkpoint; rates and weight decay stay the recipe's.

    Raises:
        ValueError: The groups are not those of the checkpoint.
    """
    wanted = [{key: group[key] for key in RECIPE_KEYS} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, wanted, strict=True):
        group.update(values)


def trainable_settings(optim: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that say which parameters are in which group of the optimiser."""
    prefixes = {key: tuple(optim[key]) for key in ("frozen", "only", "backbone")}
    return prefixes | {"backbone_lr_factor": "0" if optim["backbone_lr_factor"] == 0 else "> 0"}


def learning_rate_scale(samples: int, optim: OptimConfig, done: float | None = None) -> float:
    """Return the factor on the peak learning rate.

    Args:
        samples: Pairs seen.
        optim: The schedule.
        done: Fraction of the run that is over; None where pairs alone say it.
    """
    if samples < optim.warmup_samples:
        return (samples + optim.batch_size) / (optim.warmup_samples + optim.batch_size)
    done = samples / optim.samples if done is None else done
    if done < optim.decay_start:
        return 1.0
    if optim.decay == "step":
        return 0.1 if done < optim.decay_again else 0.01
    left = (1.0 - done) / max(1.0 - optim.decay_start, 1e-9)
    return max(left, 0.01)


class ModelEma:
    """A copy of a network whose weights are the moving average of the original's.

    Args:
        net: The original; its tensors stay its own for good.
        decay: Of the average, after the first steps.

    Attributes:
        net: The copy, for inference.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval()
        self._decay = decay
        pairs = list(zip(_tensors(self.net), _tensors(net), strict=True))
        self._real = [pair for pair in pairs if pair[0].is_floating_point()]
        self._whole = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: float) -> None:
        """Take the original's weights after `step` steps in, faster at the start (as in timm)."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        averages, originals = [a for a, _ in self._real], [own for _, own in self._real]
        get_ema_multi_avg_fn(decay)(averages, originals, None)
        for average, own in self._whole:
            average.copy_(own)


def _tensors(net: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers."""
    return [*net.parameters(), *net.buffers()]
