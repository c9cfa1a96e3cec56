# SPDX-License-Identifier: Apache-2.0
"""The data sets that evaluation runs over; `vt_models.datasets` reads them."""

from __future__ import annotations

from vt_models.datasets.folder import FolderDataset, load_folder_sequence
from vt_models.datasets.images import read_image
from vt_models.datasets.kinds import DATASETS, open_dataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.text import read_boxes

__all__ = [
    "DATASETS",
    "FolderDataset",
    "VideoSequence",
    "load_folder_sequence",
    "open_dataset",
    "read_boxes",
    "read_image",
]
