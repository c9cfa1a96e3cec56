# SPDX-License-Identifier: Apache-2.0
"""Time per frame of trackers, measured side by side on the same frames."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vt_models.api import create_model, create_tracker
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError, import_torch
from vt_models.evaluation.runs.runner import Frame, SingleObjectTracker, to_box
from vt_models.geometry.boxes import Box
from vt_models.registry import ModelSpec, get_spec
from vt_models.runtime.export_directory import TORCH_WEIGHTS
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.tracker.tracker import Tracker

SYNTHETIC_SIZE = (640, 480)

# A tracker that takes seconds a frame is not run over the whole clip.
RUN_SECONDS = 10.0


@dataclass(frozen=True)
class FrameClip:
    """Decoded frames to measure on.

    Attributes:
        source: where they come from.
        frames: (H, W, 3) uint8 RGB, two or more.
        box: x, y, w, h in pixels of the target in the first frame.
    """

    source: str
    frames: tuple[Frame, ...]
    box: Box


@dataclass(frozen=True, eq=False)
class Timing:
    """Durations of one tracker.

    Attributes:
        init_ms: (R,) of `init` in each repeat.
        update_ms: (R, N) of each `update` in each repeat.
        cpu_ms: (R, N) of processor time of each `update`, all threads of the process together;
            other programs on the machine do not count.
    """

    init_ms: NDArray[np.float64]
    update_ms: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Medians and the 99th percentile over all updates, how many there were in each repeat."""
        repeats = [
            {"init_ms": float(init), **_summary(updates, cpu)}
            for init, updates, cpu in zip(self.init_ms, self.update_ms, self.cpu_ms, strict=True)
        ]
        summary = _summary(self.update_ms, self.cpu_ms)
        init_ms = float(np.median(self.init_ms))
        updates = self.update_ms.shape[1]
        return {**summary, "init_ms": init_ms, "updates": updates, "repeats": repeats}


def measure(
    trackers: Mapping[str, SingleObjectTracker],
    clip: FrameClip,
    *,
    repeats: int = 5,
    burn_in: int = 10,
    progress: bool = True,
) -> dict[str, Timing]:
    """Time `init` and `update` of each tracker on frames that are decoded already.

    The trackers take turns, one repeat of the clip each, so that a disturbance of the machine does
    not fall on one of them alone. A repeat starts with `init` and `burn_in` updates that do not
    count. A tracker whose first repeat takes longer than `RUN_SECONDS` gets as many updates as fit
    into that (at least two that count), the same number in every repeat. Limit OpenCV's threads
    (`cv2.setNumThreads`) before, if they should be limited.

    Raises:
        InputError: fewer than one repeat, or no frame left after the burn-in.
    """
    if repeats < 1 or burn_in < 0 or len(clip.frames) < burn_in + 2:
        raise InputError(
            f"{repeats} repeats of {len(clip.frames)} frames with a burn-in of {burn_in}; "
            "expected one or more, and two frames more than the burn-in"
        )
    runs: dict[str, list[_Run]] = {name: [] for name in trackers}
    updates = dict.fromkeys(trackers, len(clip.frames) - 1)
    with tqdm(total=repeats * len(trackers), unit="run", disable=not progress) as bar:
        for _ in range(repeats):
            for name, tracker in trackers.items():
                bar.set_postfix_str(name)
                seconds = float("inf") if runs[name] else RUN_SECONDS
                run = _run_clip(tracker, clip, updates[name], burn_in + 2, seconds)
                updates[name] = len(run.update_ms)
                runs[name].append(run)
                bar.update()
    return {
        name: Timing(
            np.array([run.init_ms for run in repeated]),
            np.array([run.update_ms[burn_in:] for run in repeated]),
            np.array([run.cpu_ms[burn_in:] for run in repeated]),
        )
        for name, repeated in runs.items()
    }


def cpu_ratio(tracker: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Processor time of a tracker over that of another one, both as of `Timing.to_dict`.

    The median of the repeats' ratios: the two runs of a repeat are next to each other, so that a
    processor that changes its pace changes both.
    """
    pairs = zip(tracker["repeats"], reference["repeats"], strict=True)
    return float(np.median([one["cpu_median_ms"] / two["cpu_median_ms"] for one, two in pairs]))


def model_tracker(
    name: str, device: str = "cpu", threads: int = 1, seed: int = 0, backend: str = "onnxruntime"
) -> tuple[SingleObjectTracker, str]:
    """Build a model with its bundled weights, else with random ones.

    Returns:
        The tracker, and "bundled" or "random": random weights have the speed of trained ones, apart
        from crops around boxes that mean nothing.

    Raises:
        InputError: unknown name.
        BackendError: torch is not installed, and the backend, or random weights, need it.
        ExportError: random weights could not be exported.
    """
    spec = get_spec(name)
    directory = bundled_directory(spec)
    if backend == "torch":
        return _torch_tracker(spec, directory, device, threads, seed)
    if directory is not None:
        return create_tracker(name, device=device, threads=threads), "bundled"
    torch = import_torch()
    from vt_models.export.exporter import export_model  # noqa: PLC0415  (imports torch)

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory(prefix="vt_models-") as folder:
        directory = Path(folder) / name
        export_model(create_model(name), spec, directory)
        return create_tracker(name, directory, device=device, threads=threads), "random"


def sequence_clip(sequence: VideoSequence, length: int) -> FrameClip:
    """The first `length` frames of a sequence."""
    frames = tuple(sequence.read_frame(i) for i in range(min(length, len(sequence))))
    return FrameClip(sequence.name, frames, to_box(sequence.boxes[0]))


def synthetic_clip(length: int, seed: int = 0) -> FrameClip:
    """A textured patch of 80 x 60 px that moves 2 px a frame over noise, 640 x 480."""
    generator = np.random.default_rng(seed)
    width, height = SYNTHETIC_SIZE
    background = generator.integers(0, 120, (height, width, 3), np.uint8)
    patch = generator.integers(60, 256, (60, 80, 3), np.uint8)
    frames = []
    for index in range(length):
        frame = background.copy()
        left = 100 + 2 * (index % 200)
        frame[200:260, left : left + 80] = patch
        frames.append(frame)
    return FrameClip("synthetic", tuple(frames), (100.0, 200.0, 80.0, 60.0))


def _torch_tracker(
    spec: ModelSpec, directory: Path | None, device: str, threads: int, seed: int
) -> tuple[SingleObjectTracker, str]:
    """A model in plain PyTorch; bundled weights where they are there in torch's form too."""
    torch = import_torch()
    if directory is not None and (directory / TORCH_WEIGHTS).is_file():
        return create_tracker(spec.name, None, "torch", device, threads), "bundled"
    from vt_models.runtime.torch_engine import TorchEngine  # noqa: PLC0415  (imports torch)

    torch.manual_seed(seed)
    return Tracker(spec, TorchEngine(create_model(spec.name), spec, device, threads)), "random"


class _Run(NamedTuple):
    """Milliseconds of one `init`, of each update, and of each update's processor time."""

    init_ms: float
    update_ms: list[float]
    cpu_ms: list[float]


def _run_clip(
    tracker: SingleObjectTracker, clip: FrameClip, most: int, least: int, seconds: float
) -> _Run:
    """Run over the clip with `most` updates, or what fits in `seconds` (>= `least`)."""
    begin = time.perf_counter()
    tracker.init(clip.frames[0], clip.box)
    stamps, cpu = [time.perf_counter()], [time.process_time()]
    for frame in clip.frames[1 : most + 1]:
        tracker.update(frame)
        cpu.append(time.process_time())
        stamps.append(time.perf_counter())
        if len(stamps) > least and stamps[-1] - begin > seconds:
            break
    init_ms = 1e3 * (stamps[0] - begin)
    return _Run(init_ms, (1e3 * np.diff(stamps)).tolist(), (1e3 * np.diff(cpu)).tolist())


def _summary(update_ms: NDArray[np.float64], cpu_ms: NDArray[np.float64]) -> dict[str, float]:
    return {
        "cpu_median_ms": float(np.median(cpu_ms)),
        "median_ms": float(np.median(update_ms)),
        "p99_ms": float(np.percentile(update_ms, 99)),
        "mean_ms": float(np.mean(update_ms)),
    }
