# SPDX-License-Identifier: Apache-2.0
"""`vt-models data`: is a dataset complete and readable? All problems at once, by file and line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from vt_models.datasets.checks import sequence_faults
from vt_models.datasets.coco import AnnotatedImage
from vt_models.datasets.kinds import DATASETS, open_dataset, open_images
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import DatasetError, InputError

SOME_FAILED = 1
CHUNKS = 32
"""Each process gets its work in so many parts."""


@dataclass
class Findings:
    """What there is, and what is wrong with it.

    Attributes:
        entries: sequences or images.
        images: frames or images.
        boxes: targets that are there.
        absent, occluded: frames of which the dataset says so.
        texts: entries with a sentence.
        problems: messages.
    """

    entries: int = 0
    images: int = 0
    boxes: int = 0
    absent: int = 0
    occluded: int = 0
    texts: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Count another one's too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_text(self) -> str:
        """A line of numbers, then a line for each problem."""
        numbers = {k: v for k, v in vars(self).items() if k != "problems" and v}
        counts = ", ".join(f"{value} {name}" for name, value in numbers.items())
        count = len(self.problems)
        said = f"{count} problem{'s' if count != 1 else ''}" if count else "no problem"
        return "\n".join([f"{counts or 'nothing'}: {said}", *self.problems])


def run(args: argparse.Namespace) -> int:
    """Run `vt-models data`; 1 where there are problems."""
    if args.jobs < 1:
        raise InputError(f"--jobs is {args.jobs}; expected 1 or more")
    is_video = args.dataset in DATASETS
    opened = (open_dataset if is_video else open_images)(args.dataset, args.root, split=args.split)
    findings = check(opened, decode=args.images, jobs=args.jobs)
    sys.stdout.write((json.dumps(asdict(findings)) if args.json else findings.to_text()) + "\n")
    return SOME_FAILED if findings.problems else 0


def check(
    entries: Sequence[VideoSequence] | Sequence[AnnotatedImage], *, decode: bool, jobs: int = 1
) -> Findings:
    """Read all sequences or images of a dataset.

    Args:
        entries: the dataset.
        decode: read every image as well.
        jobs: processes.
    """
    findings, count = Findings(), len(entries)
    work = partial(_check_entry, entries, decode)
    with ExitStack() as stack:
        each: Iterable[Findings] = map(work, range(count))
        if jobs > 1:
            pool = stack.enter_context(ProcessPoolExecutor(jobs))
            # The dataset travels with each chunk.
            each = pool.map(work, range(count), chunksize=1 + count // (CHUNKS * jobs))
        for found in tqdm(each, total=count, unit="entry", file=sys.stderr):
            findings.add(found)
    return findings


def _check_entry(
    entries: Sequence[VideoSequence] | Sequence[AnnotatedImage], decode: bool, number: int
) -> Findings:
    try:
        entry = entries[number]
    except DatasetError as error:
        return Findings(entries=1, problems=[str(error)])
    if isinstance(entry, VideoSequence):
        found = _of_sequence(entry)
        reads = [partial(entry.read_frame, index) for index in range(len(entry))]
    else:
        found = Findings(1, 1, len(entry.boxes), texts=int(bool(entry.captions)))
        reads = [partial(entry.read)]
    sizes: dict[str, str] = {}
    for place, read in enumerate(reads if decode else (), start=1):
        try:
            height, width = read().shape[:2]
            sizes.setdefault(f"{width}x{height}", f"{width}x{height} from frame {place} on")
        except DatasetError as error:
            found.problems.append(str(error))
    if isinstance(entry, VideoSequence) and len(sizes) > 1:
        found.problems.append(f"{entry.name}: images of several sizes: {', '.join(sizes.values())}")
    found.problems = list(dict.fromkeys(found.problems))  # a bad first image is found twice
    return found


def _of_sequence(sequence: VideoSequence) -> Findings:
    return Findings(
        problems=[fault.message for fault in sequence_faults(sequence)],
        entries=1,
        images=len(sequence),
        boxes=int(np.isfinite(sequence.boxes).all(axis=1).sum()),
        absent=int(sequence.absent.sum()),
        occluded=int(sequence.occluded.sum()),
        texts=int(sequence.language is not None),
    )
