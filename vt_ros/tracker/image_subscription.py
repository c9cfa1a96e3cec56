# SPDX-License-Identifier: Apache-2.0
"""The subscription to the images: raw or compressed, its QoS, and what the middleware says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from vt_ros.common.convert import serialised_stamp
from vt_ros.common.parameters import Value
from vt_ros.tracker.image_buffer import BufferedImage, ImageType

if TYPE_CHECKING:
    from rclpy.event_handler import QoSMessageLostInfo, QoSRequestedIncompatibleQoSInfo

COMPRESSED = "compressed"
TOPIC = "image_raw"

_TRANSPORTS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": COMPRESSED}


@dataclass(frozen=True)
class DeliveryStats:
    """What the middleware has delivered.

    Attributes:
        received: images since the start.
        silence: seconds since the last one, or since the start.
        publishers: of images of this kind on the topic.
        hint: why nothing arrives though a camera publishes: under another type or topic; empty:
            that is not so, or not known.
        incompatible: policies in which publishers were found that offer too little; images of
            such a publisher never arrive.
        lost: images that the middleware says it has lost.
    """

    received: int
    silence: float
    publishers: int
    hint: str
    incompatible: tuple[str, ...]
    lost: int


class ImageSubscription:
    """Subscribes to the images and hands them over, serialised.

    Args:
        node: subscribes.
        value: parameters by name: `image_transport`, `image_qos.*`. `qos_overrides.*` of the topic
            come on top, as for every ROS subscription.
        offer: called in the executor's thread.

    Raises:
        InvalidQosOverridesError, RuntimeError: `qos_overrides` that make no profile.
    """

    def __init__(
        self, node: Node, value: Callable[[str], Value], offer: Callable[[BufferedImage], None]
    ) -> None:
        self._node, self._offer = node, offer
        self._received = 0
        self._last = time.monotonic()
        self._incompatible: dict[str, None] = {}
        self._lost = 0
        compressed = value("image_transport") == COMPRESSED
        self._message_type: ImageType = CompressedImage if compressed else Image
        self._type_name = f"sensor_msgs/msg/{self._message_type.__name__}"
        # As image_transport does: the base topic is remapped, the transport's name follows.
        base = node.resolve_topic_name(TOPIC)
        self.topic = f"{base}/{COMPRESSED}" if compressed else base
        reliable = value("image_qos.reliability") == "reliable"
        latched = value("image_qos.durability") == "transient_local"
        self.qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=int(value("image_qos.depth")),
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        # raw: the tracking thread deserialises, and only the images that it takes.
        self._subscription = node.create_subscription(
            self._message_type,
            self.topic,
            self._on_image,
            self.qos,
            callback_group=MutuallyExclusiveCallbackGroup(),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, message_lost=self._on_lost
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=True,
        )

    def close(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def stats(self) -> DeliveryStats:
        """Return what has been delivered so far."""
        publishers = self._types_on(self.topic).count(self._type_name)
        return DeliveryStats(
            received=self._received,
            silence=time.monotonic() - self._last,
            publishers=publishers,
            hint="" if publishers else self._hint(),
            incompatible=tuple(self._incompatible),
            lost=self._lost,
        )

    def _types_on(self, topic: str) -> list[str]:
        return [info.topic_type for info in self._node.get_publishers_info_by_topic(topic)]

    def _hint(self) -> str:
        """Say where images are, and how to get them, if not on this topic and of this type."""
        base = self.topic.removesuffix(f"/{COMPRESSED}")
        for topic in (
            self.topic,
            base,
            f"{base}/{COMPRESSED}",
            base.removesuffix(f"/{COMPRESSED}"),
        ):
            for kind in self._types_on(topic):
                if topic == self.topic:
                    said = f"{topic} carries {kind}, expected {self._type_name}"
                else:
                    said = f"nobody publishes {self.topic}, but {topic} carries {kind}"
                if kind not in _TRANSPORTS:
                    return f"{said}; remap {TOPIC} to the camera's images"
                transport, name = _TRANSPORTS[kind], topic
                if transport == COMPRESSED:
                    name = topic.removesuffix(f"/{COMPRESSED}")
                    if name == topic:
                        return f"{said}; compressed images are expected on {topic}/{COMPRESSED}"
                return f"{said}; set image_transport to {transport} and remap {TOPIC} to {name}"
        return ""

    def _on_image(self, message: bytes) -> None:
        self._received += 1
        self._last = time.monotonic()
        stamp = serialised_stamp(message)
        self._offer(BufferedImage(self._received, message, self._last, stamp, self._message_type))

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._incompatible[policy] = None
        self._node.get_logger().error(
            f"a publisher on {self.topic} offers an incompatible {policy}: no image of it will "
            "arrive; change image_qos.* (best_effort and volatile take every publisher)"
        )

    def _on_lost(self, event: QoSMessageLostInfo) -> None:
        self._lost = int(event.total_count)
