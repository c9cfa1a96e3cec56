# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `tracker`: the table, and the objects that its parts read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vt_models.grounding import GroundingSettings, list_grounders
from vt_models.longterm import LongTermSettings
from vt_models.longterm.settings import OLD_NAMES
from vt_models.video.image_messages import MAX_MEGAPIXELS
from vt_ros.common.parameters import AUTOSTART, Setting, Value

TARGET_PREFIX = "target."
NO_GROUNDING = "none"

_GROUNDING = {field.name: field for field in fields(GroundingSettings)}
_OLD_TARGET_NAMES = {new: f"{TARGET_PREFIX}{old}" for old, new in OLD_NAMES.items()}

SETTINGS = (
    AUTOSTART,
    Setting(
        "locked",
        [
            "weights",
            "grounding.source",
            "threads",
            "grounding.threads",
            "frame_buffer.*",
            "image.max_megapixels",
            "watchdog.exit",
            "recorder.directory",
            "recorder.keep",
        ],
        "Names, with * and ?, of parameters that may not change once the node has been active; "
        '[""]: none.',
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
    Setting("threads", 0, "CPU threads of the network; 0: one.", 0, 64, live=True),
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
        "image.max_megapixels",
        MAX_MEGAPIXELS,
        "Larger images are refused by the size that they declare, before they are decoded.",
        0.01,
        512.0,
        live=True,
    ),
    Setting(
        "image_timeout",
        2.0,
        "Seconds without an image after which /diagnostics calls it an error.",
        0.1,
        3600.0,
        live=True,
    ),
    Setting(
        "watchdog.timeout",
        5.0,
        "Seconds that a frame may take; then /diagnostics says ERROR, requests are refused and "
        "~/status says that nothing is known, until it ends.",
        0.5,
        3600.0,
        live=True,
    ),
    Setting(
        "watchdog.exit",
        False,
        "End the process then, with exit code 3, for a supervisor to start it again.",
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
        "click.latency",
        0.0,
        "Seconds from an image to the operator's screen, for clicks without the image's stamp.",
        0.0,
        10.0,
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
        4096,
        old_name="ring.megabytes",  # until 0.2
    ),
    *(
        Setting(
            f"{TARGET_PREFIX}{field.name}",
            getattr(LongTermSettings, field.name),
            **field.metadata,
            live=True,
            old_name=_OLD_TARGET_NAMES.get(field.name, ""),
        )
        for field in fields(LongTermSettings)
    ),
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
        64,
        live=True,
    ),
    Setting(
        "grounding.timeout",
        120.0,
        "Seconds that a search, or loading the backend, may take before it is refused.",
        0.1,
        3600.0,
        live=True,
    ),
    Setting(
        "grounding.threshold",
        0.0,
        "Score that a box needs; 0: the backend's own threshold.",
        _GROUNDING["threshold"].metadata["low"],
        _GROUNDING["threshold"].metadata["high"],
        live=True,
    ),
    Setting(
        "grounding.ambiguity_margin",
        GroundingSettings.ambiguity_margin,
        **_GROUNDING["ambiguity_margin"].metadata,
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
        "prediction.rate",
        30.0,
        "Messages of ~/prediction a second, while somebody subscribes.",
        0.1,
        200.0,
    ),
    Setting(
        "prediction.lead",
        0.0,
        "Seconds from now to what ~/prediction is about: the dead time of what follows the target.",
        0.0,
        1.0,
        live=True,
    ),
    Setting(
        "debug_image.scale", 1.0, "Size of the debug image over the source.", 0.05, 1.0, live=True
    ),
    Setting(
        "debug_image.rate", 10.0, "Debug images per second at most; 0: all.", 0.0, 1000.0, live=True
    ),
    Setting(
        "recorder.seconds",
        5.0,
        "Seconds before a loss that the flight recorder keeps, at most 512 frames; 0: off.",
        0.0,
        60.0,
        live=True,
    ),
    Setting(
        "recorder.on_lost",
        True,
        "Write a recording when a target that was TRACKING is LOST; else ~/save_recording does.",
        live=True,
    ),
    Setting(
        "recorder.directory",
        "",
        "Folder of the recordings; empty: vt_ros/recordings in ROS_HOME or ~/.ros.",
        live=True,
    ),
    Setting(
        "recorder.keep", 20, "Recordings that are kept; older ones are removed.", 1, 1000, live=True
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
class RecorderSettings:
    """What the flight recorder keeps and writes.

    Attributes:
        seconds: that are kept; 0: nothing is.
        on_lost: a loss is written without being asked for.
        folder: of the recordings.
        keep: number of recordings that are kept there.
    """

    seconds: float
    on_lost: bool
    folder: Path
    keep: int


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
    grounding_timeout: float
    redetection: RedetectionSettings
    max_megapixels: float
    image_timeout: float
    watchdog_timeout: float
    watchdog_exit: bool
    rectified: bool
    set_target_timeout: float
    set_target_tolerance: float
    click_latency: float
    prediction_lead: float
    recorder: RecorderSettings
    debug_scale: float
    debug_interval: float
    hardware_id: str


def model_request(value: Callable[[str], Value]) -> ModelRequest:
    """Return the model that parameters ask for; `value` gives a parameter's value by name."""
    given: dict[str, Any] = {name: value(name) for name in MODEL_PARAMETERS}
    return ModelRequest(**given)


def grounder_request(value: Callable[[str], Value]) -> GrounderRequest | None:
    """Return the grounder that parameters ask for; None for none."""
    names = (field.name for field in fields(GrounderRequest))
    given: dict[str, Any] = {name: value(f"grounding.{name}") for name in names}
    return None if given["backend"] == NO_GROUNDING else GrounderRequest(**given)


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
        grounding_timeout=float(value("grounding.timeout")),
        redetection=RedetectionSettings(
            float(value("grounding.period")) if grounder else 0.0,
            verify=grounder is not None and bool(value("grounding.verify")),
        ),
        max_megapixels=float(value("image.max_megapixels")),
        image_timeout=float(value("image_timeout")),
        watchdog_timeout=float(value("watchdog.timeout")),
        watchdog_exit=bool(value("watchdog.exit")),
        rectified=bool(value("camera_info_rectified")),
        set_target_timeout=float(value("set_target_timeout")),
        set_target_tolerance=float(value("set_target_tolerance")),
        click_latency=float(value("click.latency")),
        prediction_lead=float(value("prediction.lead")),
        recorder=RecorderSettings(
            seconds=float(value("recorder.seconds")),
            on_lost=bool(value("recorder.on_lost")),
            folder=recordings_folder(str(value("recorder.directory"))),
            keep=int(value("recorder.keep")),
        ),
        debug_scale=float(value("debug_image.scale")),
        debug_interval=1.0 / rate if rate else 0.0,
        hardware_id=str(value("hardware_id")),
    )


def recordings_folder(given: str) -> Path:
    """Return where recordings go: what is given, or a folder beside ROS's logs."""
    if given:
        return Path(given).expanduser()
    home = os.environ.get("ROS_HOME")
    return (Path(home) if home else Path.home() / ".ros") / "vt_ros" / "recordings"


def target_settings(value: Callable[[str], Value]) -> LongTermSettings:
    """Return the settings of the long-term tracker; InputError if they contradict each other."""
    given: dict[str, Any] = {
        field.name: value(f"{TARGET_PREFIX}{field.name}") for field in fields(LongTermSettings)
    }
    return LongTermSettings(**given)
