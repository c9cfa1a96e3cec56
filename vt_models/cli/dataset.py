# SPDX-License-Identifier: Apache-2.0
"""`vt-models dataset`: tracked bags to images with boxes, for `train` and `eval`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from vt_models.datasets.json_lines import ANNOTATIONS
from vt_models.errors import InputError
from vt_models.files import draft_of_directory
from vt_models.offline.labels import (
    LabelSettings,
    LabelTally,
    name_of,
    read_labels,
    write_pack,
    write_sequences,
)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises VtModelsError for what the command line prints in one line."""
    settings = LabelSettings(args.score, args.stride, args.crop, args.max_side, args.object_class)
    bags = [path.expanduser() for path in args.bags]
    _check(args, bags)
    tally, lines = LabelTally(), []
    try:
        with draft_of_directory(args.output) as folder:
            for bag in tqdm(bags, desc="bags", unit="bag", file=sys.stderr, disable=len(bags) < 2):
                labels = read_labels(args.labels or bag, settings.score, args.names)
                if args.format == "folder":
                    tally.add(write_sequences(bag, args.topic, labels, folder, settings))
                else:
                    written, more = write_pack(bag, args.topic, labels, folder, settings)
                    tally.add(written)
                    lines += more
            if lines:
                text = "".join(f"{json.dumps(line)}\n" for line in lines)
                (folder / ANNOTATIONS).write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--output {args.output} cannot be written: {reason}") from error
    if args.json:
        sys.stdout.write(json.dumps({**asdict(tally), "output": str(args.output)}) + "\n")
    else:
        left_out = f"; {tally.unreadable} images could not be read" if tally.unreadable else ""
        sys.stdout.write(
            f"{tally.images} images with {tally.boxes} boxes in {tally.sequences} sequences in "
            f"{args.output}{left_out}\n"
        )
    return 0


def _check(args: argparse.Namespace, bags: list[Path]) -> None:
    """Raise InputError for options that contradict each other."""
    for bag in bags:
        if not bag.exists():
            raise InputError(f"{bag} does not exist; give a tracked bag")
    names = [name_of(bag) for bag in bags]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two bags are called {twice}; their images would have the same names")
    if args.labels is not None and len(bags) > 1:
        raise InputError(f"--labels {args.labels} is of one bag, and {len(bags)} are given")
    if args.labels is not None and not args.labels.exists():
        raise InputError(f"--labels {args.labels} does not exist; give a tracked bag")
    if args.format == "folder" and (args.crop or args.stride > 1):
        raise InputError("--crop and --stride are for --format pack; a sequence has whole images")
    if args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise InputError(f"--output {args.output} is there already; give a new folder")
