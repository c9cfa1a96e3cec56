# SPDX-License-Identifier: Apache-2.0
"""The numpy and the OpenCV of ROS 2 Jazzy's own platform run the trackers, too.

Ubuntu 24.04 has numpy 1.26 and OpenCV 4.6. They are put into a folder of their own, and the tests
that need no torch run with that folder before the environment's packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("numpy==1.26.4", "opencv-python-headless==4.6.0.66")
TESTS = (
    "test/vt_models/geometry/test_boxes.py",
    "test/vt_models/geometry/test_crop.py",
    "test/vt_models/tracker/test_tracker.py",
    "test/vt_models/runtime/test_engines.py",
    "test/vt_ros/common/test_convert.py",
)


@pytest.fixture(scope="module")
def older(repository: Path) -> Path:
    """Folder with the older packages, made once."""
    if sys.version_info >= (3, 13):
        pytest.skip("numpy 1.26 has no wheels for Python 3.13 and newer")
    folder = repository / "build" / f"numpy126-py3{sys.version_info.minor}"
    done = folder / ".complete"
    if not done.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", folder, *PACKAGES], check=True)
        done.touch()
    return folder


def run_older(folder: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_trackers_run_with_ubuntus_numpy_and_opencv(older: Path, repository: Path) -> None:
    code = "import cv2, numpy; print(numpy.__version__, cv2.__version__)"
    assert run_older(older, repository, "-c", code).stdout.split() == ["1.26.4", "4.6.0"]
    files = [name for name in TESTS if (repository / name).exists()]
    assert files
    options = ("-q", "-p", "no:cacheprovider", "-m", "not slow and not train")
    result = run_older(older, repository, "-m", "pytest", *options, *files)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
