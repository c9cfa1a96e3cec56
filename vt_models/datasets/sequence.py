# SPDX-License-Identifier: Apache-2.0
"""One annotated video, whatever dataset it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vt_models.datasets.images import read_image
from vt_models.errors import InputError


def _no_flags() -> NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, eq=False)
class VideoSequence:
    """One annotated video of N frames, of one target. It holds paths and numbers, no open file.

    Attributes:
        name: unique in its dataset.
        frames: N image files in temporal order. `ARCHIVE.zip/NAME` is a member of an archive.
        boxes: (N, 4) float64, x, y, w, h in pixels of the image, as published (some datasets
            count pixels from 1); a row of nan where there is no box to compare with.
        language: one sentence describing the target in the first frame, or None.
        absent: (N,) bool, the target is out of view or fully hidden; boxes are nan there. If not
            given: where boxes are nan.
        occluded: (N,) bool, the dataset says that something hides the target, be it in part.
            If not given: nowhere.
        attributes: the dataset's words for the difficulties of the whole sequence.
        category: class of the target in the dataset's words, or None.
        classes: everything the dataset says about class and motion, the class first; () for
            nothing.
        labels: further (N,) numbers, one a frame, by the dataset's names.

    Raises:
        InputError: shapes that do not agree.
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    language: str | None = None
    absent: NDArray[np.bool_] = field(default_factory=_no_flags)
    occluded: NDArray[np.bool_] = field(default_factory=_no_flags)
    attributes: tuple[str, ...] = ()
    category: str | None = None
    classes: tuple[str, ...] = ()
    labels: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.boxes.shape != (count, 4):
            raise InputError(f"{self.name}: boxes {self.boxes.shape}; expected ({count}, 4)")
        if not self.classes and self.category:
            object.__setattr__(self, "classes", (self.category,))
        if self.absent.size == 0:
            object.__setattr__(self, "absent", np.isnan(self.boxes).any(axis=1))
        if self.occluded.size == 0:
            object.__setattr__(self, "occluded", np.zeros(count, np.bool_))
        flags = {"absent": self.absent, "occluded": self.occluded, **self.labels}
        for name, values in flags.items():
            if values.shape != (count,):
                raise InputError(f"{self.name}: {name} {values.shape}; expected ({count},)")
        for values in (self.boxes, *flags.values()):
            values.setflags(write=False)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def has_start(self) -> bool:
        """Is there a box in the first frame, to start a tracker on?"""
        return bool(np.isfinite(self.boxes[0]).all())

    @property
    def is_annotated(self) -> bool:
        """Is more known than the first box? Not in the test splits whose truth is kept secret."""
        return bool(self.absent.any() or np.isfinite(self.boxes[1:]).any())

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """Return frame `index` as (H, W, 3) uint8 RGB; DatasetError names an unreadable file."""
        return read_image(self.frames[index])


def sentence_or_classes(language: str | None, classes: Sequence[str]) -> str:
    """Return what a language model is told about a video's target, in training and at test.

    That is its sentence, or where the dataset has none all that it says about class and motion, as
    in PJVLT's section IV-A; "" for neither.

    >>> sentence_or_classes(None, ("sedan", "driving", "car", "vehicle"))
    'sedan driving car vehicle'
    """
    return language or " ".join(classes)
