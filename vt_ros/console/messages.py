# SPDX-License-Identifier: Apache-2.0
"""What goes to a browser: a frame with its state in one binary message, everything else as JSON.

A binary message is a little-endian uint32, the length of a JSON object in UTF-8, then that object,
then the JPEG, which may be empty.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from vt_ros.client import Estimate
from vt_ros.common.convert import Box
from vt_ros.console.frame_pairing import Frame

SILENT = "SILENT"
"""Stands for a state where the tracker says nothing."""


def frame_message(content: Mapping[str, Any], jpeg: bytes) -> bytes:
    """Return a frame as one message."""
    header = json_text(content).encode()
    return struct.pack("<I", len(header)) + header + jpeg


def json_text(content: Mapping[str, Any]) -> str:
    """Return JSON; a browser refuses NaN and infinity, so they are an error here: use `finite`."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def finite(value: float) -> float | None:
    """Return the number; None, which is JSON's null, where it is not finite."""
    return float(value) if math.isfinite(value) else None


def describe_frame(frame: Frame) -> dict[str, Any]:
    """Return what is known about a frame; boxes are x, y, w, h in pixels of the source image.

    The stamp is text, as JavaScript's numbers would round it; angles are in degrees, to the right
    and downwards, null without a calibration.
    """
    described: dict[str, Any] = {"frame": frame.number, "stamp": str(frame.stamp)}
    estimate = frame.estimate
    if estimate is None:
        return {**described, "state": SILENT, "box": None}
    status = estimate.status
    return {
        **described,
        "state": estimate.state.name,
        "box": finite_box(estimate),
        "measured": estimate.measured,
        "unconfirmed": is_unconfirmed(estimate),
        "score": finite(estimate.score),
        "target": estimate.target_id,
        "unmeasured": finite(frame.unmeasured),
        "azimuth": finite(math.degrees(estimate.azimuth)),
        "elevation": finite(math.degrees(estimate.elevation)),
        "inference_ms": finite(status.inference_ms),
        "processed": status.frames_processed,
        "dropped": status.frames_dropped,
        "rejected": status.frames_rejected,
        "model": status.model,
        "message": status.message,
    }


def finite_box(estimate: Estimate) -> Box | None:
    """Return the box; None where there is none, or one that could not be drawn."""
    box = estimate.box
    return box if box is not None and all(map(math.isfinite, box)) else None


def is_unconfirmed(estimate: Estimate) -> bool:
    """Return whether the target waits for the operator's yes; trackers before 0.2 never ask."""
    return bool(getattr(estimate.status, "unconfirmed", False))
