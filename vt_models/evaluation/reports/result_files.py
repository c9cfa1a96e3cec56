# SPDX-License-Identifier: Apache-2.0
"""Results in the files that the benchmarks' own toolkits and servers read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.evaluation.runs.runner import Report
from vt_models.evaluation.runs.vot_runs import AnchorRuns
from vt_models.files import write_bytes, write_text

Array: TypeAlias = NDArray[np.float64]
Files: TypeAlias = dict[str, str]
"""Text by its path below the folder of results."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_VOT_UNKNOWN, _VOT_STARTED = "0", "1"


def write_results(benchmark: str, report: Report, directory: Path) -> Path:
    """Write one tracker's boxes for a benchmark.

    "otb" (also UAV123, NFS): `<tracker>/<sequence>.txt` and `<tracker>/times/<sequence>_time.txt`.
    "lasot": `<tracker>_tracking_result/<sequence>.txt`. "trackingnet": `<tracker>.zip` with
    `<sequence>.txt`. "got10k": `<tracker>/<sequence>/<sequence>_001.txt` and `_time.txt`, and
    `<tracker>.zip` with the same, to submit. "vot-lt": `<tracker>/longterm/<sequence>/
    <sequence>_001.txt`, `_001_confidence.value` and `_001_time.value`. Boxes are x,y,w,h a line, in
    the coordinates of the dataset's own first box.

    Returns:
        What is to be handed in: the zip where there is one, else the folder.

    Raises:
        InputError: unknown benchmark.
    """
    if benchmark not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise InputError(f"no result files for {benchmark!r}; expected one of {known}")
    return BENCHMARKS[benchmark](report, directory)


def write_anchored(results: Iterable[AnchorRuns], tracker: str, directory: Path) -> Path:
    """Write VOT's `<tracker>/baseline/<sequence>/<sequence>_<anchor>.txt` and `_time.value`.

    A line is 1 where the run was started, else x,y,w,h; times are in seconds.

    Returns:
        The tracker's folder.
    """
    files: Files = {}
    for result in results:
        for run in result.runs:
            name = f"baseline/{result.name}/{result.name}_{run.anchor:08d}"
            files |= _vot_files(name, [_VOT_STARTED, *_regions(run.boxes[1:])], run.seconds)
    return _write_folder(files, directory / tracker)


def box_lines(boxes: Array, digits: int) -> str:
    """(N, 4) as `x,y,w,h` a line."""
    text = io.StringIO()
    np.savetxt(text, boxes, fmt=f"%.{digits}f", delimiter=",")
    return text.getvalue()


def _write_otb(report: Report, directory: Path) -> Path:
    files = {f"{result.name}.txt": box_lines(result.boxes, 3) for result in report.results}
    for result in report.results:
        files[f"times/{result.name}_time.txt"] = _times(result.seconds, len(result.boxes))
    return _write_folder(files, directory / report.model)


def _write_lasot(report: Report, directory: Path) -> Path:
    files = {f"{result.name}.txt": box_lines(result.boxes, 4) for result in report.results}
    return _write_folder(files, directory / f"{report.model}_tracking_result")


def _write_trackingnet(report: Report, directory: Path) -> Path:
    files = {f"{result.name}.txt": box_lines(result.boxes, 3) for result in report.results}
    return _write_zip(files, directory / f"{report.model}.zip")


def _write_got10k(report: Report, directory: Path) -> Path:
    files: Files = {}
    for result in report.results:
        name = f"{result.name}/{result.name}"
        files[f"{name}_001.txt"] = box_lines(result.boxes, 3)
        files[f"{name}_time.txt"] = _times(result.seconds, len(result.boxes))
    _write_folder(files, directory / report.model)
    return _write_zip(files, directory / f"{report.model}.zip")


def _write_votlt(report: Report, directory: Path) -> Path:
    files: Files = {}
    for result in report.results:
        name = f"longterm/{result.name}/{result.name}_001"
        seconds = np.concatenate(
            (np.zeros(len(result.boxes) - len(result.seconds)), result.seconds)
        )
        files |= _vot_files(name, [_VOT_STARTED, *_regions(result.boxes[1:])], seconds)
        confidences = _text(f"{value:.6f}" for value in result.scores[1:])
        files[f"{name}_confidence.value"] = f"nan\n{confidences}"
    return _write_folder(files, directory / report.model)


BENCHMARKS: dict[str, Callable[[Report, Path], Path]] = {
    "otb": _write_otb,
    "lasot": _write_lasot,
    "trackingnet": _write_trackingnet,
    "got10k": _write_got10k,
    "vot-lt": _write_votlt,
}


def _vot_files(name: str, lines: Iterable[str], seconds: Array) -> Files:
    times = _text(f"{value:.6f}" for value in seconds)
    return {f"{name}.txt": _text(lines), f"{name}_time.value": times}


def _regions(boxes: Array) -> list[str]:
    """A line a box as VOT writes it; 0, an unknown region, where there is none."""
    lines = box_lines(boxes, 4).splitlines()
    known = np.asarray(np.isfinite(boxes).all(axis=1))
    return [line if there else _VOT_UNKNOWN for line, there in zip(lines, known, strict=True)]


def _times(seconds: Array, count: int) -> str:
    """A line a frame; 0 for those that were not timed, which the got10k package leaves out."""
    padded = np.concatenate((np.zeros(count - len(seconds)), seconds))
    return _text(f"{value:.8f}" for value in padded)


def _text(lines: Sequence[str] | Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write_folder(files: Files, directory: Path) -> Path:
    for name, text in files.items():
        write_text(directory / name, text, parents=True)
    return directory


def _write_zip(files: Files, path: Path) -> Path:
    """The same files give the same bytes, whenever they are written."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(
                zipfile.ZipInfo(name, _ZIP_TIME), text, compress_type=zipfile.ZIP_DEFLATED
            )
    write_bytes(path, data.getvalue(), parents=True)
    return path
