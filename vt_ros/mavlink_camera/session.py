# SPDX-License-Identifier: Apache-2.0
"""What exists while the node is active: made by `activate`, closed by `deactivate`."""

from __future__ import annotations

import math
import threading
import time

from rclpy.node import Node

from vt_ros.client import Estimate, EstimateSubscription
from vt_ros.common.errors import describe_error
from vt_ros.mavlink.links import Link, create_link
from vt_ros.mavlink_camera.camera_component import CameraComponent, Endpoint
from vt_ros.mavlink_camera.geo_report import GeoReport
from vt_ros.mavlink_camera.parameters import MavlinkSettings
from vt_ros.mavlink_camera.target_position import TargetPositionSubscription
from vt_ros.mavlink_camera.tracker_services import TrackerServices

_RETRY = 1.0  # seconds until a link that is not open is opened again
_LONGEST_SLEEP = 0.02  # seconds; a command may bring something that is due sooner than expected
_PATIENCE_AT_END = 1.0  # seconds for all threads; opening a link may take longer


class Session:
    """Links and tracker on one camera component, until `close`.

    Args:
        node: subscribes and calls.
        settings: the parameters.

    Attributes:
        component: answers.
        links: by the number that a `Endpoint` has.
    """

    def __init__(self, node: Node, settings: MavlinkSettings) -> None:
        self._log = node.get_logger()
        self.links = [create_link(url, settings.accept_signed) for url in settings.links]
        self._tracker = TrackerServices(
            node, settings.tracker, lambda: self.component.settings.video_latency
        )
        geo = None
        if settings.geo is not None:
            geo = GeoReport(settings.geo, lambda: node.get_clock().now().nanoseconds)
        self.component = CameraComponent(
            settings,
            tuple(Endpoint(number) for number, link in enumerate(self.links) if link.fixed),
            self._tracker,
            lambda endpoint, frame: self.links[endpoint.link].send(frame, endpoint.address),
            lambda text: self._log.warning(text, throttle_duration_sec=1.0),
            geo=geo,
        )
        self._estimates = EstimateSubscription(node, settings.tracker, self._take)
        self._positions = None
        if settings.geo is not None:
            self._positions = TargetPositionSubscription(
                node, settings.geo.target_3d, self.component.take_position
            )
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(number, link), daemon=True)
            for number, link in enumerate(self.links)
        ]
        self._threads.append(threading.Thread(target=self._tick, daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads, and release everything."""
        self._stopping.set()
        end = time.monotonic() + _PATIENCE_AT_END
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._estimates.close()
        if self._positions is not None:
            self._positions.close()
        self._tracker.close()

    def _take(self, estimate: Estimate) -> None:
        age_ms = estimate.status.image_age_ms
        self.component.take(estimate, 0.0 if math.isnan(age_ms) else age_ms / 1000.0)

    def _serve(self, number: int, link: Link) -> None:
        """Hand on what arrives through a link, and open it again when it has broken."""
        problem = None
        while not self._stopping.is_set():
            try:
                frames = link.receive()
                if problem is not None:
                    self._log.info(f"{link.url} is open")
                problem = None
            except OSError:
                if problem != link.problem:  # once, not every second
                    problem = link.problem
                    self._log.warning(f"{link.url}: {problem}; tried again every {_RETRY:g} s")
                self._stopping.wait(_RETRY)
                continue
            for frame, address in frames:
                try:
                    self.component.receive(frame, Endpoint(number, address))
                except Exception as error:  # whatever a stranger sends, the others are served
                    self._log.error(f"a frame was not understood: {describe_error(error)}")
        link.close()

    def _tick(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.component.tick()
            except Exception as error:  # silence without a word would be worse
                self._log.error(f"nothing was sent: {describe_error(error)}")
                wait = _RETRY
            self._stopping.wait(min(wait, _LONGEST_SLEEP))
