# SPDX-License-Identifier: Apache-2.0
"""Speed of training: steps of real recipes on a real pack (`make bench-training`).

    python -m benchmarks.training --output benchmarks/results/training.json

For each recipe and device: pairs a second and the share of time spent waiting for data, as a run
has them, and the seconds of a step by part, measured in steps of their own on a GPU, where a clock
between the parts makes it wait. Medians over repeats; the first steps are not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.result_file import SHARED, measure_into
from vt_models.api import create_model
from vt_models.cli.options import split_names
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.training.cpu import prepare_cpu
from vt_models.training.data.batches import PREFETCH
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import ImagePack, load_image_pack
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import Recipe
from vt_models.training.trainer import Trainer, seed_everything

RECIPES = [
    f"{name}_pack" for name in ("asymtrack_lite0", "asymtrack_t", "procontext_tiny", "pjvlt_tiny")
]
WARM_UP_STEPS = 3
STEPS = {"cpu": 5, "cuda": 200}
PAIRS_CUT = 64
"""Pairs that are cut in one process, for the time that one takes."""


@dataclass
class Block:
    """What some steps took, in seconds.

    Attributes:
        elapsed: All of them.
        data: Waiting for data, a step.
        gradients: Forward and backward passes, a step.
        update: Clipping, optimiser, moving average, a step.
    """

    elapsed: float = 0.0
    data: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=SHARED / "train_pack", help="default: %(default)s")
    add("--recipes", type=split_names, default=RECIPES, help=f"default: {','.join(RECIPES)}")
    add("--folder", type=Path, default=Path("recipes"), help="of recipes; default: %(default)s")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="replace a setting")
    add("--devices", type=split_names, default=devices, help=f"default: {','.join(devices)}")
    add("--steps", type=int, help=f"a repeat; default: {STEPS['cpu']}, on a GPU {STEPS['cuda']}")
    add("--repeats", type=int, default=3, help="default: %(default)s")
    add("--workers", type=int, help="data processes; default: 1, with a GPU all cores but one")
    add("--threads", type=int, help="CPU threads of torch; default: torch's own choice")
    add("--limit", type=int, help="only so many stills and clip frames of the pack")
    add("--output", type=Path, default=Path("benchmarks/results/local/training.json"))
    args = parser.parse_args(arguments)
    return measure_into(args.output, lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    prepare_cpu(args.threads)
    about = provenance(command_line(), seed=0)
    recipes = {name: load_recipe(args.folder / f"{name}.yaml", args.set) for name in args.recipes}
    pack = load_image_pack(args.data, args.limit)
    results = []
    for name, recipe in recipes.items():
        for device in args.devices:
            results.append({"recipe": name, **_measure(recipe, pack, device, args)})
            print(_line(results[-1]), flush=True)
    return {
        "benchmark": "training",
        **about,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "pack": {part: len(getattr(pack, part)) for part in ("images", "stills", "tracks")},
        "results": results,
    }


def _measure(
    recipe: Recipe, pack: ImagePack, device: str, args: argparse.Namespace
) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    workers = args.workers if args.workers is not None else max(1, cores - 1)
    if args.workers is None and device == "cpu":
        workers = 1
    steps = args.steps or STEPS[device]
    # On a GPU, what the data processes prepared during the start must be used up first.
    warm_up = WARM_UP_STEPS + (workers * PREFETCH if device == "cuda" else 0)
    seed_everything(recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        net = create_model(recipe.model)
        trainer = Trainer(net, recipe, pack, Path(folder), torch.device(device), workers)
        trainer.prepare()
        batches = trainer.batches()
        _block(trainer, batches, warm_up, wait=True)
        whole = [_block(trainer, batches, steps, wait=False) for _ in range(args.repeats)]
        split = whole
        if device != "cpu":
            split = [_block(trainer, batches, steps, wait=True) for _ in range(args.repeats)]
    pairs = steps * recipe.optim.batch_size
    speeds = [pairs / block.elapsed for block in whole]
    return {
        "model": recipe.model,
        "device": device,
        "batch_size": recipe.optim.batch_size,
        "precision": recipe.optim.precision,
        "workers": workers,
        "steps": steps,
        "pairs_per_second": statistics.median(speeds),
        "pairs_per_second_each": speeds,
        "data_wait": statistics.median(sum(block.data) / block.elapsed for block in whole),
        "seconds_a_step": {
            part: statistics.median(value for block in split for value in getattr(block, part))
            for part in ("data", "gradients", "update")
        },
        "seconds_to_cut_a_pair": _seconds_to_cut(recipe, trainer, pack),
    }


def _block(
    trainer: Trainer,
    batches: Iterator[tuple[list[dict[str, Tensor]], float | None]],
    steps: int,
    wait: bool,
) -> Block:
    """Some steps; with `wait`, the device is waited for wherever the clock is read."""
    block = Block()
    _synchronise(trainer.device)
    begun = time.perf_counter()
    for parts, waited in islice(batches, steps):
        read = _Clock(trainer.device if wait else torch.device("cpu"))
        trainer.compute_gradients(parts)
        block.gradients.append(read())
        trainer.update_weights()
        block.update.append(read())
        block.data.append(waited or 0.0)
    _synchronise(trainer.device)
    block.elapsed = time.perf_counter() - begun
    return block


class _Clock:
    """Seconds since the last reading."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = time.perf_counter()

    def __call__(self) -> float:
        _synchronise(self._device)
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds_to_cut(recipe: Recipe, trainer: Trainer, pack: ImagePack) -> float:
    """What one core needs for the crops of a pair; times pairs a second: how many cores feed it."""
    dataset = PairDataset(pack, trainer.spec, recipe)
    times = []
    for number in range(PAIRS_CUT):
        begun = time.perf_counter()
        dataset[number]
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _line(result: dict[str, Any]) -> str:
    parts = result["seconds_a_step"]
    split = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in parts.items())
    return (
        f"{result['recipe']:<24}{result['device']:<6}{result['pairs_per_second']:>8.1f} pairs/s, "
        f"{result['data_wait']:.0%} waiting for data; a step of {result['batch_size']}: {split}; "
        f"{1000 * result['seconds_to_cut_a_pair']:.1f} ms to cut a pair"
    )


if __name__ == "__main__":
    sys.exit(main())
