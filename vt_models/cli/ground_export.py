# SPDX-License-Identifier: Apache-2.0
"""`vt-models ground-export`: a checkpoint or trained weights to a detector for ONNX Runtime."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vt_models.cli.arguments import DETECTOR_THRESHOLD
from vt_models.errors import InputError
from vt_models.grounding.export import export_detector
from vt_models.grounding.export_directory import MANIFEST
from vt_models.grounding.text_detector_export import export_text_detector
from vt_models.grounding.zero_shot import open_detector
from vt_models.nets.text_detector import NAME, NAMES, TextDetector
from vt_models.weights.tensors import load_weights

DEFAULT_CANVAS = (384, 640)


def run(args: argparse.Namespace) -> int:
    """Run `vt-models ground-export`; raises VtModelsError for what is printed in one line."""
    if not args.source.endswith(".safetensors"):
        detector = open_detector(args.source, "cpu", None)
        directory = export_detector(detector, args.output, args.size)
    else:
        threshold = DETECTOR_THRESHOLD if args.threshold is None else args.threshold
        if not 0 <= threshold <= 1:
            raise InputError(f"--threshold is {threshold}; expected a number from 0 to 1")
        net = TextDetector()
        facts = load_weights(net, args.source, NAME)
        directory = export_text_detector(
            net,
            args.output,
            canvas=args.size or DEFAULT_CANVAS,
            threshold=threshold,
            names=tuple(json.loads(facts.pop(NAMES, "[]"))),
            facts={"source": Path(args.source).name, "trained": facts},
        )
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
