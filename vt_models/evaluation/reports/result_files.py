# SPDX-License-Identifier: Apache-2.0
"""Results in the files that the benchmarks' own toolkits and servers read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
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

BENCHMARKS = ("otb", "lasot", "trackingnet", "got10k", "vot-lt")


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
    files: Files = {}
    for result in report.results:
        name, boxes = result.name, result.boxes
        # 0 for the frames that were not timed, which the got10k package leaves out.
        seconds = np.concatenate((np.zeros(len(boxes) - len(result.seconds)), result.seconds))
        times = "".join(f"{value:.8f}\n" for value in seconds)
        if benchmark == "otb":
            files[f"{name}.txt"] = box_lines(boxes, 3)
            files[f"times/{name}_time.txt"] = times
        elif benchmark == "got10k":
            files[f"{name}/{name}_001.txt"] = box_lines(boxes, 3)
            files[f"{name}/{name}_time.txt"] = times
        elif benchmark == "vot-lt":
            run = f"longterm/{name}/{name}_001"
            files |= _vot_files(run, boxes, seconds)
            scores = "".join(f"{value:.6f}\n" for value in result.scores[1:])
            files[f"{run}_confidence.value"] = f"nan\n{scores}"
        else:
            files[f"{name}.txt"] = box_lines(boxes, 4 if benchmark == "lasot" else 3)
    folder = directory / (report.model + ("_tracking_result" if benchmark == "lasot" else ""))
    if benchmark != "trackingnet":
        _write_folder(files, folder)
    if benchmark not in ("trackingnet", "got10k"):
        return folder
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path, text in files.items():
            # A fixed time, so that the same files give the same bytes.
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            opened.writestr(entry, text, compress_type=zipfile.ZIP_DEFLATED)
    write_bytes(directory / f"{report.model}.zip", archive.getvalue(), parents=True)
    return directory / f"{report.model}.zip"


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
            files |= _vot_files(name, run.boxes, run.seconds)
    _write_folder(files, directory / tracker)
    return directory / tracker


def box_lines(boxes: Array, digits: int) -> str:
    """(N, 4) as `x,y,w,h` a line."""
    text = io.StringIO()
    np.savetxt(text, boxes, fmt=f"%.{digits}f", delimiter=",")
    return text.getvalue()


def _vot_files(name: str, boxes: Array, seconds: Array) -> Files:
    """Regions and times of a run: 1 where it is started, 0 for an unknown region."""
    known = np.asarray(np.isfinite(boxes).all(axis=1))
    lines = [
        line if there else "0"
        for line, there in zip(box_lines(boxes, 4).splitlines(), known, strict=True)
    ]
    times = "".join(f"{value:.6f}\n" for value in seconds)
    return {f"{name}.txt": "\n".join(["1", *lines[1:]]) + "\n", f"{name}_time.value": times}


def _write_folder(files: Files, directory: Path) -> None:
    for name, text in files.items():
        write_text(directory / name, text, parents=True)
