# SPDX-License-Identifier: Apache-2.0
"""The node as a process, over DDS, with a scripted tracker in a known world and with a real one."""

from __future__ import annotations

import contextlib
import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from action_msgs.srv import CancelGoal
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import (
    PoseStamped,
    PoseWithCovarianceStamped,
    TransformStamped,
    TwistWithCovarianceStamped,
)
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker

from vt_interfaces.msg import PositionStatus, TrackStatus
from vt_models.geometry.rigid import Transform, quaternion_of, rotation_matrix
from vt_ros.common.convert import NANOSECONDS, array_to_image, detection_from_box
from vt_ros.common.transforms import TransformError, TransformReader

pytestmark = pytest.mark.ros

WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
STEP = NANOSECONDS // 10
# The robot stands in odom and looks along its y axis; the camera is 1 m above the ground.
QUARTER = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
BASE = Transform.from_parts(QUARTER, (2.0, 1.0, 0.0))
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
CAMERA = Transform.from_parts(OPTICAL, (0.2, 0.0, 1.0))
TO_ODOM = BASE @ CAMERA
WIDE, TALL = 0.5, 1.2  # the target, metres
BACKGROUND = 9.0


def stamped(stamp, frame_id="optical"):
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, NANOSECONDS)
    return header


def transform_message(parent, child, transform, stamp=0):
    message = TransformStamped(header=stamped(stamp, parent), child_frame_id=child)
    shift, turn = message.transform.translation, message.transform.rotation
    shift.x, shift.y, shift.z = map(float, transform.translation)
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion_of(transform.rotation))
    return message


def camera_info(width=WIDTH, height=HEIGHT):
    info = CameraInfo(header=stamped(0), width=width, height=height)
    focal = FOCAL * width / WIDTH
    info.k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    return info


def seen(foot):
    """Where the camera sees a target that stands at (x, y) in odom: centre, and box in pixels."""
    centre = TO_ODOM.inverse().apply((*foot, 0.5 * TALL))
    x, y, z = centre
    u, v = FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2
    w, h = FOCAL * WIDE / z, FOCAL * TALL / z
    return centre, (u - w / 2, v - h / 2, w, h)


def depth_of(box, depth, holes=0.3, scale=0.5):
    """(H, W) metres: the target before a background that bleeds into it, with holes."""
    chance = np.random.default_rng(8)
    depths = np.full((int(HEIGHT * scale), int(WIDTH * scale)), BACKGROUND)
    x, y, w, h = (scale * value for value in box)
    rows, columns = slice(round(y), round(y + h)), slice(round(x), round(x + w))
    inside = depths[rows, columns]
    inside[chance.random(inside.shape) < 0.65] = depth
    depths *= 1.0 + 0.003 * chance.standard_normal(depths.shape)
    depths[chance.random(depths.shape) < holes] = 0.0
    return depths


def depth_message(depths, header, encoding="16UC1"):
    message = Image(header=header, encoding=encoding)
    message.height, message.width = depths.shape
    values = np.rint(1000 * depths).astype("<u2") if encoding == "16UC1" else depths.astype("<f4")
    message.step = values.strides[0]
    message.data = values.tobytes()
    return message


def cloud_message(foot, header):
    """A cloud of a lidar 0.3 m above the base: the target's front and a wall behind it."""
    chance = np.random.default_rng(9)
    across, up = chance.uniform(-0.25, 0.25, 200), chance.uniform(0.0, TALL, 200)
    target = np.stack((foot[0] + across, np.full(200, foot[1]), up), axis=1)
    wall = np.stack((chance.uniform(-3, 7, 200), np.full(200, 12.0), up), axis=1)
    lidar = BASE @ Transform.from_parts((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.3))
    points = lidar.inverse().apply(np.concatenate((target, wall))).astype("<f4")
    fields = [
        PointField(name=name, offset=4 * k, datatype=PointField.FLOAT32, count=1)
        for k, name in enumerate("xyz")
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        point_step=12,
        row_step=12 * len(points),
        data=points.tobytes(),
    )


class World:
    """Publishes what a robot's drivers and its tracker would, frame by frame."""

    def __init__(self, ros):
        self.ros, self.target_id = ros, 1
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        lidar = Transform.from_parts((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.3))
        static = ros.publisher(TFMessage, "/tf_static", latched)
        links = {"optical": CAMERA, "lidar": lidar}
        static.publish(
            TFMessage(transforms=[transform_message("base", *link) for link in links.items()])
        )
        sensors = qos_profile_sensor_data
        self.info = ros.publisher(CameraInfo, "camera_info", sensors, subscribers=2)
        self.tf = ros.publisher(TFMessage, "/tf", 100)
        self.depth = ros.publisher(Image, "depth/image_raw", sensors, subscribers=2)
        self.cloud = ros.publisher(PointCloud2, "points", sensors)
        self.status = ros.publisher(TrackStatus, "tracker/status", 10, subscribers=2)
        self.detections = ros.publisher(Detection2DArray, "tracker/detections", 10, subscribers=2)
        self.all = ros.collect(PositionStatus, "all_methods/status")
        self.only_depth = ros.collect(PositionStatus, "only_depth/status")
        for node in ("all_methods", "only_depth"):
            ros.until(lambda node=node: ros.node.count_publishers(f"{node}/status"), node)
        ros.until(lambda: self.send((2.0, 4.0)), "the first answers")

    def now(self):
        return self.ros.node.get_clock().now().nanoseconds

    def send(
        self,
        foot,
        *,
        stamp=None,
        depth=True,
        cloud=False,
        tf=True,
        box=None,
        state=TrackStatus.STATE_TRACKING,
        frame_id="optical",
        size=(WIDTH, HEIGHT),
        unconfirmed=False,
        patience=10.0,
    ):
        """Publish a frame; the answers of both nodes, or None if one of them has none.

        `depth` is True, False, or the message to publish.
        """
        stamp = self.now() if stamp is None else stamp
        header = stamped(stamp, frame_id)
        self.info.publish(camera_info())
        centre, true_box = seen(foot)
        if tf:
            poses = [transform_message("odom", "base", BASE, t) for t in (stamp, stamp + STEP)]
            self.tf.publish(TFMessage(transforms=poses))
        if depth is True:
            depth = depth_message(depth_of(true_box, centre[2]), header)
        if depth:
            self.depth.publish(depth)
        if cloud:
            self.cloud.publish(cloud_message(foot, stamped(stamp, "lidar")))
        message = Detection2DArray(header=header)
        if state not in (TrackStatus.STATE_LOST, TrackStatus.STATE_IDLE):
            noise = np.diag((1.0, 1.0, 2.0, 2.0))
            message.detections.append(
                detection_from_box(
                    true_box if box is None else box, 0.9, header, self.target_id, "target", noise
                )
            )
        self.detections.publish(message)
        self.status.publish(
            TrackStatus(
                header=header,
                state=state,
                score=0.9,
                target_id=self.target_id,
                image_width=size[0],
                image_height=size[1],
                unconfirmed=unconfirmed,
            )
        )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            found = [
                next((one for one in answers[::-1] if one.header == header), None)
                for answers in (self.all, self.only_depth)
            ]
            if all(found):
                return found
            time.sleep(0.002)
        return None

    def another_target(self):
        """The next frames are of another one, so that no range is expected of it."""
        self.target_id += 1


@pytest.fixture(scope="module")
def nodes(shared_ros):
    """One with every method and Nav2 beside it, one that has depth images alone, and no TF."""
    common = {"max_age": 30.0, "wait": 1.0}
    names = ("-r", "__node:=all_methods", "-r", "~/pose:=dynamic_pose")
    everything = start(
        shared_ros,
        names,
        methods=["depth_image", "point_cloud", "ground_plane", "known_size"],
        output_frame="odom",
        ground__frame="base",
        size__height=TALL,
        size__width=WIDE,
        stop__action="navigate_to_pose",
        stop__timeout=1.0,
        **common,
    )
    only_depth = start(
        shared_ros,
        ("-r", "__node:=only_depth"),
        fixed_frame="",
        target_frame="",
        **common,
    )
    return everything, only_depth


def start(ros, names, **parameters):
    return ros.start("target_3d", "--ros-args", *names, **parameters)


@pytest.fixture
def world(nodes, guest):
    world = World(guest)
    world.another_target()
    yield world
    for process in nodes:
        assert process.alive, process.output
        assert "Traceback" not in process.output


def position(message):
    p = message.position
    return np.array((p.x, p.y, p.z))


def heading(orientation):
    """The x axis of a pose."""
    q = orientation
    return rotation_matrix(np.array((q.x, q.y, q.z, q.w)))[:, 0]


def message_at(ros, messages, header):
    """The message of a frame: a pose, or another one with a header."""
    return ros.until(lambda: next((m for m in messages if m.header == header), None), "a message")


def test_moving_target_before_a_bleeding_background_gets_poses_and_its_velocity(world):
    ros = world.ros
    poses = ros.collect(PoseStamped, "dynamic_pose", 1)  # as the Following Server subscribes
    with_covariance = ros.collect(PoseWithCovarianceStamped, "all_methods/pose_with_covariance")
    velocities = ros.collect(TwistWithCovarianceStamped, "all_methods/velocity")
    ros.until(lambda: world.send((2.0, 4.0)) and poses and with_covariance, "poses")
    ros.until(lambda: world.send((2.0, 4.0)) and velocities, "velocities")

    start_time, world.target_id = world.now() - 15 * STEP, world.target_id + 1
    errors = []
    for step in range(15):
        foot = (1.5 + 0.05 * step, 4.5)  # 0.5 m/s along x
        stamp = start_time + step * STEP
        status, other = world.send(foot, stamp=stamp)
        assert (status.method, other.method) == ("depth_image", "depth_image"), status.message
        assert status.message == ""
        errors.append(status.range / np.linalg.norm(seen(foot)[0]) - 1.0)
        assert 0.0 < status.range_sigma < 0.2
    assert np.abs(errors).max() < 0.01

    header, truth = stamped(stamp, "odom"), np.array((*foot, 0.5 * TALL))
    pose = message_at(ros, poses, header).pose
    assert position(pose) == pytest.approx(truth, abs=0.05)
    away = truth - TO_ODOM.translation
    level = (*(away[:2] / np.linalg.norm(away[:2])), 0.0)
    assert heading(pose.orientation) == pytest.approx(level, abs=0.02)
    covariance = np.reshape(message_at(ros, with_covariance, header).pose.covariance, (6, 6))
    assert covariance[:3, :3] == pytest.approx(covariance[:3, :3].T)
    assert np.linalg.eigvalsh(covariance[:3, :3]).min() > 0.0
    along = away / np.linalg.norm(away)
    assert along @ covariance[:3, :3] @ along == pytest.approx(status.range_sigma**2, rel=0.1)
    linear = message_at(ros, velocities, header).twist.twist.linear
    assert (linear.x, linear.y, linear.z) == pytest.approx((0.5, 0.0, 0.0), abs=0.1)


def test_detection_marker_and_tf_are_those_of_the_pose_which_tf_carries_to_odom(world):
    ros, foot = world.ros, (2.4, 4.5)
    detections = ros.collect(Detection3DArray, "all_methods/detections_3d")
    markers = ros.collect(Marker, "all_methods/marker")
    frames = ros.collect(TFMessage, "/tf")
    in_camera = ros.collect(PoseStamped, "only_depth/pose")
    transforms = TransformReader(ros.node)

    def tf_is_heard():
        stamp = world.now()
        world.send(foot, stamp=stamp)
        with contextlib.suppress(TransformError):
            return transforms.lookup("odom", "optical", stamp)

    ros.until(tf_is_heard, "TF in the test")
    ros.until(lambda: world.send(foot) and detections and markers and in_camera, "messages")
    stamp = world.now()
    assert world.send(foot, stamp=stamp)[0].method == "depth_image"

    header, truth = stamped(stamp, "odom"), np.array((*foot, 0.5 * TALL))
    (detection,) = message_at(ros, detections, header).detections
    hypothesis = detection.results[0].hypothesis
    assert (detection.id, hypothesis.class_id) == (str(world.target_id), "target")
    assert position(detection.bbox.center) == pytest.approx(truth, abs=0.05)
    assert (detection.bbox.size.y, detection.bbox.size.z) == pytest.approx((WIDE, TALL), rel=0.05)
    marker = message_at(ros, markers, header)
    assert (marker.ns, marker.action) == ("depth_image", Marker.ADD)
    assert marker.pose == detection.bbox.center

    def broadcast():
        sent = (transform for message in frames for transform in message.transforms)
        return next((t for t in sent if t.child_frame_id == "target" and t.header == header), None)

    shift = ros.until(broadcast, "the frame on /tf").transform.translation
    assert (shift.x, shift.y, shift.z) == pytest.approx(truth, abs=0.05)

    # As the Following Server does it: into its fixed frame, by TF at the stamp of the pose.
    pose = message_at(ros, in_camera, stamped(stamp))
    assert position(pose.pose) == pytest.approx(seen(foot)[0], abs=0.05)
    in_odom = transforms.lookup("odom", pose.header.frame_id, stamp).apply(position(pose.pose))
    assert in_odom == pytest.approx(truth, abs=0.05)
    transforms.close()


def test_methods_are_taken_in_order_of_preference_and_the_status_says_which(world):
    foot = (2.3, 5.0)
    poses = world.ros.collect(PoseStamped, "dynamic_pose")
    world.ros.until(lambda: world.send(foot) and poses, "poses")

    def pose_of(status):
        header = Header(stamp=status.header.stamp, frame_id="odom")
        return message_at(world.ros, poses, header)

    later = NANOSECONDS // 5  # than the depth and the cloud before can belong to
    status, other = world.send(foot, depth=False, cloud=True, stamp=world.now() + later)
    assert status.method == "point_cloud"
    assert status.message.startswith("depth_image: the nearest message on /depth/image_raw is -")
    assert other.method == ""
    assert math.isnan(other.range)
    assert position(pose_of(status).pose)[:2] == pytest.approx(foot, abs=0.08)

    status, _ = world.send(foot, depth=False, stamp=world.now() + later)
    assert status.method == "ground_plane", status
    assert "point_cloud: the nearest message on /points is" in status.message
    assert position(pose_of(status).pose)[:2] == pytest.approx(foot, rel=0.03)

    _, (x, y, w, _) = seen(foot)
    cut = (x, y, w, HEIGHT - y)
    status, _ = world.send(foot, depth=False, box=cut, stamp=world.now() + later)
    assert status.method == "known_size", status
    assert "where the target stands is not seen" in status.message
    assert status.range == pytest.approx(np.linalg.norm(seen(foot)[0]), rel=0.05)


def test_input_that_is_wrong_gives_no_position_but_its_reason(world):
    ros, foot = world.ros, (2.0, 5.0)
    poses = ros.collect(PoseStamped, "only_depth/pose")
    detections = ros.collect(Detection3DArray, "only_depth/detections_3d")
    ros.until(lambda: world.send(foot) and poses and detections, "poses")
    centre, box = seen(foot)
    depths = depth_of(box, centre[2])
    x, y, w, h = box
    second = NANOSECONDS

    def depth(values=depths, kind="16UC1", frame_id="optical", **changes):
        def message(stamp):
            image = depth_message(values, stamped(stamp, frame_id), kind)
            for name, value in changes.items():
                setattr(image, name, value)
            return image

        return message

    nan = float("nan")
    cases = {
        "encoding 'bgr8', expected 16UC1": {"depth": depth(encoding="bgr8")},
        "has the encoding 'eee": {"depth": depth(encoding="e" * 100_000)},
        "does the driver write millimetres": {"depth": depth(1000 * depths, "32FC1")},
        "set depth.unit": {"depth": depth(depths / 1000)},
        "align_depth.enable": {"depth": depth(frame_id="depth_optical")},
        "which is another shape": {"depth": depth(depths[:200])},
        "fills its fields wrongly": {"depth": depth(data=b"1234")},
        "has no depth at all": {"depth": depth(0 * depths)},
        "box is": {"box": (nan, y, w, h)},
        "expected finite numbers, width": {"box": (x, y, 0.0, h)},
        "depth between": {"box": (WIDTH + 50.0, y, w, h)},
        "camera_info": {"size": (320, 240)},
        "no stamp": {"stamp": 0},
        "s old, more than max_age": {"stamp": world.now() - 40 * second, "tf": False},
        "in the future": {"stamp": world.now() + 40 * second, "tf": False},
        "no frame_id": {"frame_id": ""},
        "frame_id has 5000 characters": {"frame_id": "f" * 5000},
        "COASTING": {"state": TrackStatus.STATE_COASTING},
        "LOST": {"state": TrackStatus.STATE_LOST},
        "waits for ~/confirm_target": {"unconfirmed": True},
    }
    count = len(poses)
    for said, options in cases.items():
        stamp = options.pop("stamp", None)
        stamp = world.now() if stamp is None else stamp
        make = options.pop("depth", None)
        if make is not None:
            options["depth"] = make(stamp)
        _, status = world.send(foot, stamp=stamp, **options)
        assert said in status.message, status
        assert len(status.message) < 1000  # it is in /diagnostics, too
        assert status.method == ""
        assert math.isnan(status.range)
    ros.until(lambda: detections[-1].header.stamp == status.header.stamp, "the last detections")
    assert not detections[-1].detections
    assert len(poses) == count
    _, status = world.send(foot)
    assert status.method == "depth_image", status
    ros.until(lambda: len(poses) == count + 1, "a pose again")


def test_depth_that_comes_after_several_statuses_still_belongs_to_its_frame(world):
    """A depth camera may need longer than the tracker, and longer than from frame to frame."""
    foot = (2.0, 5.0)
    centre, box = seen(foot)
    assert set_parameter(world.ros, "only_depth", "wait", 10.0).successful
    stamps = [world.now() + STEP * k for k in (1, 2, 3)]
    for stamp in stamps:
        world.send(foot, stamp=stamp, depth=False, patience=0.0)

    def answers():
        for stamp in stamps:  # again and again: best effort may lose one on a busy machine
            world.depth.publish(depth_message(depth_of(box, centre[2]), stamped(stamp)))
        wanted = [stamped(stamp) for stamp in stamps]
        found = [status for status in world.only_depth if status.header in wanted]
        return found if len(found) == len(stamps) else None

    found = world.ros.until(answers, "all three answers")
    assert set_parameter(world.ros, "only_depth", "wait", 1.0).successful
    assert [status.header for status in found] == [stamped(stamp) for stamp in stamps]
    assert [status.method for status in found] == 3 * ["depth_image"], found


def test_range_of_what_passes_in_front_is_not_the_targets(world):
    foot = (2.0, 6.0)
    stamp = world.now()
    for step in range(3):
        assert world.send(foot, stamp=stamp + step * STEP // 3)[1].method == "depth_image"
    centre, box = seen(foot)
    x, y, w, h = box
    covered = depth_of(box, centre[2])
    left = covered[round(y / 2) : round((y + h) / 2), round(x / 2) : round((x + 0.45 * w) / 2)]
    left[left > 0] = 2.0
    stamp += STEP
    half = depth_message(covered, stamped(stamp))
    _, status = world.send(foot, stamp=stamp, depth=half)
    assert status.range == pytest.approx(np.linalg.norm(centre), rel=0.02)
    stamp += STEP
    whole = depth_message(depth_of(box, 2.0), stamped(stamp))
    _, status = world.send(foot, stamp=stamp, depth=whole)
    assert status.method == ""
    assert "something may be in front of the target" in status.message


class Navigation:
    """The cancelling half of an action server, which is all that is asked of Nav2."""

    def __init__(self, ros):
        self.requests, self.code = [], CancelGoal.Response.ERROR_NONE
        ros.node.create_service(CancelGoal, "navigate_to_pose/_action/cancel_goal", self._cancel)

    def _cancel(self, request, response):
        self.requests.append(request)
        response.return_code = self.code
        return response


def diagnosed(ros, node, task):
    """The newest report of a task of a node."""
    messages = ros.collect(DiagnosticArray, "/diagnostics")

    def newest():
        return next(
            (
                status
                for message in reversed(messages)
                for status in message.status
                if status.name == f"{node}: {task}"
            ),
            None,
        )

    return newest


def test_navigation_is_stopped_once_when_the_target_is_lost_or_the_tracker_falls_silent(world):
    ros, foot = world.ros, (2.0, 4.0)
    report = diagnosed(ros, "all_methods", "stop")
    # What the fixture's first positions have armed finds nobody to cancel.
    ros.until(lambda: report() and report().level == DiagnosticStatus.ERROR, "that nobody stops")
    assert "nobody offers /navigate_to_pose/_action/cancel_goal" in report().message
    navigation = Navigation(ros)
    ros.until(lambda: navigation.requests, "the request that was due")
    ros.until(lambda: report().level == DiagnosticStatus.OK, "that it is stopped")

    navigation.requests.clear()
    assert world.send(foot)[0].method
    assert world.send(foot, state=TrackStatus.STATE_LOST)[0].method == ""
    ros.until(lambda: navigation.requests, "a stop for a lost target")
    (request,) = navigation.requests
    assert not any(request.goal_info.goal_id.uuid)
    assert (request.goal_info.stamp.sec, request.goal_info.stamp.nanosec) == (0, 0)
    assert world.send(foot, state=TrackStatus.STATE_LOST)
    assert world.send(foot, state=TrackStatus.STATE_LOST)
    assert len(navigation.requests) == 1  # another goal may have been given since

    navigation.code = CancelGoal.Response.ERROR_REJECTED
    assert world.send(foot)[0].method
    ros.until(lambda: len(navigation.requests) == 2, "a stop for silence")
    ros.until(lambda: "refused to cancel" in report().message, "the refusal")
    navigation.code = CancelGoal.Response.ERROR_NONE
    ros.until(lambda: report().level == DiagnosticStatus.OK, "the stop that was tried again")

    count = len(navigation.requests)
    assert world.send(foot)[0].method
    assert change_state(ros, "all_methods", Transition.TRANSITION_DEACTIVATE)
    ros.until(lambda: len(navigation.requests) == count + 1, "a stop for a node that ends")
    assert change_state(ros, "all_methods", Transition.TRANSITION_ACTIVATE)


def test_tracker_of_another_version_and_random_statuses_leave_the_node_as_it_was(world):
    for number in range(15):
        header = stamped(world.now())
        detections = Detection2DArray(header=header)
        status = TrackStatus(header=header, state=77, target_id=3)
        if number % 2:
            box = detection_from_box((1.0, 2.0, 3.0, 4.0), 0.5, header, 1)
            box.results.clear()
            detections.detections.append(box)
            status.state = TrackStatus.STATE_TRACKING
        world.detections.publish(detections)
        world.status.publish(status)
    assert world.send((2.0, 4.0))[1].method == "depth_image"


def change_state(ros, node, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return ros.call(ChangeState, f"{node}/change_state", request).success


def set_parameter(ros, node, name, value):
    kinds = {
        str: (ParameterType.PARAMETER_STRING, "string_value"),
        float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
        list: (ParameterType.PARAMETER_STRING_ARRAY, "string_array_value"),
    }
    kind, field = kinds[type(value)]
    change = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
    request = SetParameters.Request(parameters=[change])
    return ros.call(SetParameters, f"{node}/set_parameters", request).results[0]


def test_without_tf_there_is_no_position_in_another_frame_and_a_manager_may_change_that(world):
    ros, node = world.ros, "only_depth"
    report = diagnosed(ros, node, "position")
    refused = set_parameter(ros, node, "output_frame", "map")
    assert not refused.successful
    assert "deactivate the node first" in refused.reason
    assert change_state(ros, node, Transition.TRANSITION_DEACTIVATE)
    ros.until(lambda: report() and report().level == DiagnosticStatus.STALE, "its end")
    for name, value, said in (
        ("methods", ["sonar"], "expected one or more of depth_image"),
        ("methods", ["known_size"], "size.height and size.width are 0"),
        ("target_frame", "base_footprint", "cannot be given relative to itself"),
    ):
        refused = set_parameter(ros, node, name, value)
        assert said in refused.reason, refused
    assert set_parameter(ros, node, "output_frame", "map").successful
    assert change_state(ros, node, Transition.TRANSITION_ACTIVATE)

    def refusal():
        answers = world.send((2.0, 4.0), patience=2.0)
        return answers and "no TF has a frame 'map'" in answers[1].message

    ros.until(refusal, "the reason")
    ros.until(lambda: report().level == DiagnosticStatus.WARN, "the reason in /diagnostics")
    assert "no TF has a frame 'map'" in report().message
    assert change_state(ros, node, Transition.TRANSITION_DEACTIVATE)
    assert set_parameter(ros, node, "output_frame", "").successful
    assert change_state(ros, node, Transition.TRANSITION_ACTIVATE)

    def located():
        answers = world.send((2.0, 4.0), patience=2.0)
        return answers and answers[1].method == "depth_image"

    ros.until(located, "a position again")


def test_real_tracker_gives_positions_until_its_target_is_gone(ros, tiny_model, scene):
    ros.start_tracker(tiny_model)
    process = ros.start(
        "target_3d", wait=1.0, max_age=30.0, stop__action="/navigate_to_pose", stop__timeout=60.0
    )
    navigation = Navigation(ros)
    statuses = ros.collect(PositionStatus, "target_3d/status")
    poses = ros.collect(PoseStamped, "target_3d/pose")
    width, height = scene.size
    sensors = qos_profile_sensor_data
    info = ros.publisher(CameraInfo, "camera_info", sensors, subscribers=2)
    depth = ros.publisher(Image, "depth/image_raw", sensors)
    feed = ros.feed(scene, real_time=True)
    metres = 3.0

    def frame(pixels=None):
        """Publish depth and image of one exposure; what target_3d says of it."""
        pixels = scene.frame(feed.step) if pixels is None else pixels
        header = feed.header()
        depths = np.full((height, width), BACKGROUND)
        x, y, w, h = map(int, scene.box(feed.step))
        depths[y : y + h, x : x + w] = metres
        info.publish(camera_info(width, height))
        depth.publish(depth_message(depths, header, "32FC1"))
        feed.publisher.publish(array_to_image(pixels, header))
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            for status in statuses[::-1]:
                if status.header == header:
                    return status
            time.sleep(0.002)
        return None

    assert ros.until(frame, "a frame").message.endswith("IDLE")
    assert feed.set_target().success

    def located():
        feed.step += 1
        status = frame()
        return status if status and status.method else None

    ros.until(located, "the first position")
    for _ in range(5):
        feed.step += 1
        status = ros.until(frame, "a position")
        assert status.method == "depth_image", status
        x, y, w, h = scene.box(feed.step)
        focal = FOCAL * width / WIDTH
        ray = np.array(((x + (w - width) / 2) / focal, (y + (h - height) / 2) / focal, 1.0))
        assert status.range == pytest.approx(metres * np.linalg.norm(ray), rel=0.02)
    pose = message_at(ros, poses, status.header)
    assert position(pose.pose) == pytest.approx(metres * ray, abs=0.06)

    def gone():
        status = frame(scene.empty())
        return status and "LOST" in status.message

    ros.until(gone, "the loss")
    assert not [pose for pose in poses if pose.header == statuses[-1].header]
    ros.until(lambda: navigation.requests, "a stop for the loss")
    ros.until(located, "a position after it was found again")
    stops = len(navigation.requests)
    assert process.stop() == 0
    ros.until(lambda: len(navigation.requests) > stops, "a stop by a process that ends")


def test_parameters_that_make_no_sense_are_one_sentence(ros):
    process = ros.start("target_3d", range__min=5.0, range__max=5.0)
    assert process.wait() == 2
    assert "error: range.min is 5 and range.max 5; the first must be less" in process.output
    assert "Traceback" not in process.output
