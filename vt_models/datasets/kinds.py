# SPDX-License-Identifier: Apache-2.0
"""Every dataset by the name of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vt_models.datasets.coco import CocoImages
from vt_models.datasets.davis import DavisDataset
from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.got10k import Got10kDataset
from vt_models.datasets.lasot import LasotDataset, LasotExtensionDataset
from vt_models.datasets.nfs import NfsDataset
from vt_models.datasets.otb import OtbDataset
from vt_models.datasets.reader import CacheChoice, SequenceDataset
from vt_models.datasets.tc128 import Tc128Dataset
from vt_models.datasets.tnl2k import Tnl2kDataset
from vt_models.datasets.trackingnet import TrackingNetDataset
from vt_models.datasets.uav123 import Uav123Dataset
from vt_models.datasets.videos import VideosDataset
from vt_models.datasets.vot import VotDataset
from vt_models.errors import DatasetError

DATASETS: dict[str, type[SequenceDataset]] = {
    reader.kind: reader
    for reader in (
        FolderDataset,
        VideosDataset,
        LasotDataset,
        LasotExtensionDataset,
        Got10kDataset,
        TrackingNetDataset,
        Tnl2kDataset,
        OtbDataset,
        Tc128Dataset,
        Uav123Dataset,
        NfsDataset,
        VotDataset,
        DavisDataset,
    )
}
"""Readers of videos by kind."""

IMAGE_SETS: dict[str, type[CocoImages]] = {CocoImages.kind: CocoImages}
"""Readers of single images by kind."""


def open_dataset(
    kind: str,
    root: Path | str,
    names: Iterable[str] | None = None,
    *,
    split: str | None = None,
    cache: CacheChoice = True,
    needs_start: bool = True,
) -> SequenceDataset:
    """Open the dataset of videos at `root`.

    Args:
        kind: one of `DATASETS`.
        root: directory of the dataset.
        names: the sequences to keep, in this order; None for all.
        split: one of the reader's `splits`; None for its default.
        cache: True: remember the annotations in the user's cache directory; False: nowhere; or the
            directory to use.
        needs_start: refuse a sequence whose target is absent in the first frame.

    Raises:
        DatasetError: unknown kind (the message lists the known ones), or from the dataset.
    """
    if kind not in DATASETS:
        hint = "; it has single images: open_images" if kind in IMAGE_SETS else ""
        raise DatasetError(
            f"unknown dataset kind {kind!r}; expected one of {', '.join(DATASETS)}{hint}"
        )
    return DATASETS[kind](root, names, split=split, cache=cache, needs_start=needs_start)


def open_images(
    kind: str, root: Path | str, *, split: str | None = None, cache: CacheChoice = True
) -> CocoImages:
    """Open the dataset of single images at `root`; arguments as those of `open_dataset`.

    Raises:
        DatasetError: unknown kind (the message lists the known ones), or from the dataset.
    """
    if kind not in IMAGE_SETS:
        raise DatasetError(
            f"unknown kind of images {kind!r}; expected one of {', '.join(IMAGE_SETS)}"
        )
    return IMAGE_SETS[kind](root, split=split, cache=cache)
