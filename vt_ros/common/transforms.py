# SPDX-License-Identifier: Apache-2.0
"""Where frames are relative to each other: what /tf and /tf_static say, at a given time.

tf2_ros is used where it is installed, as with every ROS installation; it has no wheel on PyPI. The
reader here takes its place elsewhere, with the same rules for one query: the transform at a stamp,
interpolated between the two samples around it, never extrapolated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from vt_models.errors import InputError
from vt_models.geometry.rigid import (
    Transform,
    check_translation,
    rotation_matrix,
    slerp,
    unit_quaternion,
)
from vt_ros.common.convert import NANOSECONDS, stamp_nanoseconds
from vt_ros.common.errors import frame_id_problem

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

_CACHE_SECONDS = 10.0  # as tf2's
_MOST_FRAMES = 10_000  # more are a program that never gives a name twice
_DEEPEST = 1000  # frames between one and the root, as tf2's MAX_GRAPH_DEPTH


class TransformError(RuntimeError):
    """There is no such transform; the message says why."""


class TransformNotYetError(TransformError):
    """Samples of that time have not come yet; they may."""


class Transforms(Protocol):
    """Looks up transforms."""

    def lookup(self, target: str, source: str, stamp: int) -> Transform:
        """Return where points of the frame `source` are in the frame `target` at a time.

        Args:
            target, source: frames.
            stamp: nanoseconds.

        Raises:
            TransformError: it is not known.
            TransformNotYetError: it is not known yet.
        """

    def close(self) -> None:
        """End the subscriptions."""


def create_transforms(node: Node) -> Transforms:
    """Listen to TF, by tf2_ros where it is installed."""
    return TransformReader(node) if tf2_ros is None else Tf2Transforms(node)


@dataclass
class _Link:
    """What is known of a frame relative to its parent: samples in order of time.

    A static link has one sample, which is right at any time.
    """

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    samples: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)

    def add(
        self, stamp: int, quaternion: NDArray[np.float64], translation: NDArray[np.float64]
    ) -> None:
        """Insert a sample in its place, in place of one of the same time; forget old ones."""
        if self.static:
            self.stamps, self.samples = [stamp], [(quaternion, translation)]
            return
        oldest = (self.stamps[-1] if self.stamps else stamp) - int(_CACHE_SECONDS * NANOSECONDS)
        if stamp < oldest:
            return
        place = bisect_left(self.stamps, stamp)
        same = place < len(self.stamps) and self.stamps[place] == stamp
        self.stamps[place : place + same] = [stamp]
        self.samples[place : place + same] = [(quaternion, translation)]
        expired = bisect_left(self.stamps, stamp - int(_CACHE_SECONDS * NANOSECONDS))
        del self.stamps[:expired], self.samples[:expired]

    def at(self, stamp: int, child: str) -> Transform:
        """Return the transform from the frame `child` to the parent at a time."""
        if self.static:
            return _transform(*self.samples[0])
        if stamp > self.stamps[-1]:
            late = (stamp - self.stamps[-1]) / NANOSECONDS
            raise TransformNotYetError(
                f"TF from {child} to {self.parent} ends {late:.3f} s before the image"
            )
        if stamp < self.stamps[0]:
            early = (self.stamps[0] - stamp) / NANOSECONDS
            raise TransformError(
                f"TF from {child} to {self.parent} begins {early:.3f} s after the image"
            )
        after = bisect_left(self.stamps, stamp)
        if self.stamps[after] == stamp:
            return _transform(*self.samples[after])
        start, end = self.stamps[after - 1], self.stamps[after]
        share = (stamp - start) / (end - start)
        (q, t), (q_next, t_next) = self.samples[after - 1 : after + 1]
        return _transform(slerp(q, q_next, share), (1.0 - share) * t + share * t_next)


class TransformBuffer:
    """Keeps transforms of the last seconds, and looks them up.

    Attributes:
        refused: why the last transform that made no sense was refused; empty: none was.
    """

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self.refused = ""

    def clear(self) -> None:
        """Forget what moves, for a clock that was set back."""
        self._links = {name: link for name, link in self._links.items() if link.static}

    def add(self, message: TransformStamped, static: bool) -> None:
        """Take one transform; one that makes no sense changes nothing but `refused`."""
        child, parent = _name(message.child_frame_id), _name(message.header.frame_id)
        rotation, shift = message.transform.rotation, message.transform.translation
        translation = np.array((shift.x, shift.y, shift.z))
        problem = frame_id_problem(child) or frame_id_problem(parent)
        if problem:
            self.refused = f"TF: {problem}"
            return
        if not child or not parent or child == parent:
            problem = "expected two different frames"
        elif child not in self._links and len(self._links) >= _MOST_FRAMES:
            problem = f"there are {_MOST_FRAMES} frames already"
        else:
            try:
                check_translation(translation)
                quaternion = unit_quaternion((rotation.x, rotation.y, rotation.z, rotation.w))
            except InputError as error:
                problem = str(error)
        if problem:
            self.refused = f"TF from {child!r} to {parent!r}: {problem}"
            return
        link = self._links.get(child)
        if link is None or (link.parent, link.static) != (parent, static):
            link = self._links[child] = _Link(parent, static)
        link.add(stamp_nanoseconds(message.header.stamp), quaternion, translation)

    def lookup(self, target: str, source: str, stamp: int) -> Transform:
        """Return where points of `source` are in `target`; see `Transforms.lookup`."""
        up, down = self._path(_name(source)), self._path(_name(target))
        # What both have above their meeting point is not part of the way.
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
            up.pop()
            down.pop()
        if up[-1] != down[-1]:
            for name in (source, target):
                if not self._knows(_name(name)):
                    raise TransformError(f"no TF has a frame {name!r}")
            raise TransformError(f"TF does not connect {source} and {target}")
        return self._chain(down, stamp).inverse() @ self._chain(up, stamp)

    def _knows(self, name: str) -> bool:
        return name in self._links or any(link.parent == name for link in self._links.values())

    def _path(self, name: str) -> list[str]:
        """Return a frame and all above it."""
        names = [name]
        while names[-1] in self._links:
            names.append(self._links[names[-1]].parent)
            if len(names) > _DEEPEST:
                raise TransformError(f"TF goes round in a circle above {name}")
        return names

    def _chain(self, names: list[str], stamp: int) -> Transform:
        """Return the transform from the first of these frames to the last one."""
        total = Transform.identity()
        for name in names[:-1]:
            total = self._links[name].at(stamp, name) @ total
        return total


class TransformReader(TransformBuffer):
    """Fills a buffer from /tf and /tf_static, in the executor of a node."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = (
            node.create_subscription(TFMessage, "/tf", self._on_moving, 100),
            node.create_subscription(TFMessage, "/tf_static", self._on_static, latched),
        )
        self._jumps = _on_jump_back(node, self.clear)

    def close(self) -> None:
        """End the subscriptions."""
        self._jumps.unregister()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_moving(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self.add(transform, static=False)

    def _on_static(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self.add(transform, static=True)


class Tf2Transforms:
    """Looks up in the buffer of tf2_ros."""

    def __init__(self, node: Node) -> None:
        # Without a node: given one, the buffer leaves a service there that outlives it.
        self._buffer: Any = tf2_ros.Buffer(Duration(seconds=_CACHE_SECONDS))
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node)
        self._jumps = _on_jump_back(node, self._buffer.clear)

    def lookup(self, target: str, source: str, stamp: int) -> Transform:
        """See `Transforms.lookup`; a time outside the buffer counts as not yet known."""
        try:
            found = self._buffer.lookup_transform(
                _name(target), _name(source), Time(nanoseconds=stamp)
            ).transform
        except tf2_ros.ExtrapolationException as error:
            raise TransformNotYetError(f"TF: {error}") from error
        except tf2_ros.TransformException as error:
            raise TransformError(f"TF: {error}") from error
        r, t = found.rotation, found.translation
        try:
            return Transform.from_parts((r.x, r.y, r.z, r.w), (t.x, t.y, t.z))
        except InputError as error:
            raise TransformError(f"TF from {source} to {target}: {error}") from error

    def close(self) -> None:
        """End the subscriptions."""
        self._jumps.unregister()
        self._listener.unregister()


def _on_jump_back(node: Node, clear: Callable[[], None]) -> JumpHandle:
    """Call `clear` when the node's clock is set back, as by a bag that starts again."""
    threshold = JumpThreshold(
        min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
    )
    return node.get_clock().create_jump_callback(threshold, post_callback=lambda _: clear())


def _name(frame: str) -> str:
    """Return a frame's name; a slash before it, as ROS 1 had it, is no part of it."""
    return frame.removeprefix("/")


def _transform(quaternion: NDArray[np.float64], translation: NDArray[np.float64]) -> Transform:
    return Transform(rotation_matrix(quaternion), translation)
