# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `camera`."""

from __future__ import annotations

from vt_ros.common.parameters import Setting

SETTINGS = (
    Setting(
        "source",
        "",
        "Video file, folder of images, bag, index or device of a webcam, or address of a stream "
        "(rtsp://...); none by default.",
    ),
    Setting("topic", "", "Topic of a bag's images; empty: the only one that has images."),
    Setting("rate", 0.0, "Images per second; 0: the source's pace, 30 of a folder.", 0.0, 1000.0),
    Setting("loop", False, "Start again at the end."),
    Setting("start_frame", 0, "First frame, counted from 0.", 0, 2**31),
    Setting("stop_frame", 0, "Frame to stop before; 0: the end.", 0, 2**31),
    Setting(
        "frame_id",
        "camera",
        "Coordinate frame in the header of every image; a bag's keep theirs.",
    ),
    Setting("paused", False, "Start paused; ~/pause with false goes on."),
    Setting("exit_at_end", False, "End the process, with code 0, at the end of the source."),
    Setting(
        "image_qos.reliability",
        "reliable",
        "QoS of image_raw. reliable serves every subscriber, best_effort never sends twice.",
        choices=("best_effort", "reliable"),
    ),
    Setting("image_qos.depth", 5, "QoS of image_raw: images kept by the middleware.", 1, 100),
)
