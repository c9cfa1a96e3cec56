# SPDX-License-Identifier: Apache-2.0
"""Trains the text detector (`vt_models.nets.text_detector`) on an image pack.

The text encoder stays as it is: what it says of every phrase is computed once. Each step calls each
name by another phrase.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vt_models.errors import DatasetError, TrainingError, WeightsError
from vt_models.grounding.description import ANYTHING
from vt_models.nets.efficientnet import INPUT_MEAN, INPUT_STD
from vt_models.nets.text_detector import NAME, Found, TextDetector
from vt_models.text import Tokenizer
from vt_models.training.checkpoint import load_checkpoint, save_checkpoint
from vt_models.training.data.augmentation import apply_colour
from vt_models.training.data.batches import BatchNumbers
from vt_models.training.data.phrases import phrases_for
from vt_models.training.data.targets import ImagePack
from vt_models.training.losses.families import iou_and_giou
from vt_models.training.optimizer import (
    ModelEma,
    learning_rate_scale,
    load_optimizer,
    make_optimizer,
)
from vt_models.training.recipe.settings import OptimConfig
from vt_models.training.text_detector_data import BACKGROUND, DetectionDataset

CPU = torch.device("cpu")
TEXT_LENGTH = 16
FROZEN = ("language.", "backbone.stem", *(f"backbone.stages.{stage}" for stage in range(3)))
"""Up to stride 8 the ImageNet features stay, as for the default tracker."""


@dataclass(frozen=True)
class DetectorSettings:
    """A run of training.

    Attributes:
        size: An image has this side in pixels, a multiple of 32.
        seed: Images, phrases and weights are drawn by it.
        checkpoint_every: A checkpoint is written every so many images.
        hold_out: One of every so many still images is left to judge by; 0 leaves none.
        giou: The boxes have this weight beside the scores.
        optim: Rates and schedule are counted in images.
    """

    size: int = 320
    seed: int = 7
    checkpoint_every: int = 6400
    hold_out: int = 12
    giou: float = 2.0
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            samples=160_000,
            batch_size=32,
            lr=1e-3,
            backbone_lr_factor=0.2,
            frozen=FROZEN,
            weight_decay=1e-2,
            grad_clip=5.0,
            warmup_samples=6400,
            decay_start=0.4,
            decay="linear",
            ema=0.998,
            precision="bf16",
        )
    )


class Vocabulary:
    """What the text encoder says of every phrase that the names, and anything, may be called by.

    Args:
        net: whose text encoder is asked.
        names: in the order of their numbers.
    """

    def __init__(self, net: TextDetector, names: tuple[str, ...]) -> None:
        tokenizer = Tokenizer.uncased(TEXT_LENGTH)
        self._words: list[Tensor] = []
        for name in (*names, ANYTHING):
            ids, masks = zip(*map(tokenizer, phrases_for(name)), strict=True)
            with torch.no_grad():
                pieces = (torch.from_numpy(np.stack(rows)) for rows in (ids, masks))
                self._words.append(net.encode_text(*(rows.to(net.bias.device) for rows in pieces)))

    def draw(self, rng: np.random.Generator) -> Tensor:
        """(N + 1, 192): a phrase for each name, and for `ANYTHING`."""
        return torch.stack([words[int(rng.integers(len(words)))] for words in self._words])


def detector_loss(
    found: Found, batch: dict[str, Tensor], giou_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Judge scores as VarifocalNet does (eq. 2), boxes by GIoU weighted with the IoU reached.

    Args:
        found: of the network, for all names and, last, for `ANYTHING`.
        batch: `box`, `name`, `doubtful`, `known` of `DetectionDataset`, with a batch axis in front.
        giou_weight: of the boxes.

    Returns:
        The loss, and its terms with the mean IoU of the boxes of places with an object.
    """
    name, box, logits = batch["name"], batch["box"], found.logits.float()
    taken = name != BACKGROUND
    truth = torch.where(taken[..., None], box, found.boxes.detach())
    iou, giou = iou_and_giou(found.boxes, truth)
    reached = (iou.detach() * taken).clamp(0, 1)
    wanted = torch.zeros_like(logits)
    wanted.scatter_(2, name.clamp(min=0)[..., None], reached[..., None])
    wanted[..., -1] = reached
    score = logits.detach().sigmoid()
    weight = torch.where(wanted > 0, wanted.clamp(min=0.1), 0.75 * score.square())
    weight = weight * F.pad(batch["known"], (0, 1), value=True)[:, None]
    unsure = batch["doubtful"].clamp(min=0)[..., None]
    sure = ((batch["doubtful"] == BACKGROUND) | (batch["doubtful"] == name)).float()
    weight = weight * torch.ones_like(weight).scatter_(2, unsure, sure[..., None])
    weight[..., -1] *= (batch["doubtful"] == BACKGROUND) | taken
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    count = reached.sum().clamp(min=1)
    scores = (weight * entropy).sum() / count
    boxes = ((1 - giou) * reached.clamp(min=0.1) * taken).sum() / count
    mean_iou = reached.sum() / taken.sum().clamp(min=1)
    terms = {"score": scores.detach(), "giou": boxes.detach(), "iou": mean_iou}
    return scores + giou_weight * boxes, terms


class DetectorTrainer:
    """Resumable training of one network in one process.

    Args:
        net: with its text encoder's weights.
        pack: to learn from.
        settings: of the run.
        directory: of the checkpoint.
        workers: processes that cut images.
        device: where the network learns.

    Raises:
        DatasetError: nothing in the pack has a name.
    """

    def __init__(
        self,
        net: TextDetector,
        pack: ImagePack,
        settings: DetectorSettings,
        directory: Path,
        workers: int,
        device: torch.device = CPU,
    ) -> None:
        self.settings, self.samples = settings, 0
        self._stopping = False
        self._dataset = DetectionDataset(pack, settings.size, settings.seed, settings.hold_out)
        if not self._dataset.names:
            raise DatasetError("the image pack names nothing in its still images")
        self._workers = workers
        self._net = net.to(device, memory_format=torch.channels_last)
        self._device = device
        self._vocabulary = Vocabulary(net, self._dataset.names)
        self._optimizer = make_optimizer(net, settings.optim)
        self._average = ModelEma(net, settings.optim.ema)
        self.checkpoint = directory / "last.pt"

    @property
    def names(self) -> tuple[str, ...]:
        """That are learnt."""
        return self._dataset.names

    @property
    def stopped(self) -> bool:
        """`stop` ended the run before its end."""
        return self._stopping and self.samples < self.settings.optim.samples

    @property
    def averaged_net(self) -> nn.Module:
        """The network to export."""
        return self._average.net

    def resume(self) -> bool:
        """Continue from the checkpoint where there is one.

        Raises:
            WeightsError: it is damaged, or of another network.
        """
        if not self.checkpoint.is_file():
            return False
        state = load_checkpoint(self.checkpoint)
        if state["recipe"]["model"] != NAME:
            raise WeightsError(f"{self.checkpoint} is of {state['recipe']['model']}, not {NAME}")
        self._net.load_state_dict(state["model"])
        self._average.net.load_state_dict(state["ema"])
        load_optimizer(self._optimizer, state["optimizer"])
        self.samples = int(state["samples"])
        return True

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "model": self._net.state_dict(),
            "ema": self._average.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "samples": self.samples,
            "recipe": {"model": NAME},
        }
        save_checkpoint(state, self.checkpoint)

    def stop(self) -> None:
        """Have `run` end, saved, before its next step."""
        self._stopping = True

    def run(self, max_seconds: float = math.inf) -> Iterator[dict[str, float]]:
        """Train to the end, or for so long with the schedule completed; yield the terms a step."""
        optim, started, first = self.settings.optim, time.perf_counter(), self.samples
        numbers = BatchNumbers(self.samples, optim.samples, optim.batch_size)
        loader = DataLoader(self._dataset, batch_sampler=numbers, num_workers=self._workers)
        self._net.train()
        for batch in loader:
            spent = (time.perf_counter() - started) / max_seconds
            if spent >= 1.0 or self._stopping:
                break
            done = max(spent, (self.samples - first) / max(optim.samples - first, 1))
            yield self._step(batch, done if max_seconds < math.inf else None)
            if self.samples % self.settings.checkpoint_every < optim.batch_size:
                self.save()
        self.save()

    def _step(self, batch: dict[str, Tensor], done: float | None) -> dict[str, float]:
        optim = self.settings.optim
        scale = learning_rate_scale(self.samples, optim, done)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
        rng = np.random.default_rng([self.settings.seed, 1, self.samples])
        words = self._vocabulary.draw(rng)
        batch = {name: value.to(self._device) for name, value in batch.items()}
        images = batch["image"].permute(0, 3, 1, 2).float()
        images = (apply_colour(images, batch["colour"], batch["grey"]) - INPUT_MEAN) / INPUT_STD
        with torch.autocast(self._device.type, torch.bfloat16, enabled=optim.precision == "bf16"):
            found = self._net(images.contiguous(memory_format=torch.channels_last), words)
        loss, terms = detector_loss(found, batch, self.settings.giou)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._net.parameters(), optim.grad_clip)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"the loss is no longer a number after {self.samples} images; {self.checkpoint} "
                "is intact: lower the rate and run the same command again"
            )
        self._optimizer.step()
        self.samples += optim.batch_size
        self._average.update(self.samples / optim.batch_size)
        return {"total": float(loss.detach()), **{name: float(v) for name, v in terms.items()}}


def to_tensors(net: nn.Module) -> dict[str, Any]:
    """Return a network's tensors as arrays, for a weights file."""
    return {name: value.cpu().contiguous().numpy() for name, value in net.state_dict().items()}
