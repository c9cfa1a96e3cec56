# SPDX-License-Identifier: Apache-2.0
"""`vt-models pseudo-label`: videos without labels to an image pack to train on."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vt_models.api import create_tracker
from vt_models.auto_model import AUTO
from vt_models.cli.options import BACKENDS, add_inference, add_json, add_weights
from vt_models.errors import InputError
from vt_models.evaluation.baselines import BASELINES, create_baseline
from vt_models.registry import list_models
from vt_models.training.data.pseudo_label import (
    InsideFrame,
    PseudoSettings,
    find_videos,
    write_pseudo_pack,
)

if TYPE_CHECKING:
    import argparse

    from vt_models.evaluation.runs.runner import SingleObjectTracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `vt-models pseudo-label`."""
    add, default = parser.add_argument, PseudoSettings()
    add("--videos", type=Path, required=True, help="folder of video files or of image folders")
    add("--output", type=Path, required=True, help="folder of the image pack to write")
    teacher_help = f"model or baseline ({', '.join(BASELINES)}) that follows; default: %(default)s"
    add("--teacher", default="asymtrack_lite0", help=teacher_help)
    add_weights(add, "of the teacher")
    add_inference(add)
    add("--clips", type=int, default=default.clips, help="of each video; default: %(default)s")
    add("--length", type=int, default=default.length, help="frames a clip; default: %(default)s")
    add("--stride", type=int, default=default.stride, help="take every such frame; default: 1")
    add("--regions", type=int, default=default.regions, help="tried a clip; default: %(default)s")
    add(
        "--threshold",
        type=float,
        default=default.threshold,
        help="keep what comes back to its start with this IoU; default: %(default)s",
    )
    add("--score", type=float, default=default.score, help="lowest mean; default: %(default)s")
    add("--max-side", type=int, default=default.max_side, help="pixels; default: %(default)s")
    add("--seed", type=int, default=default.seed, help="of the regions; default: %(default)s")
    add_json(add)


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models pseudo-label`."""
    names = [field.name for field in dataclasses.fields(PseudoSettings)]
    settings = PseudoSettings(**{name: getattr(args, name) for name in names})
    videos = find_videos(args.videos)
    teacher = _teacher(args)
    bar = partial(tqdm, desc="videos", file=sys.stderr)
    tally = write_pseudo_pack(teacher, videos, args.output, settings, bar)
    if args.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(tally)) + "\n")
    else:
        sys.stdout.write(
            f"{tally.kept} of {tally.regions} regions came back: {tally.frames} frames of "
            f"{tally.clips} clips of {tally.videos} videos in {args.output}\n"
        )
    return 0


def _teacher(args: argparse.Namespace) -> SingleObjectTracker:
    """The model or the baseline of that name."""
    name = args.teacher
    if name not in BASELINES:
        if name not in (AUTO, *list_models()):
            raise InputError(
                f"no teacher called {name!r}; models: {', '.join(list_models())}; baselines: "
                f"{', '.join(BASELINES)}"
            )
        return create_tracker(name, args.weights, args.backend, args.device, args.threads)
    if args.backend != BACKENDS[0] or args.device not in ("auto", "cpu"):
        raise InputError(
            f"the baseline {name} runs as published, on the CPU: leave out --backend and --device, "
            "which are for models"
        )
    files = [file for _, file in BASELINES[name].files]
    if files and args.weights is None:
        raise InputError(
            f"the baseline {name} needs {', '.join(files)}: give their folder with --weights"
        )
    return InsideFrame(create_baseline(name, args.weights, args.threads or 1))
