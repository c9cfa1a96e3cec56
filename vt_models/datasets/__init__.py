# SPDX-License-Identifier: Apache-2.0
"""Readers of annotated videos and images in their published layouts. Imports no torch."""

from __future__ import annotations

from vt_models.datasets.coco import AnnotatedImage, CocoImages
from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.kinds import DATASETS, IMAGE_SETS, open_dataset, open_images
from vt_models.datasets.reader import SequenceDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.datasets.video_list import ListedVideo, VideoList, read_video_list

__all__ = [
    "DATASETS",
    "IMAGE_SETS",
    "AnnotatedImage",
    "CocoImages",
    "FolderDataset",
    "ListedVideo",
    "SequenceDataset",
    "VideoList",
    "VideoSequence",
    "open_dataset",
    "open_images",
    "read_video_list",
]
