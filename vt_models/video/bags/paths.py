# SPDX-License-Identifier: Apache-2.0
"""Which paths are bags, told without the packages that read them."""

from __future__ import annotations

from pathlib import Path

BAG_SUFFIXES = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")
"""Of files; .bag is ROS 1's and refused with a remedy, as are those compressed as a whole."""


def is_bag(path: Path) -> bool:
    """Return whether a path is a bag by its name: a file, or a folder that holds such files."""
    if path.is_dir():
        return bool(storage_files(path))
    return path.name.endswith(BAG_SUFFIXES) and not path.name.startswith(".")


def storage_files(folder: Path) -> list[Path]:
    """Return the files of a bag's folder, sorted by name."""
    files = (one for one in folder.iterdir() if one.name.endswith(BAG_SUFFIXES))
    return sorted(one for one in files if one.is_file() and not one.name.startswith("."))
