# SPDX-License-Identifier: Apache-2.0
"""The last messages of a topic, serialised: only the one that belongs to an image is read."""

from __future__ import annotations

from collections import deque
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message

from vt_ros.common.convert import NANOSECONDS, serialised_stamp
from vt_ros.common.errors import describe_error
from vt_ros.target_3d.errors import NoPositionError, NotYetError

_MOST_MESSAGES = 32  # a second of depth at 30 Hz; an image that is older has no use
_MOST_BYTES = 256 * 2**20


class MessageBuffer:
    """Subscribes to a topic of messages that begin with a header.

    Args:
        node: subscribes.
        message_type: of the messages.
        topic: relative or absolute.

    Attributes:
        topic: its full name.
    """

    def __init__(self, node: Node, message_type: type, topic: str) -> None:
        self._node, self._type = node, message_type
        self.topic = node.resolve_topic_name(topic)
        self._messages: deque[tuple[int, bytes]] = deque(maxlen=_MOST_MESSAGES)
        self._read: tuple[bytes, Any] | None = None
        self._subscription = node.create_subscription(
            message_type, topic, self.take, qos_profile_sensor_data, raw=True
        )

    def close(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def find(self, stamp: int, tolerance: float, final: bool) -> Any:
        """Return the message whose stamp is nearest to an image's.

        Args:
            stamp: of the image, nanoseconds.
            tolerance: largest difference, seconds.
            final: what comes later is not waited for.

        Raises:
            NotYetError: a nearer one may still come; not if `final`.
            NoPositionError: there is none, with the likely reason, or it is damaged.
        """
        if not self._messages:
            if not self._node.count_publishers(self.topic):
                raise NoPositionError(f"nobody publishes {self.topic}")
            raise NotYetError(
                f"{self.topic} has publishers, but nothing of the type {self._type.__name__} has "
                "come from them"
            )
        nearest, data = min(self._messages, key=lambda one: abs(one[0] - stamp))
        difference = (nearest - stamp) / NANOSECONDS
        # By the last one: a stamp of the future, once, must not end all waiting.
        if self._messages[-1][0] < stamp and not final:
            raise NotYetError(f"{self.topic} has not come to the time of the image")
        if abs(difference) > tolerance:
            raise NoPositionError(
                f"the nearest message on {self.topic} is {difference:+.3f} s off the image, more "
                f"than {tolerance:g} s; synchronise the two, or raise sync_tolerance"
            )
        if self._read is None or self._read[0] is not data:
            try:
                self._read = data, deserialize_message(data, self._type)
            except Exception as error:  # of whatever type: the bytes are a stranger's
                raise NoPositionError(
                    f"a message on {self.topic} cannot be read: {describe_error(error)}"
                ) from error
        return self._read[1]

    def take(self, message: bytes) -> None:
        """Keep a serialised message; the oldest are forgotten."""
        self._messages.append((serialised_stamp(message), message))
        while sum(len(data) for _, data in self._messages) > _MOST_BYTES:
            self._messages.popleft()
