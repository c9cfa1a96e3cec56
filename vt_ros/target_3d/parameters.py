# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `target_3d`, and the object that its parts read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vt_models.errors import InputError
from vt_ros.common.parameters import AUTOSTART, HARDWARE_ID, TRACKER, Setting, check_ros_name

DEPTH_IMAGE, POINT_CLOUD = "depth_image", "point_cloud"
GROUND_PLANE, KNOWN_SIZE = "ground_plane", "known_size"
METHODS = (DEPTH_IMAGE, POINT_CLOUD, GROUND_PLANE, KNOWN_SIZE)

SETTINGS = (
    AUTOSTART,
    TRACKER,
    Setting(
        "methods",
        [DEPTH_IMAGE],
        "Ways to a range in order of preference: depth_image, point_cloud, ground_plane, "
        "known_size; the first that has one in a frame counts.",
    ),
    Setting(
        "output_frame",
        "",
        "TF frame that positions are published in, such as odom for Nav2; empty: the camera's "
        "optical frame.",
    ),
    Setting(
        "fixed_frame",
        "odom",
        "TF frame that does not move with the robot: ~/velocity is in it, and point clouds are "
        "carried over it to the time of the image; empty: no velocity.",
    ),
    Setting("target_frame", "target", "Child frame that is broadcast on /tf; empty: none."),
    Setting(
        "camera_info_rectified",
        False,
        "The tracker's images are rectified: the matrix P of camera_info counts, no distortion.",
    ),
    Setting(
        "max_age",
        2.0,
        "Seconds since the exposure above which a frame gives no position; Nav2's Following Server "
        "takes an older one for a loss.",
        0.05,
        60.0,
        live=True,
    ),
    Setting(
        "wait",
        0.1,
        "Seconds to wait, once the tracker has reported a frame, for its depth and TF.",
        0.0,
        10.0,
        live=True,
    ),
    Setting(
        "box_sigma",
        0.05,
        "One standard deviation of a box's centre and size, as a share of its size, where the "
        "tracker gives no covariance.",
        0.001,
        1.0,
        live=True,
    ),
    Setting(
        "max_speed",
        5.0,
        "How fast the range may change, metres a second: what is nearer than the target can have "
        "come is taken for something in front of it.",
        0.1,
        100.0,
    ),
    Setting(
        "patience",
        1.0,
        "Seconds after which the nearest surface counts although the target cannot have come there "
        "so fast.",
        0.0,
        60.0,
    ),
    Setting("range.min", 0.1, "Least range, metres; anything nearer is a hole.", 0.01, 100.0),
    Setting("range.max", 100.0, "Largest range, metres; anything beyond is a hole.", 0.1, 10000.0),
    Setting(
        "depth.unit",
        0.001,
        "Metres of one step of a 16UC1 depth image; 0.001 is the standard (REP 118).",
        0.00001,
        0.1,
    ),
    Setting(
        "depth.noise",
        0.0025,
        "One standard deviation of a depth at 1 m, metres; it grows with the square of the depth, "
        "as that of stereo does.",
        0.0,
        0.1,
        live=True,
    ),
    Setting(
        "depth.min_share",
        0.2,
        "Share of the depths in the inner half of the box that must lie at one range.",
        0.01,
        1.0,
        live=True,
    ),
    Setting(
        "depth.min_valid",
        0.1,
        "Share of the pixels in the inner half of the box that must have a depth.",
        0.001,
        1.0,
        live=True,
    ),
    Setting(
        "depth.sync_tolerance",
        0.05,
        "Largest difference between the stamps of the image and its depth, seconds.",
        0.0,
        1.0,
        live=True,
    ),
    Setting(
        "cloud.noise",
        0.03,
        "One standard deviation of a point's range, metres.",
        0.0,
        1.0,
        live=True,
    ),
    Setting(
        "cloud.min_points",
        5,
        "Points at one range that the inner half of the box must hold.",
        1,
        10000,
        live=True,
    ),
    Setting(
        "cloud.sync_tolerance",
        0.1,
        "Largest difference between the stamps of the image and the cloud, seconds.",
        0.0,
        1.0,
        live=True,
    ),
    Setting(
        "ground.frame",
        "base_footprint",
        "TF frame whose z axis points up from the ground that the target stands on.",
    ),
    Setting("ground.height", 0.0, "z of the ground in ground.frame, metres.", -1000.0, 10000.0),
    Setting(
        "ground.height_sigma",
        0.03,
        "One standard deviation of the camera's height above the ground, metres.",
        0.0,
        100.0,
        live=True,
    ),
    Setting(
        "ground.tilt_sigma",
        0.01,
        "One standard deviation of the camera's tilt against the ground, radians.",
        0.0,
        0.5,
        live=True,
    ),
    Setting(
        "size.height", 0.0, "The target's height, metres; 0: not known.", 0.0, 1000.0, live=True
    ),
    Setting(
        "size.width",
        0.0,
        "The target's width, metres; 0: not known. The height comes first, since a width changes "
        "when the target turns.",
        0.0,
        1000.0,
        live=True,
    ),
    Setting(
        "size.tolerance",
        0.1,
        "One standard deviation of that size, as a share of it.",
        0.0,
        0.5,
        live=True,
    ),
    Setting(
        "velocity.acceleration",
        0.5,
        "Power spectral density of the target's acceleration, m^2/s^3: more follows manoeuvres "
        "faster, less is smoother.",
        0.001,
        1000.0,
    ),
    Setting(
        "velocity.max_gap",
        1.0,
        "Seconds without a position after which the velocity starts anew.",
        0.05,
        60.0,
    ),
    Setting(
        "stop.action",
        "",
        "Action of Nav2 whose goals are cancelled when the target is lost: navigate_to_pose, when "
        "its tree is follow_point, which goes on to the last place otherwise; empty: none.",
    ),
    Setting(
        "stop.timeout",
        2.0,
        "Seconds without a position after which that happens; at once when the target is LOST.",
        0.1,
        60.0,
    ),
    HARDWARE_ID,
)


@dataclass(frozen=True)
class Target3dSettings:
    """The parameters together, with their units: metres, seconds, radians, shares."""

    tracker: str
    methods: tuple[str, ...]
    output_frame: str
    fixed_frame: str
    target_frame: str
    rectified: bool
    max_age: float
    wait: float
    box_sigma: float
    max_speed: float
    patience: float
    nearest: float
    farthest: float
    depth_unit: float
    depth_noise: float
    depth_min_share: float
    depth_min_valid: float
    depth_sync_tolerance: float
    cloud_noise: float
    cloud_min_points: int
    cloud_sync_tolerance: float
    ground_frame: str
    ground_height: float
    ground_height_sigma: float
    ground_tilt_sigma: float
    size_height: float
    size_width: float
    size_tolerance: float
    acceleration: float
    max_gap: float
    stop_action: str
    stop_timeout: float
    hardware_id: str


def read_settings(value: Callable[[str], Any]) -> Target3dSettings:
    """Return the parameters together; `value` gives a parameter's value by name.

    Raises:
        InputError: one of them, or two together, make no sense; the message says which.
    """
    methods = tuple(value("methods"))
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods or len(set(methods)) != len(methods):
        raise InputError(
            f"methods is {list(methods)}, expected one or more of {', '.join(METHODS)}, each once"
        )
    if KNOWN_SIZE in methods and not value("size.height") and not value("size.width"):
        raise InputError(
            f"methods has {KNOWN_SIZE}, but size.height and size.width are 0; give one of them"
        )
    # A slash before a frame, as ROS 1 had it, is no part of its name.
    names = ("output_frame", "fixed_frame", "ground.frame", "target_frame")
    frames = {name: value(name).removeprefix("/") for name in names}
    if GROUND_PLANE in methods and not frames["ground.frame"]:
        raise InputError(f"methods has {GROUND_PLANE}, but ground.frame is empty; name a TF frame")
    if value("range.min") >= value("range.max"):
        raise InputError(
            f"range.min is {value('range.min'):g} and range.max {value('range.max'):g}; the first "
            "must be less"
        )
    check_ros_name("tracker", value("tracker"), "a node")
    if value("stop.action"):
        check_ros_name("stop.action", value("stop.action"), "an action")
    for name in names[:3]:
        if frames[name] and frames[name] == frames["target_frame"]:
            raise InputError(
                f"{name} and target_frame are both {frames[name]!r}; the target cannot be given "
                "relative to itself"
            )
    return Target3dSettings(
        tracker=value("tracker"),
        methods=methods,
        output_frame=frames["output_frame"],
        fixed_frame=frames["fixed_frame"],
        target_frame=frames["target_frame"],
        rectified=value("camera_info_rectified"),
        max_age=value("max_age"),
        wait=value("wait"),
        box_sigma=value("box_sigma"),
        max_speed=value("max_speed"),
        patience=value("patience"),
        nearest=value("range.min"),
        farthest=value("range.max"),
        depth_unit=value("depth.unit"),
        depth_noise=value("depth.noise"),
        depth_min_share=value("depth.min_share"),
        depth_min_valid=value("depth.min_valid"),
        depth_sync_tolerance=value("depth.sync_tolerance"),
        cloud_noise=value("cloud.noise"),
        cloud_min_points=value("cloud.min_points"),
        cloud_sync_tolerance=value("cloud.sync_tolerance"),
        ground_frame=frames["ground.frame"],
        ground_height=value("ground.height"),
        ground_height_sigma=value("ground.height_sigma"),
        ground_tilt_sigma=value("ground.tilt_sigma"),
        size_height=value("size.height"),
        size_width=value("size.width"),
        size_tolerance=value("size.tolerance"),
        acceleration=value("velocity.acceleration"),
        max_gap=value("velocity.max_gap"),
        stop_action=value("stop.action"),
        stop_timeout=value("stop.timeout"),
        hardware_id=value("hardware_id"),
    )
