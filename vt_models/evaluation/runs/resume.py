# SPDX-License-Identifier: Apache-2.0
"""Go on with an evaluation that was stopped: finished sequences are kept and not run again.

A kept result is used only where everything that decides it is the same: tracker, sha256 of its
weights, settings, this package's code, processor and versions of what computes, and the sequence's
frames (names, sizes, times of change), boxes and sentence. Anything else, a damaged file too, is
run again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

import vt_models
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import WeightsError
from vt_models.evaluation.provenance import machine, versions
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.evaluation.runs.trackers import EvaluatedTracker
from vt_models.evaluation.runs.vot_runs import anchor_file
from vt_models.files import file_name, write_bytes

Arrays: TypeAlias = dict[str, NDArray[Any]]
Result = TypeVar("Result", bound="StoredResult")

_LOG = logging.getLogger(__name__)
UNRELATED = ("datasets", "longterm", "training")
"""Packages whose code does not decide what a tracker answers to given frames and boxes."""


class StoredResult(Protocol):
    """A result that can be kept: `SequenceResult` and `AnchorRuns` are such."""

    def to_arrays(self) -> Arrays:
        """Return what `from_arrays` makes the result of again."""

    @classmethod
    def from_arrays(cls, sequence: VideoSequence, arrays: Arrays) -> Any:
        """Make the result again; KeyError or ValueError for other arrays."""


@dataclass(frozen=True)
class ResumableRun(Generic[Result]):
    """Runs a sequence, or takes what is kept of it; `run` of `runner.run_all`.

    Attributes:
        directory: where results are kept, `<sequence>.npz`; one tracker each.
        settings: text that is equal where the results are, see `run_settings`.
        run: what is done with a sequence of which nothing is kept.
        result: class of the results.
    """

    directory: Path
    settings: str
    run: Callable[[SingleObjectTracker, VideoSequence], Result]
    result: type[Result]

    def __call__(self, tracker: SingleObjectTracker, sequence: VideoSequence) -> Result:
        """The kept result or a new one, which is written at once; the tracker may stay unused."""
        path, key = self._path(sequence), self._key(sequence)
        arrays = _load(path, key)
        if arrays is not None:
            try:
                kept: Result = self.result.from_arrays(sequence, arrays)
            except (KeyError, ValueError):
                pass
            else:
                return kept
        result = self.run(tracker, sequence)
        data = io.BytesIO()
        named: Any = {"key": np.array(key), **result.to_arrays()}
        np.savez_compressed(data, **named)
        try:
            write_bytes(path, data.getvalue(), parents=True)
        except OSError as error:  # a full disk costs what is kept, not what was found
            _LOG.warning("%s is not kept: %s", path, error.strerror)
        return result

    def count_kept(self, sequences: Sequence[VideoSequence]) -> int:
        """How many of the sequences need not be run."""
        if not self.directory.is_dir():
            return 0
        return sum(
            _load(self._path(one), self._key(one)) is not None
            for one in (sequences[index] for index in range(len(sequences)))
            if self._path(one).exists()
        )

    def _path(self, sequence: VideoSequence) -> Path:
        return self.directory / f"{file_name(sequence.name)}.npz"

    def _key(self, sequence: VideoSequence) -> str:
        """Digest of all that decides the result: the settings and what belongs to the sequence."""
        frames = [(str(frame), *_stamp(frame)) for frame in sequence.frames]
        boxes = np.ascontiguousarray(sequence.boxes, np.float64).tobytes()
        words = [sequence.language, sequence.classes]
        about = [self.settings, sequence.name, frames, _digest(boxes), words]
        anchors = anchor_file(sequence)
        if anchors.is_file():
            about.append(_digest(anchors.read_bytes()))
        return _digest(json.dumps(about).encode())


@dataclass(frozen=True)
class RunOptions:
    """How an evaluation is carried out.

    Attributes:
        jobs: processes, each running whole sequences.
        directory: where finished sequences are kept, `<tracker>/kept/`; None for nowhere.
        fresh: whether to run again what is kept there.
    """

    jobs: int = 1
    directory: Path | None = None
    fresh: bool = False


def resumable(
    run: Callable[[SingleObjectTracker, VideoSequence], Result],
    result: type[Result],
    tracker: EvaluatedTracker,
    sequences: Sequence[VideoSequence],
    settings: Mapping[str, object],
    options: RunOptions,
) -> Callable[[SingleObjectTracker, VideoSequence], Result]:
    """Return `run`, or where `options` name a directory one that keeps results and takes kept ones.

    Args:
        run: what is done with a sequence.
        result: class of what it returns.
        tracker: that runs.
        sequences: that it runs over; how many are kept already is logged.
        settings: what else decides the results, JSON-serialisable.
        options: of the evaluation.
    """
    if options.directory is None:
        return run
    text = run_settings(tracker.name, {**tracker.options, **settings}, tracker.weights)
    kept_run = ResumableRun(options.directory / tracker.name / "kept", text, run, result)
    if options.fresh:
        for path in kept_run.directory.glob("*.npz"):
            path.unlink()
    kept = kept_run.count_kept(sequences)
    if kept:
        _LOG.info(
            "%s: %d of %d sequences are kept in %s and not run again (--fresh runs them)",
            *(tracker.name, kept, len(sequences), kept_run.directory),
        )
    return kept_run


def run_settings(tracker: str, options: Mapping[str, object], weights: Sequence[Path]) -> str:
    """Everything but the sequence that decides a tracker's boxes, as one text.

    Args:
        tracker: its name.
        options: of this run, JSON-serialisable.
        weights: files or directories; none for a tracker without.

    Raises:
        WeightsError: `weights` does not exist.
    """
    root = Path(vt_models.__file__).parent
    modules = sorted(path.relative_to(root) for path in root.glob("**/*.py"))
    code = b"".join(
        (root / module).read_bytes() for module in modules if module.parts[0] not in UNRELATED
    )
    parts = {
        "tracker": tracker,
        "options": dict(options),
        "weights": [files_digest(path) for path in weights],
        "code": _digest(code),
        "cpu": machine()["cpu"],
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


def _stamp(frame: Path) -> tuple[int, int]:
    """Size and time of change of a frame, or of the archive it lies in."""
    for path in (frame, *frame.parents):
        if path.is_file():
            about = path.stat()
            return about.st_size, about.st_mtime_ns
    return 0, 0


def _load(path: Path, key: str) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            return {name: kept[name] for name in kept.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
