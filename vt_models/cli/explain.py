# SPDX-License-Identifier: Apache-2.0
"""`vt-models explain`: what a network saw in one frame of a video, as images and a page."""

from __future__ import annotations

import argparse
import json
import sys

from vt_models.api import create_tracker
from vt_models.errors import InputError
from vt_models.evaluation.reports.attention import HOW_TO_READ, figure, figures_of, png_bytes
from vt_models.evaluation.reports.report import missing_extra_is_said
from vt_models.explain import PANEL_SIDE, explain
from vt_models.files import file_name, write_bytes
from vt_models.geometry.boxes import Box
from vt_models.tracker.tracker import Tracker
from vt_models.video.drawing import GREEN, draw_box, scaled, with_label
from vt_models.video.sources import Frame, open_recorded

PAGE = "explain.html"


def run(args: argparse.Namespace) -> int:
    """Run `vt-models explain`; raises VtModelsError for what the command line prints in one line.

    The page needs no other file. Images are written beside it: one of all maps, one of each.
    """
    if args.frame < 1:
        raise InputError(f"--frame {args.frame}: the first frame, 0, is where tracking starts")
    if args.output.resolve() == args.video.resolve():
        raise InputError(f"--output {args.output} is the video; give another folder")
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"--output {args.output} is a file; give a folder to write to")
    tracker = create_tracker(
        args.model, args.weights, "torch", args.device, args.threads, update=args.update
    )
    if args.text is not None and not tracker.spec.language:
        raise InputError(f"--text: this {tracker.spec.name} reads no text; leave it out")
    first, frame = _track_to(args, tracker)
    found = explain(tracker, frame, args.text)
    shown = with_label(frame, found.estimate.box, f"{args.model} {found.estimate.score:.2f}")
    images = {
        "frame": shown,
        "sheet": found.sheet(),
        **{
            f"{number:02d}_{panel.title}": image
            for number, (panel, image) in enumerate(
                zip(found.panels, found.images(), strict=True), start=1
            )
        },
    }
    data = {
        file_name(f"{name}.png".replace(" ", "_")): png_bytes(one) for name, one in images.items()
    }
    with missing_extra_is_said(PAGE):
        from vt_models.evaluation.reports.templates import render  # noqa: PLC0415 - needs an extra

        page = render(
            "explain.html.j2",
            title=f"{args.model} in frame {args.frame} of {args.video.name}",
            text=args.text,
            how_to_read=HOW_TO_READ,
            figures=[
                figure(
                    _wide(first, args.box),
                    "Frame 0, where tracking started, with the box that was given.",
                ),
                figure(
                    _wide(frame, found.estimate.box),
                    f"Frame {args.frame}, with the box that was found; its score is "
                    f"{found.estimate.score:.2f}.",
                ),
                *figures_of(found),
            ],
        )
        data[PAGE] = page.encode()
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            write_bytes(args.output / name, content)
    except OSError as error:
        raise InputError(f"--output {args.output} cannot be written: {error.strerror}") from error
    files = [str(args.output / name) for name in data]
    if args.json:
        panels = [{"title": panel.title, "caption": panel.caption} for panel in found.panels]
        box, score = found.estimate.box, found.estimate.score
        summary = {"box": box, "score": score, "panels": panels, "outputs": files}
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    else:
        shows = args.output / (PAGE if PAGE in data else "sheet.png")
        sys.stdout.write(f"wrote {len(files)} files, {shows} shows all\n")
    return 0


def _wide(frame: Frame, box: Box) -> Frame:
    """Return a frame as wide as a map, with a box."""
    scale = PANEL_SIDE / frame.shape[1]
    image = scaled(frame, scale)
    draw_box(image, box, GREEN, scale)
    return image


def _track_to(args: argparse.Namespace, tracker: Tracker) -> tuple[Frame, Frame]:
    """Track up to the frame before the wanted one; return the first and the wanted one."""
    frames = open_recorded(args.video)
    first = None
    number = -1
    for number, frame in enumerate(frames):
        if first is None:
            first = frame
            tracker.init(frame, args.box, args.text)
        elif number == args.frame:
            return first, frame
        else:
            tracker.update(frame)
    raise InputError(f"--frame {args.frame}: {args.video} has {number + 1} frames")
