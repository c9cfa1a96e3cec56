# SPDX-License-Identifier: Apache-2.0
"""The demonstration's clip: traffic hides a cyclist, then the view swings away from him and back.

The footage is a montage. One shot of it shows what a tracker has to live with: a van and a car
pass in front of a waiting cyclist. That part is as it was filmed, but for its margins. The shot is
2.4 seconds long and nobody leaves it, so its end, where everything rests, goes on back and forth,
and the view, a part of each frame, swings away from the cyclist and back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vt_models.geometry.boxes import Box
from vt_models.video.sources import VideoFile
from vt_models.video.writing import VideoWriter

BOX: Box = (118.0, 42.0, 78.0, 190.0)
"""The cyclist in the clip's first frame, x, y, w, h in pixels."""
HIDDEN = range(7, 25)
"""Frames of the clip in which the traffic hides him."""
AWAY = range(79, 129)
"""Frames of the clip in which he is outside the view."""

_SHOT = range(78, 137)  # of the footage, between two cuts
_AT_REST = 30  # the last frames of the shot; in those before the car is still to be seen
_VIEW_WIDTH = 340  # the widest that does not show him at the left edge of the footage
# Frames that the view rests on him, swings, and rests on him again. It swings so fast that the
# tracker takes it for a scene cut; where it turns slowly, doubts about the new view last seconds.
_BEFORE, _SWING, _AFTER = 17, 3, 40


def compose(footage: Path, output: Path) -> None:
    """Write the clip, an .mp4 of 7 seconds and 340 x 272 pixels, from the footage `bikes.mp4`.

    Raises:
        InputError: the footage is not there, or the clip cannot be written.
    """
    video = VideoFile(footage, _SHOT.start, _SHOT.stop)
    frames = list(video)
    video.close()
    rest = frames[-_AT_REST:]
    back_and_forth = rest[-2:0:-1] + rest
    swing = np.arange(1, _SWING + 1) / (_SWING + 1)
    swing = swing**2 * (3.0 - 2.0 * swing)  # slow at both ends
    on_him, away = np.zeros(len(frames) + _BEFORE), np.ones(len(AWAY))
    turned = np.concatenate((on_him, swing, away, swing[::-1], np.zeros(_AFTER)))
    while len(frames) < len(turned):
        frames += back_and_forth
    margin = frames[0].shape[1] - _VIEW_WIDTH
    with VideoWriter(output, video.fps) as writer:
        for frame, share in zip(frames, turned, strict=False):
            left = round((1.0 - share) * margin)
            writer.write(frame[:, left : left + _VIEW_WIDTH])
