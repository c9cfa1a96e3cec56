# SPDX-License-Identifier: Apache-2.0
"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Threads of torch that spin beside other work slow all of it down: on two busy cores the export of
# a miniature took 120 s with two threads and 20 s with one. Programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine must not turn a true property into a failure.
settings.register_profile(
    "vt_ros", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("vt_ros"), max_examples=20)
settings.load_profile("vt_ros")


# What `make train-setup` adds; `--without-torch` hides it, so that a machine that has it skips the
# same tests as one that has not.
TRAINING_PACKAGES = ("torch", "torchvision", "timm", "transformers", "onnxscript", "safetensors")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-torch",
        action="store_true",
        help="hide torch and what belongs to it: tests that need them are skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-torch"):
        settings.load_profile("quick")
        for name in TRAINING_PACKAGES:
            sys.modules[name] = None  # an import of it is a ModuleNotFoundError


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with reference vectors and sequences that are not in the repository.

    `VT_SHARED_DIR`, or `shared` beside the repository; the test is skipped where there is none.
    """
    folder = Path(os.environ.get("VT_SHARED_DIR") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set VT_SHARED_DIR to their folder")
    return folder


class NumberedFrames:
    """A video and a folder of the same frames: plain greys that tell the number of each."""

    width, height, count, fps = 64, 48, 12, 25.0

    def __init__(self, folder: Path) -> None:
        self.video, self.folder = folder / "numbers.avi", folder / "images"
        self.folder.mkdir()
        size = self.width, self.height
        writer = cv2.VideoWriter(str(self.video), cv2.VideoWriter.fourcc(*"MJPG"), self.fps, size)
        assert writer.isOpened()
        for number in range(self.count):
            frame = np.full((self.height, self.width, 3), 20 * number + 10, np.uint8)
            writer.write(frame)
            cv2.imwrite(str(self.folder / f"frame{number}.png"), frame)
        writer.release()
        (self.folder / "notes.txt").write_text("not an image")


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> NumberedFrames:
    """Written once."""
    return NumberedFrames(tmp_path_factory.mktemp("numbered"))
