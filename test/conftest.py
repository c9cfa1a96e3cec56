# SPDX-License-Identifier: Apache-2.0
"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Threads of torch that spin beside other work slow all of it down: on two busy cores the export of
# a miniature took 120 s with two threads and 20 s with one. Programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read by now. `colcon test` hands its words over in it, and a test that starts pytest would hand
# them on: to run everything once more, that test too.
os.environ.pop("PYTEST_ADDOPTS", None)

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


@pytest.fixture
def ctrl_c_counts() -> Iterator[None]:
    """Programs that a shell starts in the background ignore it, and so would what they start."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


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


class BagFiles:
    """Writes bags of images, with the stamps 100.0, 100.1, ... and the frame_id "optical"."""

    TOPIC = "/camera/image_raw"

    def __init__(self) -> None:
        from rosbags.typesys import Stores, get_typestore  # noqa: PLC0415 - optional

        self.store = get_typestore(Stores.ROS2_JAZZY)

    def make(self, name: str, *values: object) -> object:
        """Make a message of the type `name`, such as "std_msgs/msg/String"."""
        return self.store.types[name](*values)

    def header(self, number: int) -> object:
        sec, tenth = divmod(number, 10)
        stamp = self.make("builtin_interfaces/msg/Time", 100 + sec, tenth * 100_000_000)
        return self.make("std_msgs/msg/Header", stamp, "optical")

    def raw(self, number: int, pixels: np.ndarray, encoding: str = "rgb8") -> bytes:
        """An Image of (H, W[, C]) or (rows, bytes) uint8 as they are."""
        height, step = pixels.shape[0], pixels[0].size
        width = pixels.shape[1]
        values = height, width, encoding, 0, step, pixels.reshape(-1)
        message = self.make("sensor_msgs/msg/Image", self.header(number), *values)
        return bytes(self.store.serialize_cdr(message, "sensor_msgs/msg/Image"))

    def compressed(self, number: int, pixels: np.ndarray, suffix: str) -> bytes:
        """A CompressedImage of (H, W, 3) uint8 RGB."""
        data = cv2.imencode(suffix, pixels[..., ::-1])[1].reshape(-1)
        name = "sensor_msgs/msg/CompressedImage"
        message = self.make(name, self.header(number), suffix[1:], data)
        return bytes(self.store.serialize_cdr(message, name))

    def camera_info(self, number: int, width: int, height: int) -> bytes:
        """A pinhole camera of focal length 200 pixels."""
        k = np.array([200.0, 0.0, width / 2, 0.0, 200.0, height / 2, 0.0, 0.0, 1.0])
        p = np.array([*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])
        roi = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        values = height, width, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0, roi
        message = self.make("sensor_msgs/msg/CameraInfo", self.header(number), *values)
        return bytes(self.store.serialize_cdr(message, "sensor_msgs/msg/CameraInfo"))

    def write(
        self,
        folder: Path,
        topics: dict[str, tuple[str, list[bytes]]],
        storage: str = "mcap",
        compression: str = "",
    ) -> Path:
        """Write messages by topic, each a tenth of a second after the one before.

        Args:
            folder: to make; the bag.
            topics: the type and the messages of each.
            storage: mcap or sqlite3.
            compression: storage (of chunks), message or file.
        """
        from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: PLC0415 - optional
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode  # noqa: PLC0415

        plugin = StoragePlugin[storage.upper()]
        writer = Writer(folder, version=8, storage_plugin=plugin)
        if compression:
            writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        with writer:
            queue = []
            for place, (topic, (name, messages)) in enumerate(topics.items()):
                connection = writer.add_connection(topic, name, typestore=self.store)
                for number, data in enumerate(messages):
                    time = 100_010_000_000 + number * 100_000_000 + place
                    queue.append((time, connection, data))
            for time, connection, data in sorted(queue, key=lambda one: one[0]):
                writer.write(connection, time, data)
        return folder

    def of_frames(self, folder: Path, frames: list[np.ndarray], **how: str) -> Path:
        """Write RGB frames as raw images, with a camera_info each."""
        height, width = frames[0].shape[:2]
        numbers = range(len(frames))
        images = [self.raw(number, frames[number]) for number in numbers]
        infos = [self.camera_info(number, width, height) for number in numbers]
        topics = {
            self.TOPIC: ("sensor_msgs/msg/Image", images),
            "/camera/camera_info": ("sensor_msgs/msg/CameraInfo", infos),
        }
        return self.write(folder, topics, **how)


@pytest.fixture(scope="session")
def bags() -> BagFiles:
    """Writes bags; the test is skipped without rosbags."""
    pytest.importorskip("rosbags", reason="the extra bags is not installed")
    return BagFiles()


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
