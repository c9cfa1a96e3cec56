# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `tracker`: the table, and the objects that its parts read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from vt_models.grounding import GroundingSettings, list_grounders
from vt_models.grounding.settings import setting_range as grounding_range
from vt_models.longterm import LongTermSettings
from vt_models.longterm.settings import OLD_NAMES, setting_range
from vt_ros.common.parameters import Setting, Value

TARGET_PREFIX = "target."
NO_GROUNDING = "none"

_TARGET_DESCRIPTIONS = {
    "track_threshold": "Confidence from which an observation is confident while TRACKING.",
    "confirm_threshold": "Confidence from which it is confident in the other states.",
    "doubt_threshold": "Confidence below which the target counts as missed in the frame.",
    "doubt_frames": "Weak observations in a row that turn TRACKING into UNCERTAIN.",
    "confirm_frames": "Confident observations in a row that turn UNCERTAIN into TRACKING.",
    "recover_frames": "The same after LOST: confident observations in a row.",
    "coast_frames": "Frames without an observation that are bridged by prediction, then LOST.",
    "coast_seconds": "Seconds that are bridged by prediction; whichever is over first.",
    "unclear_frames": "Frames since the last confident observation, then LOST.",
    "frame_period": "Seconds between frames that come without a usable stamp.",
    "searches": "Network calls for each frame while LOST, at most; 0: no re-detection.",
    "redetection_threshold": "Confidence that a candidate of re-detection needs.",
    "redetection_similarity": "Appearance similarity to the target that a candidate needs.",
    "redetection_frames": "Frames in a row that must agree on a candidate.",
    "max_step": "Largest believed step of the centre in 1/30 s, in mean box sides.",
    "max_growth": "Largest believed factor of the box's area in 1/30 s.",
    "blind_contrast": "A frame whose grey values deviate by less is dark or covered.",
    "frozen_frames": "Identical frames in a row, then the camera counts as frozen; 0: never.",
    "cut_similarity": "Frame similarity below which two frames in a row are of different scenes.",
    "camera_motion": "Compensate the camera's motion while there is no confident observation.",
    "template_updates": "Let models that have one replace their second template while TRACKING.",
}


def _target_settings() -> tuple[Setting, ...]:
    """Return one parameter for each field of `LongTermSettings`."""
    defaults, settings = LongTermSettings(), []
    old_names = {new: f"{TARGET_PREFIX}{old}" for old, new in OLD_NAMES.items()}
    for field in fields(LongTermSettings):
        low, high = setting_range(field.name) or (None, None)
        name, default = f"{TARGET_PREFIX}{field.name}", getattr(defaults, field.name)
        description = _TARGET_DESCRIPTIONS.get(field.name, "See docs/longterm.md.")
        old_name = old_names.get(field.name, "")
        settings.append(
            Setting(name, default, description, low, high, live=True, old_name=old_name)
        )
    return tuple(settings)


SETTINGS = (
    Setting(
        "autostart",
        True,
        "Configure and activate by itself at start; else a manager does.",
        read_only=True,
    ),
    Setting(
        "model",
        "asymtrack_lite0",
        "Tracking model by name, see `vt-models models`; auto: what suits the machine.",
        live=True,
    ),
    Setting(
        "weights", "", "Export directory or .safetensors file; empty: the bundled ones.", live=True
    ),
    Setting(
        "update",
        "",
        "Preset of when the model replaces its second template; empty: as published.",
        live=True,
    ),
    Setting(
        "backend",
        "onnxruntime",
        "Runs the network.",
        choices=("onnxruntime", "torch"),
        live=True,
    ),
    Setting(
        "device",
        "auto",
        "Where the network runs; auto takes CUDA where it works, a named one must be there.",
        choices=("auto", "cpu", "cuda", "tensorrt"),
        live=True,
    ),
    Setting(
        "threads", 0, "CPU threads of the network; 0: the backend's choice.", 0, 256, live=True
    ),
    Setting(
        "image_transport",
        "raw",
        "raw: image_raw; compressed: image_raw/compressed (JPEG or PNG).",
        choices=("raw", "compressed"),
    ),
    Setting(
        "image_qos.reliability",
        "best_effort",
        "QoS of the images. best_effort receives from every publisher.",
        choices=("best_effort", "reliable"),
    ),
    Setting(
        "image_qos.durability",
        "volatile",
        "QoS of the images. transient_local also takes the last one of a latching publisher.",
        choices=("volatile", "transient_local"),
    ),
    Setting("image_qos.depth", 1, "QoS of the images: kept by the middleware.", 1, 100),
    Setting(
        "image_timeout",
        2.0,
        "Seconds without an image after which /diagnostics calls it an error.",
        0.1,
        3600.0,
        live=True,
    ),
    Setting(
        "camera_info_rectified",
        False,
        "The images are rectified: ~/bearing takes the matrix P of camera_info, no distortion.",
        live=True,
    ),
    Setting(
        "set_target_timeout",
        1.0,
        "Seconds that set_target waits for a frame; an older frame is not the newest any more.",
        0.01,
        60.0,
        live=True,
    ),
    Setting(
        "set_target_tolerance",
        0.05,
        "Seconds by which the frame that set_target starts on may miss the stamp asked for, if "
        "exactly that frame never arrived.",
        0.0,
        1.0,
        live=True,
    ),
    Setting(
        "frame_buffer.seconds",
        2.0,
        "Past frames kept for set_target with a stamp.",
        0.01,
        60.0,
        old_name="ring.seconds",  # until 0.2
    ),
    Setting(
        "frame_buffer.megabytes",
        128,
        "Memory that the past frames may take.",
        1,
        65536,
        old_name="ring.megabytes",  # until 0.2
    ),
    *_target_settings(),
    Setting(
        "grounding.backend",
        "onnx",
        "Finds what a text describes, see docs/grounding.md; loaded when the first text comes.",
        choices=(NO_GROUNDING, *list_grounders()),
        live=True,
    ),
    Setting(
        "grounding.source",
        "",
        "What it loads: a directory, or a model by name; empty: bundled or installed.",
        live=True,
    ),
    Setting(
        "grounding.device",
        "auto",
        "Where it runs.",
        choices=("auto", "cpu", "cuda", "tensorrt"),
        live=True,
    ),
    Setting(
        "grounding.threads",
        1,
        "CPU threads of it, at a lower priority than the tracking's; 0: its library's choice.",
        0,
        256,
        live=True,
    ),
    Setting(
        "grounding.threshold",
        0.0,
        "Score that a box needs; 0: the backend's own threshold.",
        *grounding_range("threshold"),
        live=True,
    ),
    Setting(
        "grounding.ambiguity_margin",
        GroundingSettings().ambiguity_margin,
        "Boxes whose score is within this fraction of the best one's cannot be told apart from it.",
        *grounding_range("ambiguity_margin"),
        live=True,
    ),
    Setting(
        "grounding.period",
        5.0,
        "Seconds between two searches for the description of a LOST target; 0: none.",
        0.0,
        3600.0,
        live=True,
    ),
    Setting(
        "grounding.verify",
        True,
        "Re-detections of a LOST target with a description are verified against that; not with a "
        "backend that knows names only, as the bundled one.",
        live=True,
    ),
    Setting(
        "debug_image.scale", 1.0, "Size of the debug image over the source.", 0.05, 1.0, live=True
    ),
    Setting(
        "debug_image.rate", 10.0, "Debug images per second at most; 0: all.", 0.0, 1000.0, live=True
    ),
    Setting(
        "hardware_id",
        "none",
        "hardware_id in /diagnostics, for example the camera's serial number.",
        live=True,
    ),
)

FIXED_REMEDY = "deactivate the node first, they take effect when it is activated"


@dataclass(frozen=True)
class ModelRequest:
    """Which tracker is wanted: the arguments of `vt_models.create_tracker`, "" and 0 for None."""

    model: str
    weights: str
    update: str
    backend: str
    device: str
    threads: int


@dataclass(frozen=True)
class RedetectionSettings:
    """How the description of a target is used while it is LOST.

    Attributes:
        period: seconds between two searches for it; 0: none.
        verify: it is verified against the re-detections of the long-term tracker.
    """

    period: float
    verify: bool


@dataclass(frozen=True)
class GrounderRequest:
    """Which grounder is wanted: the arguments of `vt_models.grounding.create_grounder`."""

    backend: str
    source: str
    device: str
    threads: int


MODEL_PARAMETERS = tuple(field.name for field in fields(ModelRequest))


@dataclass(frozen=True)
class LiveSettings:
    """Parameters that are read at every frame; replaced as a whole when one changes."""

    target: LongTermSettings
    grounder: GrounderRequest | None
    grounding: GroundingSettings
    redetection: RedetectionSettings
    image_timeout: float
    rectified: bool
    set_target_timeout: float
    set_target_tolerance: float
    debug_scale: float
    debug_interval: float
    hardware_id: str


def model_request(value: Callable[[str], Value]) -> ModelRequest:
    """Return the model that parameters ask for; `value` gives a parameter's value by name."""
    return ModelRequest(
        model=str(value("model")),
        weights=str(value("weights")),
        update=str(value("update")),
        backend=str(value("backend")),
        device=str(value("device")),
        threads=int(value("threads")),
    )


def grounder_request(value: Callable[[str], Value]) -> GrounderRequest | None:
    """Return the grounder that parameters ask for; None for none."""
    backend = str(value("grounding.backend"))
    if backend == NO_GROUNDING:
        return None
    return GrounderRequest(
        backend,
        str(value("grounding.source")),
        str(value("grounding.device")),
        int(value("grounding.threads")),
    )


def live_settings(value: Callable[[str], Value]) -> LiveSettings:
    """Return the live parameters together.

    Raises:
        InputError: settings of the long-term tracker that contradict each other.
    """
    rate, grounder = float(value("debug_image.rate")), grounder_request(value)
    return LiveSettings(
        target=target_settings(value),
        grounder=grounder,
        grounding=GroundingSettings(
            threshold=float(value("grounding.threshold")) or None,
            ambiguity_margin=float(value("grounding.ambiguity_margin")),
        ),
        redetection=RedetectionSettings(
            float(value("grounding.period")) if grounder else 0.0,
            verify=grounder is not None and bool(value("grounding.verify")),
        ),
        image_timeout=float(value("image_timeout")),
        rectified=bool(value("camera_info_rectified")),
        set_target_timeout=float(value("set_target_timeout")),
        set_target_tolerance=float(value("set_target_tolerance")),
        debug_scale=float(value("debug_image.scale")),
        debug_interval=1.0 / rate if rate else 0.0,
        hardware_id=str(value("hardware_id")),
    )


def target_settings(value: Callable[[str], Value]) -> LongTermSettings:
    """Return the settings of the long-term tracker; InputError if they contradict each other."""
    given: dict[str, Any] = {
        field.name: value(f"{TARGET_PREFIX}{field.name}") for field in fields(LongTermSettings)
    }
    return LongTermSettings(**given)
