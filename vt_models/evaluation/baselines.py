# SPDX-License-Identifier: Apache-2.0
"""Baselines: published trackers behind this package's `init` / `update`, run beside its models.

OpenCV's, and NanoTrack v3 in ONNX Runtime (`vt_models.evaluation.nanotrack`). OpenCV's trackers get
the RGB frame converted to BGR inside `init` and `update`, so that the conversion counts in their
time per frame (0.01 ms at 480 x 270 on an EPYC core).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError
from vt_models.evaluation.nanotrack import NanoTrackV3
from vt_models.evaluation.runs.runner import SingleObjectTracker
from vt_models.geometry.boxes import Box, check_box
from vt_models.tracker.tracker import Estimate

# A cv2 tracker or its parameters; OpenCV 4 and 5 differ in what their type stubs declare.
CvObject = Any


class OpenCvTracker:
    """An OpenCV tracker with this package's `init` and `update`.

    The box given to `init` is rounded to whole pixels, as OpenCV demands. After an update in which
    OpenCV reports a failure, or numbers that are not finite, the estimate is the last reported box
    with a score of 0; otherwise the score is OpenCV's where it has one (NanoTrack, ViT), else 1.
    """

    def __init__(self, create: Callable[[], CvObject], has_score: bool = False) -> None:
        """Take `create`, which builds a fresh cv2 tracker; it is called at every `init`."""
        self._create = create
        self._has_score = has_score
        self._tracker: CvObject = None
        self._box: Box = (0.0, 0.0, 0.0, 0.0)

    def init(self, frame: NDArray[np.uint8], box: Box) -> None:
        """Start on the target at `box` (x, y, w, h in pixels) of an (H, W, 3) uint8 RGB frame.

        A box that is larger than the frame is cut to it: CSRT takes 7 s for 2000 x 2000 pixels.

        Raises:
            InputError: a box that cannot be used.
            BackendError: OpenCV does not take it.
        """
        height, width = frame.shape[:2]
        x, y, w, h = check_box(box, frame.shape)
        if w > width or h > height:
            left, top = max(x, 0.0), max(y, 0.0)
            x, y, w, h = left, top, min(x + w, width) - left, min(y + h, height) - top
        self._box = box
        # OpenCV 5 warns twice of every network, which concerns no user and tears the progress bar.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        corner = min(round(x), width - 1), min(round(y), height - 1)
        pixels = (*corner, max(round(w), 1), max(round(h), 1))
        try:
            self._tracker = self._create()
            self._tracker.init(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), pixels)
        except cv2.error as error:
            self._tracker = None
            raise BackendError(
                f"OpenCV {cv2.__version__} cannot start on {pixels}: {error}"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def update(self, frame: NDArray[np.uint8]) -> Estimate:
        """Find the target in the next (H, W, 3) uint8 RGB frame.

        Raises:
            InputError: before `init`.
            BackendError: OpenCV failed.
        """
        if self._tracker is None:
            raise InputError("update() before init(); call init(frame, box) first")
        try:
            found, box = self._tracker.update(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise BackendError(f"OpenCV {cv2.__version__} failed: {error}") from error
        x, y, w, h = (float(value) for value in box)
        score = float(self._tracker.getTrackingScore()) if self._has_score else 1.0
        if not found or not np.isfinite((x, y, w, h, score)).all():
            return Estimate(self._box, 0.0)
        self._box = (x, y, w, h)
        return Estimate(self._box, min(max(score, 0.0), 1.0))


@dataclass(frozen=True)
class BaselineSpec:
    """What a baseline needs.

    Attributes:
        build: makes the tracker from the paths of its files, by parameter name, and a number of
            threads; BackendError where that is impossible here.
        files: weights by parameter name; looked up in the directory the user gives.
    """

    build: Callable[[Mapping[str, Path], int], SingleObjectTracker]
    files: tuple[tuple[str, str], ...] = ()


def _open_cv(
    title: str, files: Mapping[str, Path], _threads: int, has_score: bool = False
) -> OpenCvTracker:
    """An OpenCV tracker; its threads are set for the whole process, with `cv2.setNumThreads`.

    Args:
        title: how OpenCV calls the class, which lives in `cv2` or, in some builds, `cv2.legacy`.
        files: weights by the name of their field in the class's parameters.
        has_score: whether `getTrackingScore` means anything; OpenCV 5 gives the method to all of
            its trackers, with a constant 0 where there is none.
    """
    owner: CvObject = cv2 if hasattr(cv2, f"{title}_create") else getattr(cv2, "legacy", None)
    if not hasattr(owner, f"{title}_create"):
        raise BackendError(
            f"OpenCV {cv2.__version__} has no {title}; opencv-contrib-python-headless has it"
        )

    def create() -> CvObject:
        if not files:
            return getattr(owner, f"{title}_create")()
        parameters = getattr(owner, f"{title}_Params")()
        for parameter, file in files.items():
            setattr(parameters, parameter, str(file))
        return getattr(owner, f"{title}_create")(parameters)

    return OpenCvTracker(create, has_score)


BASELINES: dict[str, BaselineSpec] = {
    "csrt": BaselineSpec(partial(_open_cv, "TrackerCSRT")),
    "kcf": BaselineSpec(partial(_open_cv, "TrackerKCF")),
    "nanotrack": BaselineSpec(
        partial(_open_cv, "TrackerNano", has_score=True),
        (("backbone", "nanotrack_v2_backbone.onnx"), ("neckhead", "nanotrack_v2_head.onnx")),
    ),
    "nanotrack_v3": BaselineSpec(
        lambda files, threads: NanoTrackV3(files["backbone"], files["head"], threads),
        (("backbone", "nanotrack_v3_backbone.onnx"), ("head", "nanotrack_v3_head.onnx")),
    ),
    "vit": BaselineSpec(
        partial(_open_cv, "TrackerVit", has_score=True), (("net", "vittrack.onnx"),)
    ),
}


def create_baseline(
    name: str, weights: Path | str | None = None, threads: int = 1
) -> SingleObjectTracker:
    """Build a baseline.

    Args:
        name: a key of `BASELINES`.
        weights: directory with the files of `BASELINES[name]`; not needed for CSRT and KCF.
        threads: of a baseline that runs in ONNX Runtime; OpenCV's are limited with
            `cv2.setNumThreads`.

    Raises:
        InputError: unknown name.
        BackendError: this OpenCV lacks the tracker, or a file is missing or not accepted.
    """
    if name not in BASELINES:
        raise InputError(f"unknown baseline {name!r}; expected one of {', '.join(BASELINES)}")
    spec, folder = BASELINES[name], Path(weights or "")
    files = {parameter: folder / file for parameter, file in spec.files}
    if files and weights is None:
        wanted = ", ".join(file for _, file in spec.files)
        raise BackendError(
            f"baseline {name}: needs {wanted}; give their folder with --baseline-weights"
        )
    for path in files.values():
        if not path.is_file():
            raise BackendError(f"baseline {name}: {path} does not exist")
    try:
        baseline = spec.build(files, threads)
        # OpenCV reads its files at `init`.
        baseline.init(np.zeros((64, 64, 3), np.uint8), (16.0, 16.0, 32.0, 32.0))
    except BackendError as error:
        raise BackendError(f"baseline {name}: {error}") from error
    return baseline


def missing_reason(name: str, weights: Path | str | None = None) -> str | None:
    """Return why the baseline `name` cannot run here, or None; InputError for an unknown name."""
    try:
        create_baseline(name, weights)
    except BackendError as error:
        return str(error)
    return None
