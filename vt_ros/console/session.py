# SPDX-License-Identifier: Apache-2.0
"""What exists while the node is active: made by `activate`, closed by `deactivate`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from rclpy.node import Node

from vt_models.errors import InputError
from vt_ros.console.encoder import create_workers
from vt_ros.console.parameters import ConsoleSettings
from vt_ros.console.server import ConsoleServer
from vt_ros.console.tracker_view import TrackerView

_PATIENCE = 10.0  # seconds for the server to listen
_PATIENCE_AT_END = 1.0


class Session:
    """The trackers' views and the web server, in an event loop in a thread of its own.

    Args:
        node: subscribes and calls.
        settings: asked at every use.

    Raises:
        InputError: the address or the port cannot be had.

    Attributes:
        views: one for each tracker.
        server: the web server.
        url: of the page.
    """

    def __init__(self, node: Node, settings: Callable[[], ConsoleSettings]) -> None:
        log = node.get_logger()
        self._loop = asyncio.new_event_loop()
        self._workers = create_workers()
        self.views = [
            TrackerView(node, source, settings, self._loop, self._workers)
            for source in settings().sources
        ]
        self._thread = threading.Thread(target=self._serve, name="console", daemon=True)
        self._thread.start()

        async def start() -> tuple[ConsoleServer, str]:
            server = ConsoleServer(
                self.views, settings, lambda text: log.warning(text, throttle_duration_sec=1.0)
            )
            return server, await server.start()

        try:
            future = asyncio.run_coroutine_threadsafe(start(), self._loop)
            self.server, self.url = future.result(_PATIENCE)
        except OSError as error:
            self._end()
            present = settings()
            raise InputError(
                f"cannot listen on {present.address} port {present.port} ({error.strerror}); end "
                "what does, or give another port"
            ) from error

    def close(self) -> None:
        """End the server and the thread, and release everything."""
        closing = asyncio.run_coroutine_threadsafe(self.server.close(), self._loop)
        try:
            closing.result(_PATIENCE_AT_END)
        finally:
            self._end()

    def _end(self) -> None:
        for view in self.views:
            view.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_AT_END)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
