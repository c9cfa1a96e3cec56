# SPDX-License-Identifier: Apache-2.0
"""Is an export directory, of a tracker or a detector, whole, and does it run?"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vt_models.api import create_model, create_tracker
from vt_models.errors import WeightsError
from vt_models.export.parity import synthetic_sequence
from vt_models.grounding.export_directory import BUNDLED as BUNDLED_DETECTOR
from vt_models.grounding.export_directory import FORMAT_VERSION as DETECTOR_FORMAT
from vt_models.grounding.export_directory import MANIFEST as DETECTOR_MANIFEST
from vt_models.grounding.export_directory import read_detector
from vt_models.grounding.onnx_detector import OnnxDetector
from vt_models.registry import get_spec, list_models
from vt_models.runtime.export_directory import TORCH_WEIGHTS, read_export, read_manifest
from vt_models.runtime.installed_weights import bundled_directory, installed_directory

MODEL_CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class Verified:
    """An export directory that passed every check.

    Attributes:
        model: Whose it is.
        directory: What was checked.
        files: Sizes in bytes of the files whose sha256 is the recorded one, by name.
        does: What it was seen to do.
        calibrated: `vt-models calibrate` was run on it; None for a detector, which has none.
        has_card: A MODEL_CARD.md is there.
        network_loaded: `weights.safetensors` fits the network; None: not checked without torch,
            or there is none.
        commit: Of the code that exported it; empty: not recorded.
    """

    model: str
    directory: Path
    files: dict[str, int]
    does: str
    calibrated: bool | None
    has_card: bool
    network_loaded: bool | None
    commit: str


def weights_here() -> list[Path]:
    """Return the export directories that are bundled or installed."""
    specs = [get_spec(name) for name in list_models()]
    found = [bundled_directory(spec) for spec in specs] + [BUNDLED_DETECTOR]
    installed = [installed_directory(spec) for spec in specs]
    return [one for one in found if one and one.is_dir()] + [
        one for one in installed if one.is_dir()
    ]


def verify(directory: Path) -> Verified:
    """Check files, sha256, description and calibration, and run it on synthetic frames.

    Raises:
        WeightsError: What is wrong, and with which file.
        BackendError: A graph cannot be run.
    """
    if (directory / DETECTOR_MANIFEST).is_file():
        return _verify_detector(directory)
    exported = read_export(directory)
    name = exported.spec.name
    frames, boxes = synthetic_sequence()
    tracker = create_tracker(name, directory, device="cpu", threads=1)
    tracker.init(frames[0], boxes[0])
    for frame in frames[1:]:
        estimate = tracker.update(frame)
        if not np.isfinite([*estimate.box, estimate.score]).all():
            raise WeightsError(
                f"{directory}: the network gives {estimate.box} with score {estimate.score}; its "
                "weights are damaged, export it again"
            )
    weights = directory / TORCH_WEIGHTS
    is_loaded = find_spec("torch") is not None and weights.is_file()
    if is_loaded:
        create_model(name, weights)
    return Verified(
        model=name,
        directory=directory,
        files={file: len(data) for file, data in exported.files.items()},
        does="tracks",
        calibrated=exported.calibration is not None,
        has_card=(directory / MODEL_CARD).is_file(),
        network_loaded=True if is_loaded else None,
        commit=str(exported.manifest.get("producer", {}).get("commit") or ""),
    )


def _verify_detector(directory: Path) -> Verified:
    exported = read_detector(directory)
    frames, _ = synthetic_sequence()
    detector = OnnxDetector(exported, "cpu", 1)
    for candidate in detector.detect(frames[0], "the red car", lambda: False):
        if not np.isfinite([*candidate.box, candidate.score]).all():
            raise WeightsError(
                f"{directory}: the network gives {candidate.box} with score {candidate.score}; its "
                "weights are damaged, export it again"
            )
    manifest = read_manifest(directory / DETECTOR_MANIFEST, DETECTOR_FORMAT, "ground-export")
    return Verified(
        model=exported.architecture,
        directory=directory,
        files={file: len(data) for file, data in exported.files.items()},
        does="finds",
        calibrated=None,
        has_card=(directory / MODEL_CARD).is_file(),
        network_loaded=None,
        commit=str(manifest.get("producer", {}).get("commit") or ""),
    )
