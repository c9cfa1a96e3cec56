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

from vt_models.api import BACKENDS, create_tracker
from vt_models.training.data.pseudo_label import PseudoSettings, find_videos, write_pseudo_pack

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `vt-models pseudo-label`."""
    add, default = parser.add_argument, PseudoSettings()
    add("--videos", type=Path, required=True, help="folder of video files or of image folders")
    add("--output", type=Path, required=True, help="folder of the image pack to write")
    add("--teacher", default="asymtrack_lite0", help="model that follows; default: %(default)s")
    add("--weights", type=Path, help="its weights; default: what ships")
    add("--backend", default="onnxruntime", choices=BACKENDS)
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt; default: %(default)s")
    add("--threads", type=int, help="CPU threads of the network; default: 1")
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
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models pseudo-label`."""
    names = [field.name for field in dataclasses.fields(PseudoSettings)]
    settings = PseudoSettings(**{name: getattr(args, name) for name in names})
    videos = find_videos(args.videos)
    teacher = create_tracker(args.teacher, args.weights, args.backend, args.device, args.threads)
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
