# SPDX-License-Identifier: Apache-2.0
"""`vt-models distill-backbone`: a backbone learns from a trained tracker what images show."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from vt_models.api import create_model
from vt_models.cli.options import (
    check_counts,
    check_weights_file,
    seconds_of,
    training_device,
)
from vt_models.errors import InputError
from vt_models.registry import ModelSpec, get_spec
from vt_models.runtime.export_directory import TORCH_WEIGHTS
from vt_models.runtime.installed_weights import find_weights
from vt_models.training.cpu import prepare_cpu
from vt_models.training.data.targets import load_image_pack
from vt_models.training.distillation.backbone import BackboneSettings, distill_backbone
from vt_models.training.run_bar import RunBar
from vt_models.training.signals import stopped_by_signals
from vt_models.training.trainer import seed_everything
from vt_models.weights.tensors import save_weights

SHOW_EVERY = 50
"""Steps between reports, and what is reported is the mean over them."""


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models distill-backbone`; Ctrl-C writes what was learned so far."""
    settings, device = _checked(args), torch.device(training_device(args.device))
    prepare_cpu(args.threads)
    seed_everything(settings.seed)
    spec = get_spec(args.model)
    student, teacher = (create_model(spec.name), spec), _teacher(args)
    pack = load_image_pack(args.data, hold_out=tuple(args.hold_out), progress=_bar)
    lessons = distill_backbone(student, teacher, pack.images, settings, device, args.workers)
    course = _Course()
    with (
        RunBar(settings.samples, settings.max_seconds, "window") as bar,
        stopped_by_signals(course.stop),
    ):
        course.follow(lessons, bar)
    facts = {name: str(value) for name, value in dataclasses.asdict(settings).items()}
    facts |= {"teacher": args.teacher, "windows": str(course.windows)}
    tensors = {name: value.cpu().numpy() for name, value in student[0].state_dict().items()}
    save_weights(tensors, args.output, spec.name, facts)
    sys.stdout.write(f"{args.output}: {course.windows} windows, unexplained {course.recent}\n")
    return 130 if course.stopped else 0


class _Course:
    """Shows how a run goes on, until it ends or `stop` is called."""

    def __init__(self) -> None:
        self._shares: deque[torch.Tensor] = deque(maxlen=SHOW_EVERY)
        self.windows = 0
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def follow(self, lessons: Iterable[tuple[int, torch.Tensor]], bar: RunBar) -> None:
        for step, (seen, shares) in enumerate(lessons, 1):
            self._shares.append(shares)
            self.windows = seen
            if self.stopped:
                break
            if step % SHOW_EVERY == 0:
                bar.show(seen, f"unexplained {self.recent}")

    @property
    def recent(self) -> str:
        """Unexplained shares, the mean over the last steps."""
        if not self._shares:
            return "unknown"
        return ", ".join(f"{share:.3f}" for share in torch.stack([*self._shares]).mean(0).tolist())


def _checked(args: argparse.Namespace) -> BackboneSettings:
    """The settings; what would only fail after minutes is refused now."""
    check_counts(args, samples=1, batch_size=1, workers=0, threads=1)
    if not 0 < args.lr < math.inf:
        raise InputError(f"--lr is {args.lr}; expected more than 0.")
    check_weights_file(args.output, args.teacher_weights)
    training_device(args.device)
    return BackboneSettings(
        samples=args.samples,
        max_seconds=seconds_of(args.max_minutes),
        batch_size=args.batch_size,
        lr=args.lr,
        seed=args.seed,
        compile=args.compile,
    )


def _teacher(args: argparse.Namespace) -> tuple[nn.Module, ModelSpec]:
    spec = get_spec(args.teacher)
    folder, file = find_weights(spec), args.teacher_weights
    if file is None and folder is not None and (folder / TORCH_WEIGHTS).is_file():
        file = folder / TORCH_WEIGHTS
    if file is None:
        raise InputError(
            f"--teacher {spec.name}: no weights that torch reads are here; give --teacher-weights "
            "FILE."
        )
    return create_model(spec.name, file), spec


def _bar(paths: Iterable[Path]) -> Iterable[Path]:
    return tqdm(paths, "pack", leave=False, file=sys.stderr)
