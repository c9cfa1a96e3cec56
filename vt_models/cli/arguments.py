# SPDX-License-Identifier: Apache-2.0
"""Options of the commands whose modules load numpy, OpenCV or torch, apart from them.

So `vt-models COMMAND --help` answers at once, and so is a wrong option refused. What would have to
be looked up in those packages is written here; a test compares.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vt_models.cli.options import (
    BASELINES,
    add_baselines,
    add_grounding,
    add_inference,
    add_json,
    add_training_device,
    add_weights,
    split_names,
)

if TYPE_CHECKING:
    from vt_models.geometry.boxes import Box

DATASETS = (
    *("davis", "folder", "got10k", "lasot", "lasot_ext", "nfs", "otb", "tnl2k", "trackingnet"),
    *("uav123", "videos", "vot"),
)
IMAGE_SETS = ("coco",)
PROTOCOLS = ("otb", "lasot", "trackingnet", "got10k", "vot-lt")


def declare_track(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models track`."""
    add = parser.add_argument
    add("video", type=Path, metavar="VIDEO", help="video file, or folder of images")
    add("--model", default="asymtrack_lite0", help="or auto; default: %(default)s")
    add("--box", type=parse_box, help="x,y,w,h of the target in the first frame")
    add(
        "--text",
        help="the target in words: looked for where no --box is given, and read by models "
        "with a language input",
    )
    add_grounding(add, "what finds --text where no --box is given")
    add_weights(add)
    add_inference(add)
    add("--update", help="template update: a preset of the model, or INTERVAL:THRESHOLD")
    add("--output", type=Path, action="append", default=[], help="OUT.mp4 or OUT.csv; repeatable")
    add_json(add)


def parse_box(text: str) -> Box:
    """Turn "x,y,w,h" into four floats."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        message = f"expected four numbers x,y,w,h, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return x, y, w, h


def declare_eval(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models eval`."""
    add = parser.add_argument_group("trackers").add_argument
    add("--model", type=split_names, default=[], help="comma-separated; see `vt-models models`")
    add(
        "--tracker",
        type=split_names,
        default=[],
        metavar="MODULE:CLASS",
        help="classes of your own with init(frame, box) and update(frame), comma-separated; "
        "see docs/tutorials/evaluate_a_tracker.md",
    )
    add_weights(add)
    add_inference(add)
    add("--update", help="template update: a preset of the model, or INTERVAL:THRESHOLD")
    add_baselines(add)
    add = parser.add_argument_group("videos").add_argument
    add("--dataset", required=True, choices=DATASETS, help="layout of the dataset")
    add("--root", required=True, type=Path, help="directory of the dataset")
    add("--split", help="part of the dataset, see docs/datasets.md; default: the dataset's own")
    add("--sequences", type=split_names, help="comma-separated names; default: all")
    add(
        "--list",
        type=Path,
        metavar="FILE",
        help="run the videos of a list and report AO by kind; tab-separated text with a header: "
        "video, kind and, if wanted, use (validate or withhold), see docs/datasets.md",
    )
    add("--no-cache", action="store_true", help="keep no index of the dataset's annotations")
    add = parser.add_argument_group("scores").add_argument
    add(
        "--protocol",
        choices=("ope", *PROTOCOLS, "vot"),
        help="whose rules; ope: the usual metrics alone; default: the dataset's own",
    )
    add("--eao-range", metavar="LOW:HIGH", help="lengths in frames of VOT's EAO; default: 115:755")
    add("--long-term", action="store_true", help="also run the long-term tracker: loss and return")
    add = parser.add_argument_group("start").add_argument
    add(
        "--init",
        default="box",
        choices=("box", "text"),
        help="start on the true box, or on what the sequence's sentence finds; default: box",
    )
    add_grounding(add, "what finds the target for --init text")
    add("--grounding-threshold", type=float, help="lowest score that starts; default: its own")
    add = parser.add_argument_group("as a stream").add_argument
    add("--stream", type=float, metavar="FPS", help="frames as a camera delivers them")
    add("--latency", metavar="MS", help="with --stream: MS or NAME=MS,...; default: measured")
    add = parser.add_argument_group("work and results").add_argument
    add("--jobs", type=int, default=1, help="processes, each running whole sequences; default: 1")
    add("--output", type=Path, help="directory for report.html, boxes and result files")
    add("--fresh", action="store_true", help="run again what --output holds from a previous run")
    add_json(add)


def declare_data(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models data`."""
    add = parser.add_argument
    add(
        "--dataset",
        required=True,
        choices=sorted((*DATASETS, *IMAGE_SETS)),
        help="layout of the dataset",
    )
    add("--root", required=True, type=Path, help="directory of the dataset")
    add("--split", help="part of the dataset, see docs/datasets.md; default: the dataset's own")
    add("--images", action="store_true", help="decode every image too")
    add("--jobs", type=int, default=1, help="processes; default: 1")
    add_json(add)


def declare_calibrate(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models calibrate`."""
    add = parser.add_argument
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--sequences", required=True, type=Path, help="folder of annotated sequences")
    add("--names", type=split_names, help="comma-separated names of sequences; default: all")
    add("--pack", type=Path, help="training pack: add composed clips with departures to the fit")
    add("--seed", type=int, default=0, help="of the composed clips; default: %(default)s")
    add_weights(add)
    add_inference(add, backend=False)
    add("--diagram", type=Path, help="PNG to draw the reliability diagram to")
    add("--dry-run", action="store_true", help="measure only, leave model.json as it is")
    add_json(add)


def declare_train(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models train`."""
    add = parser.add_argument
    add("recipe", type=Path, help="YAML recipe, see recipes/")
    data_help = "folder of the image pack, or NAME=DIR of each of the recipe's sources"
    add("--data", action="append", default=[], metavar="[NAME=]DIR", help=data_help)
    add("--output", type=Path, help="run directory; default: runs/<name of the recipe>")
    add(
        "--validate-on",
        type=Path,
        help="folder of sequences, or of annotated videos, to validate on at intervals",
    )
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="replace a setting")
    add_training_device(add)
    add("--workers", type=int, help="processes that cut crops; default: 1, with a GPU up to 8")
    time_help = "end after this time, that before a resumption included, with schedules completed"
    add("--max-minutes", type=float, help=time_help)
    add("--start-from", type=Path, help="weights of the same model to start from (STARK's stage 1)")
    backbone_help = "published weights of the backbone to start from, of the recipe's `pretrained`"
    add("--backbone-weights", type=Path, metavar="FILE", help=backbone_help)
    text_help = "text encoder to start from: published, or of `vt-models distill-text-encoder`"
    add("--text-weights", type=Path, help=text_help)
    teacher_help = "NanoTrack v3's .safetensors, where the recipe's loss.teacher is not 0"
    add("--teacher-weights", type=Path, metavar="FILE", help=teacher_help)
    add("--restart", action="store_true", help="ignore the checkpoint of an earlier run")
    add("--json", action="store_true", help="one JSON object on standard output at the end")


def declare_pseudo_label(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models pseudo-label`."""
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder of video files or of image folders")
    add("--output", type=Path, required=True, help="folder of the image pack to write")
    names = ", ".join(BASELINES)
    teacher_help = f"model or baseline ({names}) that follows; default: %(default)s"
    add("--teacher", default="asymtrack_lite0", help=teacher_help)
    add_weights(add, "of the teacher")
    add_inference(add)
    add("--clips", type=int, default=4, help="of each video; default: %(default)s")
    add("--length", type=int, default=30, help="frames a clip; default: %(default)s")
    add("--stride", type=int, default=1, help="take every such frame; default: 1")
    add("--regions", type=int, default=6, help="tried a clip; default: %(default)s")
    add(
        "--threshold",
        type=float,
        default=0.7,
        help="keep what comes back to its start with this IoU; default: %(default)s",
    )
    add("--score", type=float, default=0.4, help="lowest mean; default: %(default)s")
    add("--max-side", type=int, default=384, help="pixels; default: %(default)s")
    add("--seed", type=int, default=0, help="of the regions; default: %(default)s")
    add_json(add)


def declare_distill_backbone(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models distill-backbone`."""
    add = parser.add_argument
    add("model", help="whose backbone learns, such as asymtrack_t")
    add("--data", type=Path, required=True, help="folder of the image pack")
    add("--output", type=Path, required=True, help=".safetensors file for `train --start-from`")
    add("--teacher", default="asymtrack_lite0", help="trained tracker; default: %(default)s")
    add("--teacher-weights", type=Path, help="its weights; default: the bundled ones")
    add("--hold-out", nargs="*", default=[], metavar="VIDEO", help="videos to leave out")
    add("--samples", type=int, default=300_000, help="windows; default: %(default)s")
    add("--max-minutes", type=float, help="end after this time, with the schedule completed")
    add("--batch-size", type=int, default=32, help="default: %(default)s")
    add("--lr", type=float, default=0.007, help="peak learning rate; default: %(default)s")
    add("--seed", type=int, default=7, help="default: %(default)s")
    add("--compile", action="store_true", help="faster steps after a minute of compilation")
    add("--workers", type=int, default=1, help="processes that cut windows; default: %(default)s")
    add_training_device(add)


def declare_distill_text_encoder(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models distill-text-encoder`."""
    add = parser.add_argument
    add("teacher", type=Path, help="model.safetensors of all-MiniLM-L6-v2")
    add("--output", type=Path, required=True, help=".safetensors file to write")
    add("--model", default="pjvlt_tiny", help="whose text encoder it is; default: %(default)s")
    add(
        "--sentences",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="texts to learn from beside made-up phrases: every string of a .json file, every "
        "line of another; may be given several times",
    )
    add("--steps", type=int, default=2400, help="default: %(default)s")
    add("--batch-size", type=int, default=128, help="default: %(default)s")
    add("--seed", type=int, default=7, help="default: %(default)s")


def declare_ground(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models ground`."""
    add = parser.add_argument
    add_grounding(add, "what looks for the text")
    add("--image", required=True, type=Path, help="image to search")
    add("--text", required=True, help='description, such as "the white car on the left"')
    add(
        "--grounding-threshold", type=float, help="lowest score that counts; default: the backend's"
    )
    add_inference(add, backend=False)
    add("--draw", type=Path, metavar="OUT.png", help="write the image with the candidates")
    add_json(add)


def declare_ground_train(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models ground-train`."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the image pack")
    add("--text-weights", type=Path, required=True, help="of `vt-models distill-text-encoder`")
    add("--output", type=Path, default=Path("runs/text_detector"), help="default: %(default)s")
    add("--samples", type=int, default=160_000, help="default: %(default)s images")
    add("--batch-size", type=int, default=32, help="default: %(default)s")
    add("--size", type=int, default=320, help="of an image; default: %(default)s pixels")
    add("--seed", type=int, default=7, help="default: %(default)s")
    add("--workers", type=int, default=1, help="processes that cut images; default: 1")
    add_training_device(add)
    add("--max-minutes", type=float, help="end after this time, with the schedule completed")


def declare_bench(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models bench`."""
    add = parser.add_argument
    add("--model", type=split_names, help="comma-separated; default: all")
    add("--root", type=Path, help="folder of sequences; default: a synthetic video")
    add("--sequence", help="name of the sequence; default: the first in --root")
    add("--frames", type=int, default=60, help="length of the clip; default: %(default)s")
    add("--repeats", type=int, default=5, help="runs of each tracker; default: %(default)s")
    add("--burn-in", type=int, default=10, help="updates not counted; default: %(default)s")
    add_inference(add, backend=False)
    add("--seed", type=int, default=0, help="of random weights; default: %(default)s")
    add_baselines(add)
    add("--output", type=Path, help="file to write the JSON object to")
    add_json(add)
