# SPDX-License-Identifier: Apache-2.0
"""Go on with an evaluation that was stopped: finished sequences are kept and not run again.

A kept result is used only where everything that decides it is the same: tracker, sha256 of its
weights, settings, this package's code, versions of what computes, and the sequence's frames (names,
sizes, times of change) and boxes. Anything else, a damaged file too, is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

import vt_models
from vt_models.errors import WeightsError
from vt_models.evaluation.metrics import score_sequence
from vt_models.evaluation.provenance import versions
from vt_models.evaluation.runner import SequenceResult, SequenceRunner, run_sequence

if TYPE_CHECKING:
    from vt_models.evaluation.datasets import VideoSequence
    from vt_models.evaluation.runner import SingleObjectTracker

_ARRAYS = {"boxes": 2, "scores": 1, "seconds": 1}


@dataclass(frozen=True)
class ResumingRun:
    """Runs a sequence, or takes what is kept of it; `run` of `runner.evaluate`.

    Attributes:
        directory: where results are kept, `<sequence>.npz`; one tracker each.
        settings: text that is equal where the results are, see `run_settings`.
        run: what is done with a sequence of which nothing is kept.
    """

    directory: Path
    settings: str
    run: SequenceRunner = run_sequence

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> SequenceResult:
        """The kept result or a new one, which is written at once; the tracker may stay unused."""
        path = self.directory / f"{quote(sequence.name, safe=' ')}.npz"
        key = _digest(f"{self.settings}\n{_describe(sequence)}".encode())
        kept = _load(path, key, sequence)
        if kept is not None:
            return kept
        result = self.run(tracker, sequence)
        _save(path, key, result)
        return result


def run_settings(tracker: str, options: Mapping[str, object], weights: Path | None) -> str:
    """Everything but the sequence that decides a tracker's boxes, as one text.

    Args:
        tracker: its name.
        options: of this run, JSON-serialisable.
        weights: a file or a directory; None for a tracker without.

    Raises:
        WeightsError: `weights` does not exist.
    """
    code = Path(vt_models.__file__).parent
    parts = {
        "tracker": tracker,
        "options": dict(options),
        "weights": None if weights is None else files_digest(weights),
        "code": _digest(b"".join(path.read_bytes() for path in sorted(code.glob("**/*.py")))),
        "versions": versions(),
    }
    return json.dumps(parts, sort_keys=True)


def files_digest(path: Path) -> str:
    """sha256 over a file, or over the names and contents of all files of a directory.

    Raises:
        WeightsError: nothing at `path`.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            total.update(f"{file.relative_to(path)}\n{_digest(file.read_bytes())}\n".encode())
    return total.hexdigest()


def _describe(sequence: VideoSequence) -> str:
    frames = [(str(frame), *_stamp(frame)) for frame in sequence.frames]
    boxes = np.ascontiguousarray(sequence.boxes, np.float64)
    return json.dumps([sequence.name, frames, _digest(boxes.tobytes())])


def _stamp(frame: Path) -> tuple[int, int]:
    """Size and time of change of a frame, or of the archive it lies in."""
    for path in (frame, *frame.parents):
        if path.is_file():
            about = path.stat()
            return about.st_size, about.st_mtime_ns
    return 0, 0


def _load(path: Path, key: str, sequence: VideoSequence) -> SequenceResult | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            arrays = {name: np.asarray(kept[name], np.float64) for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if any(arrays[name].ndim != axes for name, axes in _ARRAYS.items()):
        return None
    is_known = bool(np.isfinite(sequence.boxes[1:]).any())
    accuracy = score_sequence(arrays["boxes"], sequence.boxes) if is_known else None
    return SequenceResult(sequence.name, accuracy=accuracy, **arrays)


def _save(path: Path, key: str, result: SequenceResult) -> None:
    """Write beside the place and move there, so that a stop leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part")
    with draft.open("wb") as file:
        np.savez_compressed(
            file, key=key, boxes=result.boxes, scores=result.scores, seconds=result.seconds
        )
    draft.replace(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
