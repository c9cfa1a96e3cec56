# SPDX-License-Identifier: Apache-2.0
"""Options of the commands, apart from their modules, which load numpy, OpenCV or torch.

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
    parse_path,
    split_names,
)

if TYPE_CHECKING:
    from vt_models.geometry.boxes import Box

DATASETS = (
    *("davis", "folder", "got10k", "lasot", "lasot_ext", "nfs", "otb", "tc128", "tnl2k"),
    "trackingnet",
    *("uav123", "videos", "vot"),
)
IMAGE_SETS = ("coco",)
PROTOCOLS = ("otb", "lasot", "trackingnet", "got10k", "vot-lt")
DETECTOR_THRESHOLD = 0.3
EXPORT_SETTINGS = {
    "clip_margin": ("box", "dense"),
    "size_calibration": ("box", "dense"),
    "size_smoothing": ("box", "dense"),
    "least_score": ("box",),
    "scale_penalty": ("dense",),
    "window_influence": ("dense",),
    "narrow_motion": ("dense",),
    "narrow_score": ("dense",),
}
"""What trackers may do otherwise than with the authors' weights, and the decoders that do it."""


def declare_track(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models track`."""
    add = parser.add_argument
    add("video", type=parse_path, metavar="VIDEO", help="video file, folder of images, or bag")
    add("--model", default="asymtrack_lite0", help="or auto; default: %(default)s")
    add("--box", type=parse_box, help="x,y,w,h of the target in the first frame, or at --at")
    add(
        "--text",
        help="the target in words: looked for where no --box is given, and read by models "
        "with a language input",
    )
    add_grounding(add, "what finds --text where no --box is given")
    add_weights(add)
    add_inference(add)
    add("--update", help="template update: a preset of the model, or INTERVAL:THRESHOLD")
    add(
        "--output",
        type=parse_path,
        action="append",
        default=[],
        help="OUT.mp4 or OUT.csv; of a bag or with --long-term OUT.html and OUT.mcap, too; "
        "repeatable",
    )
    add(
        "--show-response",
        action="store_true",
        help="draw the network's score map over the frames of OUT.mp4; its corner maps with "
        "--backend torch",
    )
    add_json(add)
    add = parser.add_argument_group(
        "bags and states", "A bag is tracked as the node tracks: with states, through loss."
    ).add_argument
    add("--long-term", action="store_true", help="track a video or folder like that, too")
    add("--topic", help="of a bag's images; default: the only one that has images")
    add("--point", type=parse_point, help="x,y: the target is the object there")
    add("--at", type=float, metavar="SECONDS", help="start that long after the first frame")
    add("--name", help="of the target, and of its topics in OUT.mcap; default: tracker")
    add(
        "--targets",
        type=parse_path,
        metavar="FILE",
        help="several, in YAML; see docs/tutorials/bags.md",
    )
    add("--realtime", action="store_true", help="drop frames that come while one is processed")
    add("--latency", type=float, metavar="MS", help="of a frame with --realtime; default: measured")
    add("--rectified", action="store_true", help="the images are: bearings use P of camera_info")


def declare_explain(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models explain`."""
    add = parser.add_argument
    add("video", type=parse_path, metavar="VIDEO", help="video file, or folder of images")
    add("--model", default="asymtrack_lite0", help="default: %(default)s")
    add("--box", type=parse_box, required=True, help="x,y,w,h of the target in the first frame")
    add("--text", help="the target in words, for models with a language input")
    add("--frame", type=int, default=1, help="which to explain, from 1; default: %(default)s")
    add_weights(add)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    add("--threads", type=int, help="CPU threads; default: 1")
    add("--update", help="template update: a preset of the model")
    add("--output", type=parse_path, required=True, help="folder for explain.html and the images")
    add_json(add)


def parse_box(text: str) -> Box:
    """Turn "x,y,w,h" into four floats."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        message = f"expected four numbers x,y,w,h, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return x, y, w, h


def parse_point(text: str) -> tuple[float, float]:
    """Turn "x,y" into two floats."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        message = f"expected two numbers x,y, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return x, y


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
    add("--root", required=True, type=parse_path, help="directory of the dataset")
    add("--split", help="part of the dataset, see docs/datasets.md; default: the dataset's own")
    add("--sequences", type=split_names, help="comma-separated names; default: all")
    add(
        "--list",
        type=parse_path,
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
    add(
        "--text",
        default="auto",
        choices=("auto", "sentence", "none"),
        help="what language models are told: the sequence's sentence; auto, the default: its "
        "classes where it has none, as in training; or nothing",
    )
    add_grounding(add, "what finds the target for --init text")
    add("--grounding-threshold", type=float, help="lowest score that starts; default: its own")
    add = parser.add_argument_group("as a stream").add_argument
    add("--stream", type=float, metavar="FPS", help="frames as a camera delivers them")
    add("--latency", metavar="MS", help="with --stream: MS or NAME=MS,...; default: measured")
    add = parser.add_argument_group("work and results").add_argument
    add("--jobs", type=int, default=1, help="processes, each running whole sequences; default: 1")
    add("--output", type=parse_path, help="directory for report.html, boxes and result files")
    add(
        "--attention",
        type=int,
        default=0,
        metavar="N",
        help="look inside each model's network in its N worst sequences, as PNG and in "
        "report.html; needs torch",
    )
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
    add("--root", required=True, type=parse_path, help="directory of the dataset")
    add("--split", help="part of the dataset, see docs/datasets.md; default: the dataset's own")
    add("--images", action="store_true", help="decode every image too")
    add("--jobs", type=int, default=1, help="processes; default: 1")
    add_json(add)


def declare_dataset(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models dataset`."""
    add = parser.add_argument
    add(
        "bags", type=parse_path, nargs="+", metavar="BAG", help="tracked bag (`track BAG --output`)"
    )
    add(
        "--labels",
        type=parse_path,
        metavar="BAG",
        help="bag with the tracker's topics, where the images' bag has none",
    )
    add("--topic", help="of the images; default: the only one that has images")
    add("--names", type=split_names, default=[], help="targets, comma-separated; default: all")
    add("--output", type=parse_path, required=True, help="folder to make")
    add(
        "--format",
        choices=("pack", "folder"),
        default="pack",
        help="image pack for `train`, or a folder a sequence for `eval`; default: %(default)s",
    )
    add("--score", type=float, default=0.8, help="least confidence; default: %(default)s")
    add("--stride", type=int, default=1, help="every such image of a pack; default: 1")
    add("--crop", type=float, default=0.0, metavar="SIDES", help="cut out so many target sides")
    add("--max-side", type=int, default=0, help="pixels of an image; default: as it is")
    add("--object-class", default="", help="what the targets are called in the annotations")
    add_json(add)


def declare_calibrate(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models calibrate`."""
    add = parser.add_argument
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--sequences", required=True, type=parse_path, help="directory of the annotated sequences")
    add("--dataset", default="folder", choices=DATASETS, help="its layout; default: %(default)s")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--names", type=split_names, help="comma-separated; default: all")
    which.add_argument(
        "--list",
        type=parse_path,
        metavar="FILE",
        help="the videos to validate on, as for eval --list",
    )
    add(
        "--pack",
        type=parse_path,
        help="training pack: add composed clips with departures to the fit",
    )
    add("--seed", type=int, default=0, help="of the composed clips; default: %(default)s")
    add_weights(add)
    add_inference(add, backend=False)
    add("--diagram", type=parse_path, help="PNG to draw the reliability diagram to")
    add("--dry-run", action="store_true", help="measure only, leave model.json as it is")
    add_json(add)


def declare_train(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models train`."""
    add = parser.add_argument
    add("recipe", type=parse_path, help="YAML recipe, see recipes/")
    data_help = "folder of the image pack, or NAME=DIR of each of the recipe's sources"
    add("--data", action="append", default=[], metavar="[NAME=]DIR", help=data_help)
    add("--output", type=parse_path, help="run directory; default: runs/<name of the recipe>")
    add(
        "--validate-on",
        type=parse_path,
        help="folder of sequences, or of annotated videos, to validate on at intervals",
    )
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="replace a setting")
    add_training_device(add)
    add("--workers", type=int, help="processes that cut crops; default: 1, with a GPU up to 8")
    time_help = "end after this time, that before a resumption included, with schedules completed"
    add("--max-minutes", type=float, help=time_help)
    add(
        "--start-from",
        type=parse_path,
        help="weights of the same model to start from (STARK's stage 1)",
    )
    backbone_help = "published weights that the recipe's `pretrained` names (torch or safetensors)"
    add("--backbone-weights", type=parse_path, metavar="FILE", help=backbone_help)
    text_help = "text encoder to start from: published, or of `vt-models distill-text-encoder`"
    add("--text-weights", type=parse_path, help=text_help)
    teacher_help = "NanoTrack v3's .safetensors, where the recipe's loss.teacher is not 0"
    add("--teacher-weights", type=parse_path, metavar="FILE", help=teacher_help)
    add("--restart", action="store_true", help="ignore the checkpoint of an earlier run")
    add("--json", action="store_true", help="one JSON object on standard output at the end")


def declare_pseudo_label(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models pseudo-label`."""
    add = parser.add_argument
    add(
        "--videos", type=parse_path, required=True, help="folder of video files or of image folders"
    )
    add("--output", type=parse_path, required=True, help="folder of the image pack to write")
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
    add("--data", type=parse_path, required=True, help="folder of the image pack")
    add(
        "--output",
        type=parse_path,
        required=True,
        help=".safetensors file for `train --start-from`",
    )
    add("--teacher", default="asymtrack_lite0", help="trained tracker; default: %(default)s")
    add("--teacher-weights", type=parse_path, help="its weights; default: the bundled ones")
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
    add("teacher", type=parse_path, help="model.safetensors of all-MiniLM-L6-v2")
    add("--output", type=parse_path, required=True, help=".safetensors file to write")
    add("--model", default="pjvlt_tiny", help="whose text encoder it is; default: %(default)s")
    add(
        "--sentences",
        type=parse_path,
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
    add("--image", required=True, type=parse_path, help="image to search")
    add("--text", required=True, help='description, such as "the white car on the left"')
    add(
        "--grounding-threshold", type=float, help="lowest score that counts; default: the backend's"
    )
    add_inference(add, backend=False)
    add("--draw", type=parse_path, metavar="OUT.png", help="write the image with the candidates")
    add_json(add)


def declare_ground_train(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models ground-train`."""
    add = parser.add_argument
    add("--data", type=parse_path, required=True, help="folder of the image pack")
    add(
        "--text-weights", type=parse_path, required=True, help="of `vt-models distill-text-encoder`"
    )
    add(
        "--output", type=parse_path, default=Path("runs/text_detector"), help="default: %(default)s"
    )
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
    add("--root", type=parse_path, help="folder of sequences; default: a synthetic video")
    add("--sequence", help="name of the sequence; default: the first in --root")
    add("--frames", type=int, default=60, help="length of the clip; default: %(default)s")
    add("--repeats", type=int, default=5, help="runs of each tracker; default: %(default)s")
    add("--burn-in", type=int, default=10, help="updates not counted; default: %(default)s")
    add_inference(add, backend=False)
    add("--seed", type=int, default=0, help="of random weights; default: %(default)s")
    add("--plain-torch", action="store_true", help="run each model in plain PyTorch too")
    add_baselines(add)
    add("--output", type=parse_path, help="file to write the JSON object to")
    add_json(add)


def declare_export(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models export`."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the model, see `vt-models models`")
    add("--weights", required=True, type=parse_path, help=".safetensors file of this model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=parse_path, help="directory to create")
    where.add_argument(
        "--install",
        action="store_true",
        help="where trackers look that are made without naming weights: VT_MODELS_WEIGHTS, else "
        "vt_models in the user's data directory",
    )
    add(
        "--storage",
        default="float16",
        choices=("float32", "float16", "int8"),
        help="how weights are stored; default: %(default)s",
    )
    add(
        "--search-size",
        type=int,
        metavar="PIXELS",
        help="side of the search crop: a smaller one takes less time and loses fast targets "
        "(asymtrack_lite0, asymtrack_nano: a multiple of 16); default: the model's own",
    )
    add(
        "--narrow-search-size",
        type=int,
        metavar="PIXELS",
        help="side of a second search crop, for targets that are easy to follow; 0 for none; "
        "default: the model's own, and none with --search-size",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help=f"how trackers treat what these weights find, instead of the model's own value: "
        f"{', '.join(EXPORT_SETTINGS)}; may be given several times",
    )
    add_json(add)


def declare_ground_export(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models ground-export`."""
    add = parser.add_argument
    add(
        "source",
        help="directory of a zero-shot checkpoint, hub:OWNER/NAME to have it downloaded, or a "
        ".safetensors file of `vt-models ground-train`",
    )
    add("--output", required=True, type=parse_path, help="directory to create")
    add(
        "--size",
        type=parse_size,
        metavar="WxH",
        help="of the images, pixels; default: the largest that the checkpoint's preprocessor "
        "makes, such as 1333x800; of trained weights 640x384",
    )
    add(
        "--threshold",
        type=float,
        help="score that counts where nobody sets one; only for trained weights, default: "
        f"{DETECTOR_THRESHOLD}",
    )
    add_json(add)


def parse_size(text: str) -> tuple[int, int]:
    """Turn "1333x800" into (height, width)."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        message = f"expected WIDTHxHEIGHT such as 1333x800, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return height, width


def declare_weights(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of `vt-models weights` and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser(
        "import",
        help="make a published checkpoint into a .safetensors file",
        description="Make a checkpoint as published into a .safetensors file. "
        "Nothing in the checkpoint is executed.",
    )
    add = importing.add_argument
    add("file", type=parse_path, metavar="FILE", help="the checkpoint, for instance .pth.tar")
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--output", required=True, type=parse_path, help="the .safetensors file to write")
    add_json(add)

    averaging = actions.add_parser(
        "mean",
        help="average weights of one model that were trained from one start",
        description="Write the weighted mean of .safetensors files of one model, value by value: "
        "checkpoints of a run, or runs that began with the same weights.",
    )
    add = averaging.add_argument
    add("files", type=parse_path, nargs="+", metavar="FILE", help=".safetensors, two or more")
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--shares", help="of each file, for instance 0.25,0.75; default: equal")
    add("--output", required=True, type=parse_path, help="the .safetensors file to write")
    add_json(add)

    verifying = actions.add_parser(
        "verify",
        help="check export directories: sha256, description, and that they run",
        description="Check the files of export directories against their sha256, and run each on a "
        "few synthetic frames. Exit status 1 if one fails.",
    )
    add = verifying.add_argument
    add("directories", type=parse_path, nargs="*", metavar="DIR", help="default: all that are here")
    add_json(add)


def declare_models(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models models`."""
    add_json(parser.add_argument)


def declare_doctor(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models doctor`."""
    add_json(parser.add_argument)
