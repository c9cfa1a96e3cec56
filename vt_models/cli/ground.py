# SPDX-License-Identifier: Apache-2.0
"""`vt-models ground`: a description and an image in, boxes out."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from vt_models.cli.options import check_not_input
from vt_models.datasets.images import read_image
from vt_models.grounding.backends import create_grounder
from vt_models.grounding.results import Grounding
from vt_models.grounding.settings import GroundingSettings
from vt_models.grounding.text import check_text
from vt_models.video.drawing import with_label
from vt_models.video.writing import write_image


def run(args: argparse.Namespace) -> int:
    """Run `vt-models ground`; 0 if one box was found, 1 if none or several.

    Raises VtModelsError for what the command line prints in one line.
    """
    check_not_input("--draw", args.draw, args.image)
    settings = GroundingSettings(threshold=args.grounding_threshold)
    text = check_text(args.text, settings.max_text_length)
    frame = read_image(args.image)
    grounder = create_grounder(
        args.grounding_backend,
        args.grounding_source,
        settings=settings,
        device=args.device,
        threads=args.threads,
    )
    grounding = grounder.find(frame, text)
    if args.draw is not None:
        drawn = frame
        for number, candidate in reversed(list(enumerate(grounding.candidates, 1))):
            # The best one last, so that it lies on top.
            drawn = with_label(drawn, candidate.box, f"{number}: {candidate.score:.2f}")
        write_image(args.draw, drawn)
    if args.json:
        found = {"image": str(args.image), "text": text, **to_dict(grounding)}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(_to_text(grounding))
    return 0 if grounding.status == "found" else 1


def to_dict(grounding: Grounding) -> dict[str, Any]:
    """The JSON object of an answer; boxes are x, y, w, h in pixels."""
    candidates = [
        {
            "box": [round(value, 2) for value in candidate.box],
            "score": round(candidate.score, 4),
            "label": candidate.label,
        }
        for candidate in grounding.candidates
    ]
    return {
        "status": grounding.status,
        "reason": grounding.reason,
        "chosen": candidates[0] if grounding.chosen else None,
        "candidates": candidates,
        "best_score": round(grounding.best_score, 4),
        "backend": grounding.backend,
        "seconds": round(grounding.seconds, 3),
    }


def _to_text(grounding: Grounding) -> str:
    lines = [f"{grounding.reason} ({grounding.backend}, {grounding.seconds:.2f} s)"]
    for candidate in grounding.candidates:
        box = ",".join(f"{value:.1f}" for value in candidate.box)
        lines.append(f"  {candidate.score:.3f}  {box}  {candidate.label}".rstrip())
    return "\n".join(lines) + "\n"
