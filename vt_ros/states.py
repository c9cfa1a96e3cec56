# SPDX-License-Identifier: Apache-2.0
"""Names of the states of a target, as messages number them."""

from __future__ import annotations

from vt_interfaces.msg import TrackStatus

STATE_NAMES = {
    TrackStatus.STATE_IDLE: "IDLE",
    TrackStatus.STATE_TRACKING: "TRACKING",
    TrackStatus.STATE_UNCERTAIN: "UNCERTAIN",
    TrackStatus.STATE_COASTING: "COASTING",
    TrackStatus.STATE_LOST: "LOST",
}
