# SPDX-License-Identifier: Apache-2.0
"""The training loop: one device, resumable at any moment, the same numbers for the same seed."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vt_models.errors import RecipeError, VtModelsError, WeightsError
from vt_models.nets.vit import scheduled_keep_ratio
from vt_models.registry import get_spec
from vt_models.training.batches import Batch, make_loader, to_device
from vt_models.training.checkpoint import load_checkpoint, save_checkpoint
from vt_models.training.crops import PairDataset
from vt_models.training.losses import loss_for
from vt_models.training.recipe import OptimConfig, Recipe, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vt_models.training.data import ImagePack

LOG_EVERY_STEPS = 20


class DivergedError(VtModelsError):
    """The loss is no longer a number."""


class DataWorkerError(VtModelsError):
    """A process that cuts crops died."""


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
    finite: Tensor | None = None

    def add(self, terms: dict[str, Tensor], finite: Tensor, waited: float) -> None:
        self.finite = finite if self.finite is None else self.finite & finite
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
        self._final_keep_ratio = float(getattr(net, "keep_ratio", 1.0))
        self._stopping = False

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
            RecipeError: It belongs to another model, or other parameters learned in it.
            WeightsError: It is damaged, or of another version of the network.
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
        self._check_same_parameters(state["recipe"]["optim"])
        try:
            self._net.load_state_dict(state["model"])
            if self._ema is not None:
                self._ema.load_state_dict(state["model"] if state["ema"] is None else state["ema"])
            self._load_optimizer(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{self.checkpoint_path} does not fit this version of {model} "
                f"({str(error).splitlines()[0]}): give another --output, or --restart."
            ) from error
        self.samples = int(state["samples"])
        return True

    def _check_same_parameters(self, former: dict[str, Any]) -> None:
        """AdamW's state goes by position: it fits the parameters that learned before only."""
        defaults = to_dict(self.recipe)["optim"] | {"only": (), "backbone": ("backbone.",)}
        before = _learning(defaults | former)
        now = _learning(to_dict(self.recipe)["optim"])
        if before != now:
            raise RecipeError(
                f"{self.checkpoint_path} was trained with {before} under `optim`, the recipe says "
                f"{now}: what learns cannot change within a run. Set them as before, or give "
                "another --output (and --start-from)."
            )

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Moments and step counts from the checkpoint, rates and weight decay from the recipe."""
        settings = ("peak_lr", "weight_decay")
        wanted = [{k: group[k] for k in settings} for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state)
        for group, values in zip(self._optimizer.param_groups, wanted, strict=True):
            group.update(values)

    @property
    def finished(self) -> bool:
        """No whole batch is left of the recipe's samples."""
        return self.samples + self.recipe.optim.batch_size > self.recipe.optim.samples

    def stop(self) -> None:
        """Lets `run` end after the step it is in, with a checkpoint (for signal handlers)."""
        self._stopping = True

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
        """Trains until the recipe's number of samples or `stop`, from wherever this trainer is.

        Raises:
            DivergedError: The loss is not finite; `last.pt` holds the state before.
            DataWorkerError: A data process died (most often: out of memory).
        """
        try:
            self._run(hooks or Hooks())
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataWorkerError(
                f"A process that cuts crops died after {self.samples} samples ({error}): is there "
                "enough memory (and /dev/shm)? The same command continues at the last "
                "checkpoint; fewer --workers need less, --workers 0 needs none."
            ) from error

    def _run(self, hooks: Hooks) -> None:
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
            terms, finite = self._step(to_device(sample, self.spec, self.device))
            meter.add(terms, finite, waited)
            save = self._crossed(self.recipe.checkpoint_every)
            check = hooks.on_validate and self._crossed(self.recipe.validate_every)
            report = meter.steps == LOG_EVERY_STEPS
            if save or check or report:
                self._require_finite(meter)
            if report:
                if hooks.on_progress:
                    hooks.on_progress(self._report(meter))
                meter = _Meter()
            if save:
                self.save()
            if check and hooks.on_validate:
                hooks.on_validate(self.averaged_net, self.samples)
                self._net.train()
            if self._stopping:
                break
            asked = time.perf_counter()
        self._require_finite(meter)
        if meter.steps and hooks.on_progress:
            hooks.on_progress(self._report(meter))
        self.save()

    def _require_finite(self, meter: _Meter) -> None:
        """Looks at the steps since the last report: at every step, a GPU would have to wait."""
        if meter.finite is None or bool(meter.finite):
            return
        terms = ", ".join(f"{k}={float(v) / meter.steps:.4g}" for k, v in meter.terms.items())
        raise DivergedError(
            f"The loss or its gradient is not finite after {self.samples} samples (mean of "
            f"{meter.steps} steps: {terms}); {self.checkpoint_path} is intact. Lower optim.lr or "
            "lengthen the warm-up."
        )

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Loss terms, and whether the gradient was finite; nothing here waits for the device."""
        optim = self.recipe.optim
        self._set_learning_rates()
        self._set_keep_ratio()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.precision == "bf16"):
            outputs = self._net(**batch.inputs)
        terms = self._loss(outputs, batch.box, batch.present, self.recipe.loss)
        self._optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        norm = nn.utils.clip_grad_norm_(self._net.parameters(), optim.grad_clip)
        self._optimizer.step()
        self.samples += len(batch.box)
        if self._ema is not None:
            self._average(self._ema)
        return terms, torch.isfinite(norm)

    @torch.no_grad()
    def _average(self, ema: nn.Module) -> None:
        """EMA of parameters and buffers, faster at the start (as in timm)."""
        step = self.samples / self.recipe.optim.batch_size
        decay = min(self.recipe.optim.ema, (1.0 + step) / (10.0 + step))
        pairs = list(zip(_tensors(ema), _tensors(self._net), strict=True))
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)([a for a, _ in real], [own for _, own in real], None)
        for average, own in pairs:
            if not average.is_floating_point():
                average.copy_(own)

    def _set_learning_rates(self) -> None:
        scale = learning_rate_scale(self.samples, self.recipe.optim)
        frozen = self.samples < self.recipe.optim.backbone_freeze_samples
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
            if group["backbone"]:
                for parameter in group["params"]:
                    parameter.requires_grad_(not frozen)

    def _set_keep_ratio(self) -> None:
        """The network in training prunes by the schedule, the averaged one as at inference."""
        pruning = self.recipe.pruning
        if pruning.length > 0:
            net: Any = self._net
            net.keep_ratio = scheduled_keep_ratio(
                self.samples, pruning.start, pruning.length, self._final_keep_ratio
            )

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


def _learning(optim: dict[str, Any]) -> dict[str, Any]:
    """The settings that say which parameters are in which group of the optimiser."""
    prefixes = {key: tuple(optim[key]) for key in ("frozen", "only", "backbone")}
    return prefixes | {"backbone_lr_factor": "0" if optim["backbone_lr_factor"] == 0 else "> 0"}


def _tensors(net: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*net.parameters(), *net.buffers()]


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
    )


def seed_everything(seed: int) -> None:
    """Seeds the initial weights; pairs and augmentation have streams of their own."""
    torch.manual_seed(seed)
