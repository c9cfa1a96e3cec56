# SPDX-License-Identifier: Apache-2.0
"""The training loop: resumable at any moment, the same numbers for the same seed.

One process drives one device. Several share every batch (`vt_models.training.distributed`) and go
through this loop in step. On a GPU a step only queues work: nothing waits for a result before the
next report.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vt_models.errors import DatasetError, InputError, RecipeError, TrainingError, WeightsError
from vt_models.nets.vit import VisionTransformer, scheduled_keep_ratio
from vt_models.training.checkpoint import load_checkpoint, save_checkpoint
from vt_models.training.data.batches import Batch, BatchNumbers, BatchPreprocessor, make_loader
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import TrainingData
from vt_models.training.distillation.teacher import Teacher, check_teacher, teacher_loss
from vt_models.training.distributed import (
    SINGLE_PROCESS,
    AsyncMax,
    ProcessGroup,
    broken_connection,
    peer_error,
    synchronise_norms,
)
from vt_models.training.losses.alignment import matching_loss
from vt_models.training.losses.families import Truth, loss_for
from vt_models.training.optimizer import (
    ModelEma,
    learning_rate_scale,
    load_optimizer,
    make_optimizer,
    trainable_settings,
)
from vt_models.training.progress import Hooks, Meter
from vt_models.training.recipe.settings import Recipe, to_dict

LOG_EVERY_STEPS = 20
SIGNAL_S = 1.0
"""How long the news of a data process's death may take."""


class DivergedError(TrainingError):
    """The loss is no longer a number."""


class DataWorkerError(TrainingError):
    """A process that cuts crops died."""


class Trainer:
    """Trains one network by one recipe.

    Args:
        net: A network of the registry.
        recipe: What to do.
        data: Images, and the targets in them.
        directory: Where `last.pt` goes.
        device: Where to compute.
        workers: Processes that cut crops; 0 does it in this one.
        processes: This process among those that share the run; they must be connected (`joined`).
        teacher: From `load_teacher`, where the recipe's `loss.teacher` asks for one.

    Attributes:
        samples: Pairs seen so far, by all processes.
        seconds: Time spent in `run` so far, over all resumptions.

    Raises:
        InputError: The batch cannot be shared by so many processes, or the recipe asks for a
            teacher and there is none.
    """

    def __init__(  # noqa: PLR0913
        self,
        net: nn.Module,
        recipe: Recipe,
        data: TrainingData,
        directory: Path,
        device: torch.device,
        workers: int = 0,
        processes: ProcessGroup = SINGLE_PROCESS,
        *,
        teacher: Teacher | None = None,
    ) -> None:
        _check_shares(recipe, processes)
        check_teacher(recipe, teacher)
        optim = recipe.optim
        self.recipe = recipe
        self.spec = recipe.spec
        self.device = device
        self.directory = directory
        self.samples = 0
        self.seconds = 0.0
        self._processes = processes
        self._workers = workers
        self._dataset = PairDataset(data, self.spec, recipe)
        self._preprocess = BatchPreprocessor(self.spec, device)
        self._net = net.to(device, memory_format=torch.channels_last)
        _set_grad_checkpointing(self._net, optim.grad_checkpointing)
        self._ema = ModelEma(self._net, optim.ema) if optim.ema > 0 else None
        synchronise_norms(self._net, processes, device)
        self._inner = self._model = self._net
        self._optimizer = make_optimizer(self._net, optim, fused=device.type == "cuda")
        self._loss = loss_for(self.spec)
        self._teacher = teacher
        self._final_keep_ratio = float(getattr(net, "keep_ratio", 1.0))
        self._frozen = False
        self._stopping = False
        self._max_seconds = math.inf

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.directory / "last.pt"

    @property
    def checkpoint_note(self) -> str:
        """Clause for messages: the newest checkpoint is intact, or there is none."""
        path = self.checkpoint_path
        return f"{path} is intact" if path.is_file() else f"no checkpoint was due yet at {path}"

    @property
    def averaged_net(self) -> nn.Module:
        """The network to validate and export: the moving average where there is one."""
        return self._net if self._ema is None else self._ema.net

    def resume(self) -> bool:
        """Continue from `last.pt` when there is one.

        Raises:
            RecipeError: It belongs to another model or another network, or other parameters
                learned in it.
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
        net = state["recipe"].get("net", {})
        if net != to_dict(self.recipe)["net"]:
            raise RecipeError(
                f"{self.checkpoint_path} is of a network with `net: {json.dumps(net)}`, the recipe "
                f"says {json.dumps(self.recipe.net)}: choose another --output."
            )
        self._check_same_parameters(state["recipe"]["optim"])
        try:
            self._net.load_state_dict(state["model"])
            if self._ema is not None:
                average = state["model"] if state["ema"] is None else state["ema"]
                self._ema.net.load_state_dict(average)
            load_optimizer(self._optimizer, state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{self.checkpoint_path} does not fit this version of {model} "
                f"({str(error).splitlines()[0]}): give another --output, or --restart."
            ) from error
        self.samples = int(state["samples"])
        self.seconds = float(state.get("seconds", 0.0))
        return True

    def _check_same_parameters(self, previous: dict[str, Any]) -> None:
        """Check what learns: AdamW's state goes by position and fits the same parameters only."""
        defaults = to_dict(self.recipe)["optim"] | {"only": (), "backbone": ("backbone.",)}
        before = trainable_settings(defaults | previous)
        now = trainable_settings(to_dict(self.recipe)["optim"])
        if before != now:
            raise RecipeError(
                f"{self.checkpoint_path} was trained with {before} under `optim`, the recipe says "
                f"{now}: what learns cannot change within a run. Set them as before, or give "
                "another --output (and --start-from)."
            )

    @property
    def finished(self) -> bool:
        """No whole batch is left of the recipe's samples, or the time is over."""
        out_of_pairs = self.samples + self.recipe.optim.batch_size > self.recipe.optim.samples
        return out_of_pairs or self.seconds >= self._max_seconds

    def stop(self) -> None:
        """Let `run` end after the step it is in, with a checkpoint (for signal handlers).

        Of several processes any one may be told; all end after the same step.
        """
        self._stopping = True

    def save(self) -> None:
        """Write `last.pt`; of several processes the first one does.

        Raises:
            TrainingError: The disk is full; the previous checkpoint is intact.
        """
        if not self._processes.first:
            return
        state: dict[str, Any] = {
            "model": self._net.state_dict(),
            "ema": None if self._ema is None else self._ema.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "samples": self.samples,
            "seconds": self.seconds,
            "recipe": to_dict(self.recipe),
        }
        save_checkpoint(state, self.checkpoint_path)

    def run(self, hooks: Hooks | None = None, max_seconds: float = math.inf) -> None:
        """Train until the recipe's number of samples or `stop`, from wherever this trainer is.

        Args:
            hooks: What to call meanwhile.
            max_seconds: The run ends after this time (resumptions included) if it has pairs left;
                schedules then follow the time that is over instead of the pairs.

        Raises:
            DivergedError: The loss is not finite; `last.pt` holds the state before.
            DatasetError: An image cannot be read.
            DataWorkerError: A data process died (most often: out of memory).
            PeerError: Another process of the run ended.
            TrainingError: The disk is full, or the GPU's memory.
        """
        self._max_seconds = max_seconds
        try:
            self._run(hooks or Hooks())
        except torch.cuda.OutOfMemoryError as error:
            raise TrainingError(self._too_large(error)) from error
        except DatasetError as error:
            # From a data process it comes with that process's traceback, in text.
            plain = str(error).rsplit("DatasetError: ", 1)[-1].strip()
            raise DatasetError(f"{plain} ({self.checkpoint_note})") from None
        except RuntimeError as error:
            if str(error).startswith("DataLoader worker"):
                raise DataWorkerError(self._worker_died(error)) from error
            if self._processes.size > 1 and broken_connection(error):
                raise peer_error(error, str(self.checkpoint_path)) from error
            raise

    def _worker_died(self, error: Exception) -> str:
        return (
            f"A process that cuts crops died after {self.samples} samples ({error}): is there "
            "enough memory (and /dev/shm)? The same command continues at the last "
            "checkpoint; fewer --workers need less, --workers 0 needs none."
        )

    def _too_large(self, error: RuntimeError) -> str:
        optim = self.recipe.optim
        pairs = optim.batch_size // (self._processes.size * optim.accumulate)
        return (
            f"The GPU's memory does not hold {pairs} pairs at a time "
            f"({str(error).splitlines()[0]}): raise optim.accumulate (now {optim.accumulate}), "
            f"set optim.grad_checkpointing or lower optim.batch_size; "
            f"{self.checkpoint_note}."
        )

    def _run(self, hooks: Hooks) -> None:
        began = time.perf_counter() - self.seconds
        agree = AsyncMax(self._processes, False, self.seconds)
        self.prepare(hooks)
        meter = Meter()
        for parts, waited in self.batches():
            if waited is None:
                meter = Meter()  # what it took to start the data processes does not count
            meter.add(*self._step(parts), waited or 0.0)
            meter = self._after_step(meter, hooks)
            stopping, self.seconds = agree(self._stopping, time.perf_counter() - began)
            if stopping or self.finished:
                break
        agree.settle()
        self._require_finite(meter)
        self._report(meter, hooks)
        self._save(hooks)
        self._processes.wait()

    def prepare(self, hooks: Hooks | None = None) -> None:
        """Make the network ready for steps: in training mode, compiled and shared as wished."""
        self._net.train()
        self._inner = self._compiled(hooks or Hooks())
        self._freeze_backbone(self._frozen_at_first)
        self._share()

    def batches(self) -> Iterator[tuple[list[dict[str, Tensor]], float | None]]:
        """Yield the parts of each batch, and the seconds spent waiting (None: the first)."""
        if self.finished:
            return
        optim = self.recipe.optim
        numbers = BatchNumbers(
            self.samples, optim.samples, optim.batch_size, self._processes, optim.accumulate
        )
        loader = make_loader(self._dataset, numbers, self._workers, pin=self.device.type == "cuda")
        samples = iter(loader)
        started = False
        while True:
            asked = time.perf_counter()
            parts = self._take(samples, optim.accumulate)
            if not parts:
                return
            yield parts, time.perf_counter() - asked if started else None
            started = True

    def _take(self, samples: Iterator[dict[str, Tensor]], count: int) -> list[dict[str, Tensor]]:
        """Return the next samples, fewer at the end."""
        try:
            return list(islice(samples, count))
        except (OSError, EOFError) as error:
            if self._workers == 0:
                raise
            # One died while it handed over a sample. The signal that says who it was is on its way;
            # torch answers it by raising an error here, and else would wherever we are then.
            time.sleep(SIGNAL_S)
            raise DataWorkerError(self._worker_died(error)) from error

    def _after_step(self, meter: Meter, hooks: Hooks) -> Meter:
        """Report, save and validate where it is time to; return the meter to go on with."""
        save = self._crossed(self.recipe.checkpoint_every)
        check = self._crossed(self.recipe.validate_every)
        report = meter.steps == LOG_EVERY_STEPS
        if save or check or report:
            self._require_finite(meter)
        if report:
            self._report(meter, hooks)
            meter = Meter()
        with meter.pause():
            if save:
                self._save(hooks)
            if check and hooks.on_validate:
                hooks.on_validate(self.averaged_net, self.samples)
                self._net.train()
        return meter

    def _save(self, hooks: Hooks) -> None:
        self.save()
        if hooks.on_save:
            hooks.on_save()

    def _report(self, meter: Meter, hooks: Hooks) -> None:
        if meter.steps == 0:
            return
        rate = max(group["lr"] for group in self._optimizer.param_groups)
        batch_size = self.recipe.optim.batch_size
        progress = meter.report(self._processes, self.samples, batch_size, rate)
        if hooks.on_progress:
            hooks.on_progress(progress)

    def _require_finite(self, meter: Meter) -> None:
        """Look at the steps since the last report: at every step, a GPU would have to wait."""
        if meter.finite:
            return
        terms = ", ".join(f"{k}={v:.4g}" for k, v in meter.means(self._processes).items())
        raise DivergedError(
            f"The loss or its gradient is not finite after {self.samples} samples (mean of "
            f"{meter.steps} steps: {terms}); {self.checkpoint_note}. Lower optim.lr or "
            "lengthen the warm-up."
        )

    def _step(self, samples: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Train a step; return this process's share of the terms, and whether it went well."""
        terms = self.compute_gradients(samples)
        return terms, self.update_weights()

    def compute_gradients(self, samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Run the first half of a step: forward and backward passes.

        Args:
            samples: This process's parts of the batch, from `batches`.

        Returns:
            This process's share of the loss terms.
        """
        if self._frozen != self._frozen_at_first:
            self._freeze_backbone(self._frozen_at_first)
            self._share()
        self._set_learning_rates()
        self._set_keep_ratio()
        self._seed_dropout()
        whole = self._whole([self._preprocess.truth(sample) for sample in samples])
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for index, sample in enumerate(samples):
            with self._exchanging(index == len(samples) - 1):
                terms = self._backward(self._preprocess(sample), whole)
            sums = {name: sums[name] + term if sums else term for name, term in terms.items()}
        return sums

    def update_weights(self) -> Tensor:
        """Run the second half: clipping, optimiser, average; was the gradient finite?"""
        norm = nn.utils.clip_grad_norm_(self._net.parameters(), self.recipe.optim.grad_clip)
        self._optimizer.step()
        self.samples += self.recipe.optim.batch_size
        if self._ema is not None:
            self._ema.update(self.samples / self.recipe.optim.batch_size)
        return torch.isfinite(norm)

    def _backward(self, part: Batch, whole: Truth) -> dict[str, Tensor]:
        """Add a part's gradients; return its share of the loss terms."""
        terms = self._terms(self._model, part, whole)
        # Processes take the mean of their gradients, while shares of a loss add up.
        (terms["total"] * self._processes.size).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _terms(self, model: nn.Module, part: Batch, whole: Truth) -> dict[str, Tensor]:
        bf16 = self.recipe.optim.precision == "bf16"
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        with autocast:
            outputs = model(**part.inputs)
            maps = None if self._teacher is None else self._teacher(part)
        terms = self._loss(outputs, part.truth, self.recipe.loss, whole)
        if maps is not None:
            taught = teacher_loss(outputs, maps, part.truth, self.recipe.loss, whole)
            terms = {**terms, **taught, "total": terms["total"] + taught["total"]}
        if self.recipe.loss.matching == 0:
            return terms
        match = matching_loss(outputs["match"], part.template_box, *part.truth).sum()
        match = match / whole.present.sum().clamp(min=1)
        total = terms["total"] + self.recipe.loss.matching * match
        return {**terms, "match": match.detach(), "total": total}

    def _whole(self, truths: list[Truth]) -> Truth:
        """Return the truth of all pairs of the step, of which every process holds some."""
        own = Truth(*(torch.cat(values) for values in zip(*truths, strict=True)))
        if self._processes.size == 1:
            return own
        box, present = self._processes.gather(torch.cat([own.box, own.present[:, None]], 1)).split(
            4, 1
        )
        return Truth(box, present[:, 0] > 0)

    def _exchanging(self, wanted: bool) -> AbstractContextManager[None]:
        """Exchange gradients between processes in the block, or only add them up here."""
        model: Any = self._model
        return nullcontext() if wanted or self._processes.size == 1 else model.no_sync()

    @property
    def _frozen_at_first(self) -> bool:
        return self.samples < self.recipe.optim.backbone_freeze_samples

    def _freeze_backbone(self, frozen: bool) -> None:
        self._frozen = frozen
        for group in self._optimizer.param_groups:
            if group["backbone"]:
                for parameter in group["params"]:
                    parameter.requires_grad_(not frozen)

    def _share(self) -> None:
        """Have the backward pass exchange the gradients of what learns from now on."""
        self._model = self._processes.wrap(self._inner, self.device, self._some_unused)

    @property
    def _some_unused(self) -> bool:
        """Whether a step leaves parameters that learn without a gradient.

        AsymTrack's last blocks have published kernels that nothing reads; STARK's first stage does
        not ask for the score.
        """
        scored = self.spec.dynamic_template and self.recipe.loss.presence == 0
        return self.spec.family == "asymtrack" or (self.spec.family == "stark" and scored)

    def _compiled(self, hooks: Hooks) -> nn.Module:
        """Compile the network where the recipe wants it and that works in every process."""
        if not self.recipe.optim.compile or self.finished:
            return self._net
        compiled = torch.compile(self._net)
        failure = self._try(compiled)
        failed = self._processes.total(torch.tensor([float(failure is not None)]))
        if not bool(failed.any()):
            return compiled
        if hooks.on_notice:
            why = "in another process" if failure is None else str(failure).strip().split("\n")[0]
            hooks.on_notice(f"torch.compile does not work here ({why}): training goes on without.")
        return self._net

    def _try(self, model: nn.Module) -> Exception | None:
        """Make a pass over the first pairs that leaves no trace; return why it failed."""
        optim = self.recipe.optim
        numbers = BatchNumbers(
            self.samples, optim.samples, optim.batch_size, self._processes, optim.accumulate
        )
        part = self._preprocess(next(iter(make_loader(self._dataset, numbers, 0, pin=False))))
        before = copy.deepcopy(self._net.state_dict())
        try:
            self._terms(model, part, part.truth)["total"].backward()
        except Exception as error:  # whatever a compiler raises
            return error
        finally:
            self._net.load_state_dict(before)
            self._optimizer.zero_grad(set_to_none=True)
        return None

    @property
    def _scheduled(self) -> float:
        """How far the schedules are, in pairs: ahead of `samples` where the time is short."""
        return max(self.samples, self.recipe.optim.samples * self.seconds / self._max_seconds)

    def _set_learning_rates(self) -> None:
        optim = self.recipe.optim
        scale = learning_rate_scale(self.samples, optim, self._scheduled / optim.samples)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale

    def _set_keep_ratio(self) -> None:
        """Prune by the schedule in training; the averaged network does as at inference."""
        pruning = self.recipe.pruning
        if pruning.length > 0:
            net: Any = self._net
            net.keep_ratio = scheduled_keep_ratio(
                round(self._scheduled), pruning.start, pruning.length, self._final_keep_ratio
            )

    def _seed_dropout(self) -> None:
        """Seed what a network drops by the step alone: a resumed run drops the same."""
        entropy = np.random.SeedSequence([self.recipe.seed, self.samples, self._processes.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    def _crossed(self, interval: int) -> bool:
        if interval <= 0:
            return False
        return self.samples // interval > (self.samples - self.recipe.optim.batch_size) // interval


def _check_shares(recipe: Recipe, processes: ProcessGroup) -> None:
    optim = recipe.optim
    if optim.batch_size % (processes.size * optim.accumulate):
        raise InputError(
            f"A batch of {optim.batch_size} pairs cannot be shared by {processes.size} processes "
            f"in {optim.accumulate} parts each: make optim.batch_size a multiple of "
            f"{processes.size * optim.accumulate}, or change --nproc-per-node or optim.accumulate."
        )


def _set_grad_checkpointing(net: nn.Module, wanted: bool) -> None:
    for module in net.modules():
        if isinstance(module, VisionTransformer):
            module.grad_checkpointing = wanted


def seed_everything(seed: int) -> None:
    """Seed the initial weights; pairs and augmentation have streams of their own."""
    torch.manual_seed(seed)
