# SPDX-License-Identifier: Apache-2.0
"""`vt-models pseudo-label`: videos without labels to an image pack to train on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from functools import partial

from tqdm import tqdm

from vt_models.api import create_tracker
from vt_models.auto_model import AUTO
from vt_models.cli.options import BACKENDS
from vt_models.errors import InputError
from vt_models.evaluation.baselines import BASELINES, create_baseline
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.registry import list_models
from vt_models.training.data.pseudo_label import (
    InsideFrame,
    PseudoSettings,
    find_videos,
    write_pseudo_pack,
)


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
