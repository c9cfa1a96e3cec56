# SPDX-License-Identifier: Apache-2.0
"""Results in the files that the benchmarks' own toolkits and servers read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError

if TYPE_CHECKING:
    from vt_models.evaluation.runner import Report
    from vt_models.evaluation.vot import AnchorRuns

Array: TypeAlias = NDArray[np.float64]
Files: TypeAlias = dict[str, str]
"""Text by its path below the folder of results."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_VOT_STARTED = "1"


def write_results(benchmark: str, report: Report, directory: Path) -> Path:
    """Write one tracker's boxes for a benchmark.

    "otb" (also UAV123, NFS): `<tracker>/<sequence>.txt` and `<tracker>/times/<sequence>_time.txt`.
    "lasot": `<tracker>_tracking_result/<sequence>.txt`. "trackingnet": `<tracker>.zip` with
    `<sequence>.txt`. "got10k": `<tracker>/<sequence>/<sequence>_001.txt` and `_time.txt`, and
    `<tracker>.zip` with the same, to submit. Boxes are x,y,w,h a line, in the coordinates of the
    data set's own first box.

    Returns:
        What is to be handed in: the zip where there is one, else the folder.

    Raises:
        InputError: unknown benchmark.
    """
    if benchmark not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise InputError(f"no result files for {benchmark!r}; expected one of {known}")
    return BENCHMARKS[benchmark](report, directory)


def write_vot(results: Iterable[AnchorRuns], tracker: str, directory: Path) -> Path:
    """Write VOT's `<tracker>/baseline/<sequence>/<sequence>_<anchor>.txt` and `_time.value`.

    A line is 1 where the run was started, else x,y,w,h; times are in seconds.

    Returns:
        The tracker's folder.
    """
    files = {}
    for result in results:
        for run in result.runs:
            name = f"baseline/{result.name}/{result.name}_{run.anchor:08d}"
            lines = box_lines(run.boxes[1:], 4).splitlines()
            files[f"{name}.txt"] = _text([_VOT_STARTED, *lines])
            files[f"{name}_time.value"] = _text(f"{value:.6f}" for value in run.seconds)
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
    files = {}
    for result in report.results:
        name = f"{result.name}/{result.name}"
        files[f"{name}_001.txt"] = box_lines(result.boxes, 3)
        files[f"{name}_time.txt"] = _times(result.seconds, len(result.boxes))
    _write_folder(files, directory / report.model)
    return _write_zip(files, directory / f"{report.model}.zip")


BENCHMARKS: dict[str, Callable[[Report, Path], Path]] = {
    "otb": _write_otb,
    "lasot": _write_lasot,
    "trackingnet": _write_trackingnet,
    "got10k": _write_got10k,
}


def _times(seconds: Array, count: int) -> str:
    """A line a frame; 0 for those that were not timed, which the got10k package leaves out."""
    padded = np.concatenate((np.zeros(count - len(seconds)), seconds))
    return _text(f"{value:.8f}" for value in padded)


def _text(lines: Sequence[str] | Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write_folder(files: Files, directory: Path) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def _write_zip(files: Files, path: Path) -> Path:
    """The same files give the same bytes, whenever they are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(
                zipfile.ZipInfo(name, _ZIP_TIME), text, compress_type=zipfile.ZIP_DEFLATED
            )
    return path
