# SPDX-License-Identifier: Apache-2.0
"""The training loop: one device, resumable at any moment, the same numbers for the same seed."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vt_models.errors import RecipeError, VtModelsError
from vt_models.registry import get_spec
from vt_models.training.batches import Batch, PairDataset, make_loader, to_device
from vt_models.training.checkpoint import load_checkpoint, save_checkpoint
from vt_models.training.losses import loss_for
from vt_models.training.recipe import OptimConfig, Recipe, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vt_models.training.data import ImagePack

LOG_EVERY_STEPS = 20


class DivergedError(VtModelsError):
    """The loss is no longer a number."""


@dataclass
class Progress:
    """What a step reports.

    Attributes:
        samples: Pairs seen so far.
        terms: Loss terms and `iou`, averaged since the last report.
        lr: Learning rate of the head.
        pairs_per_second: Throughput since the last report.
        data_wait: Share of that time spent waiting for data.
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
    """

    on_progress: Callable[[Progress], None] | None = None
    on_validate: Callable[[nn.Module, int], None] | None = None


@dataclass
class _Meter:
    terms: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, terms: dict[str, Tensor], waited: float) -> None:
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, torch.zeros_like(value)) + value.detach()
        self.steps += 1
        self.waited += waited


class Trainer:
    """Trains one network by one recipe.

    Args:
        net: A network of the registry.
        recipe: What to do.
        pack: Images in memory.
        directory: Where `last.pt` goes.
        device: Where to compute.
        workers: Processes that cut crops; 0 does it in this one.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        pack: ImagePack,
        directory: Path,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.recipe = recipe
        self.spec = get_spec(recipe.model)
        self.device = device
        self.directory = directory
        self.samples = 0
        self._workers = workers
        self._dataset = PairDataset(pack, self.spec, recipe)
        self._net = net.to(device, memory_format=torch.channels_last)
        self._ema = copy.deepcopy(self._net).eval() if recipe.optim.ema > 0 else None
        self._optimizer = make_optimizer(self._net, recipe.optim)
        self._loss = loss_for(self.spec)

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.directory / "last.pt"

    @property
    def averaged_net(self) -> nn.Module:
        """The network to validate and export: the moving average where there is one."""
        return self._net if self._ema is None else self._ema

    def resume(self) -> bool:
        """Continues from `last.pt` when there is one.

        Raises:
            RecipeError: It belongs to another model.
        """
        if not self.checkpoint_path.is_file():
            return False
        state = load_checkpoint(self.checkpoint_path)
        model = state["recipe"]["model"]
        if model != self.recipe.model:
            raise RecipeError(
                f"{self.checkpoint_path} is of {model}, the recipe trains {self.recipe.model}: "
                "choose another --output."
            )
        self._net.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"] if state["ema"] is not None else state["model"])
        self.samples = int(state["samples"])
        return True

    def save(self) -> None:
        """Writes `last.pt`."""
        state: dict[str, Any] = {
            "model": self._net.state_dict(),
            "ema": None if self._ema is None else self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "samples": self.samples,
            "recipe": to_dict(self.recipe),
        }
        save_checkpoint(state, self.checkpoint_path)

    def run(self, hooks: Hooks | None = None) -> None:
        """Trains until the recipe's number of samples, from wherever this trainer is.

        Raises:
            DivergedError: The loss is not finite; `last.pt` holds the state before.
        """
        hooks = hooks or Hooks()
        optim = self.recipe.optim
        loader = make_loader(
            self._dataset,
            optim.batch_size,
            self.samples,
            optim.samples,
            self._workers,
            pin=self.device.type == "cuda",
        )
        self._net.train()
        meter = _Meter()
        asked = time.perf_counter()
        for sample in loader:
            waited = time.perf_counter() - asked
            meter.add(self._step(to_device(sample, self.spec, self.device)), waited)
            if meter.steps == LOG_EVERY_STEPS:
                if hooks.on_progress:
                    hooks.on_progress(self._report(meter))
                meter = _Meter()
            if self._crossed(self.recipe.checkpoint_every):
                self.save()
            if hooks.on_validate and self._crossed(self.recipe.validate_every):
                hooks.on_validate(self.averaged_net, self.samples)
                self._net.train()
            asked = time.perf_counter()
        self.save()

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        optim = self.recipe.optim
        self._set_learning_rates()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.precision == "bf16"):
            outputs = self._forward(batch)
        terms = self._loss(outputs, batch.box, batch.present, self.recipe.loss)
        self._optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        norm = nn.utils.clip_grad_norm_(self._net.parameters(), optim.grad_clip)
        if not torch.isfinite(norm):
            raise DivergedError(
                f"The loss or its gradient is not finite after {self.samples} samples "
                f"({', '.join(f'{k}={v.item():.4g}' for k, v in terms.items())}); "
                f"{self.checkpoint_path} is intact. Lower optim.lr or lengthen the warm-up."
            )
        self._optimizer.step()
        self.samples += len(batch.box)
        if self._ema is not None:
            self._average(self._ema)
        return terms

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        if "template_box" in self.spec.template_inputs:
            return self._net(batch.template, batch.search, batch.template_box)
        return self._net(batch.template, batch.search)

    @torch.no_grad()
    def _average(self, ema: nn.Module) -> None:
        """EMA of parameters and buffers, faster at the start (as in timm)."""
        step = self.samples / self.recipe.optim.batch_size
        rate = 1.0 - min(self.recipe.optim.ema, (1.0 + step) / (10.0 + step))
        own = self._net.state_dict()
        for key, average in ema.state_dict().items():
            if average.is_floating_point():
                average.lerp_(own[key], rate)
            else:
                average.copy_(own[key])

    def _set_learning_rates(self) -> None:
        scale = learning_rate_scale(self.samples, self.recipe.optim)
        frozen = self.samples < self.recipe.optim.backbone_freeze_samples
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
            if group["backbone"]:
                for parameter in group["params"]:
                    parameter.requires_grad_(not frozen)

    def _crossed(self, interval: int) -> bool:
        if interval <= 0:
            return False
        return self.samples // interval > (self.samples - self.recipe.optim.batch_size) // interval

    def _report(self, meter: _Meter) -> Progress:
        terms = {name: float(value) / meter.steps for name, value in meter.terms.items()}
        elapsed = time.perf_counter() - meter.started
        return Progress(
            samples=self.samples,
            terms=terms,
            lr=max(group["lr"] for group in self._optimizer.param_groups),
            pairs_per_second=meter.steps * self.recipe.optim.batch_size / elapsed,
            data_wait=meter.waited / elapsed,
        )


def learning_rate_scale(samples: int, optim: OptimConfig) -> float:
    """Factor on the peak learning rate after `samples` pairs."""
    if samples < optim.warmup_samples:
        return (samples + optim.batch_size) / (optim.warmup_samples + optim.batch_size)
    done = samples / optim.samples
    if done < optim.decay_start:
        return 1.0
    if optim.decay == "step":
        return 0.1
    left = (1.0 - done) / max(1.0 - optim.decay_start, 1e-9)
    return max(left, 0.01)


def make_optimizer(net: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW with four groups: backbone or not, decayed (matrices, kernels) or not (the rest).

    Frozen parameters are in none of them and need no gradient.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        backbone = name.startswith("backbone.")
        if name.startswith(optim.frozen) or (backbone and optim.backbone_lr_factor == 0):
            parameter.requires_grad_(False)
            continue
        groups.setdefault((backbone, parameter.ndim >= 2), []).append(parameter)
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
    )


def seed_everything(seed: int) -> None:
    """Seeds the initial weights; pairs and augmentation have streams of their own."""
    torch.manual_seed(seed)
