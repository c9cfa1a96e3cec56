# SPDX-License-Identifier: Apache-2.0
"""`vt-models ground-export`: a checkpoint or trained weights to a detector for ONNX Runtime."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vt_models.cli.options import add_json
from vt_models.errors import InputError

DEFAULT_CANVAS = (384, 640)
DEFAULT_THRESHOLD = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models ground-export`."""
    add = parser.add_argument
    add(
        "source",
        help="directory of a zero-shot checkpoint, hub:OWNER/NAME to have it downloaded, or a "
        ".safetensors file of `vt-models ground-train`",
    )
    add("--output", required=True, type=Path, help="directory to create")
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
        f"{DEFAULT_THRESHOLD}",
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


def run(args: argparse.Namespace) -> int:
    """Run `vt-models ground-export`; raises VtModelsError for what is printed in one line."""
    from vt_models.grounding.export_directory import MANIFEST  # noqa: PLC0415 - loads numpy

    own = args.source.endswith(".safetensors")
    directory = _export_trained(args) if own else _export_checkpoint(args)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    if args.json:
        sys.stdout.write(json.dumps({"output": str(directory), **manifest}, indent=2) + "\n")
        return 0
    parity, (height, width) = manifest["parity"], manifest["canvas"]
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    sys.stdout.write(
        f"{directory}: {manifest['architecture']} for images of {width}x{height}, "
        f"{size / 1e6:.1f} MB, differs from torch by {parity['score_abs']:.1e} in scores and "
        f"{parity['box_abs']:.1e} of the canvas in boxes\n"
    )
    return 0


def _export_checkpoint(args: argparse.Namespace) -> Path:
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - loads numpy

    detector = open_detector(args.source, "cpu", None)
    from vt_models.grounding.export import export_detector  # noqa: PLC0415 - needs torch

    return export_detector(detector, args.output, args.size)


def _export_trained(args: argparse.Namespace) -> Path:
    from vt_models.grounding.text_detector_export import (  # noqa: PLC0415 - needs torch
        export_text_detector,
    )
    from vt_models.nets.text_detector import NAME, TextDetector  # noqa: PLC0415 - needs torch
    from vt_models.weights.tensors import load_weights  # noqa: PLC0415 - needs torch

    threshold = DEFAULT_THRESHOLD if args.threshold is None else args.threshold
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold is {threshold}; expected a number from 0 to 1")
    net = TextDetector()
    facts = load_weights(net, args.source, NAME)
    return export_text_detector(
        net,
        args.output,
        canvas=args.size or DEFAULT_CANVAS,
        threshold=threshold,
        facts={"source": Path(args.source).name, "trained": facts},
    )
