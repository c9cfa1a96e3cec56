# SPDX-License-Identifier: Apache-2.0
"""One browser: frames go to it as fast as it shows them, requests come from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from vt_models.video.image_messages import ConversionError
from vt_ros.console.access import Role
from vt_ros.console.commands import (
    Clock,
    Command,
    CommandError,
    Request,
    Shown,
    View,
    parse_command,
)
from vt_ros.console.frame_pairing import Frame
from vt_ros.console.link import LinkController
from vt_ros.console.messages import describe_frame, frame_message, json_text
from vt_ros.console.parameters import ConsoleSettings
from vt_ros.console.tracker_view import Answer, TrackerView

_REPORT_PERIOD = 1.0
# Of what is answered: a hand on a key that repeats does not come near it.
_REQUESTS_PER_SECOND, _REQUEST_BURST = 10.0, 30.0
# Of all messages: frames of 64 tiles at 30 a second are shown and answered within it.
_MESSAGES_PER_SECOND, _MESSAGE_BURST = 2000.0, 4000.0
_MOST_PENDING = 16


class TokenBucket:
    """Lets `burst` through at once, and `rate` per second."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._left, self._last = rate, burst, burst, now

    def take(self, now: float) -> bool:
        """Return whether one more may pass."""
        self._left = min(self._burst, self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class _Tile:
    """What a browser shows of one tracker.

    Attributes:
        view: the tracker.
        link: what to send.
        width: pixels that it takes on the screen; 0: it is not to be seen.
        wanted: set while it is to be seen.
        sent: number of the frame that is on its way; 0: none.
        interrupted: the tile was hidden since, so that its time says nothing about the link.
        shown: set when the frame that was sent is on the screen.
        transfer: seconds that it took to come through the link, as the browser says.
    """

    def __init__(self, view: TrackerView, transfer_time: float) -> None:
        self.view, self.link = view, LinkController(transfer_time)
        self.width = 0
        self.wanted, self.shown = asyncio.Event(), asyncio.Event()
        self.sent = 0
        self.transfer = 0.0
        self.interrupted = False


class Viewer:
    """Serves one WebSocket until it ends.

    At most one frame of a tile is on its way: the next one is sent when the browser says that the
    last is on its screen, and it is the newest there is by then. So neither a slow link nor a
    browser that stands still collects frames, and no other browser waits for it.

    Args:
        socket: accepted.
        role: of the person behind it.
        views: the trackers.
        settings: asked at every use.
        warn: logs a sentence.

    Attributes:
        role: see above.
        frames: sent so far.
        bytes: of them.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        role: Role,
        views: Sequence[TrackerView],
        settings: Callable[[], ConsoleSettings],
        warn: Callable[[str], object],
    ) -> None:
        self._socket, self.role, self._settings, self._warn = socket, role, settings, warn
        self._tiles = [_Tile(view, settings().transfer_time) for view in views]
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._requests = TokenBucket(_REQUESTS_PER_SECOND, _REQUEST_BURST, now)
        self._messages = TokenBucket(_MESSAGES_PER_SECOND, _MESSAGE_BURST, now)
        self._pending: set[asyncio.Task[None]] = set()
        self.frames = self.bytes = 0

    async def serve(self, hello: dict[str, Any]) -> None:
        """Serve until the browser goes, or does what it must not.

        Args:
            hello: the first message.
        """
        await self._socket.send_str(json_text(hello))
        tasks = [
            asyncio.ensure_future(self._guarded(work))
            for work in (
                self._report(),
                *(self._send_frames(number, tile) for number, tile in enumerate(self._tiles)),
            )
        ]
        try:
            await self._receive()
        finally:
            for task in (*tasks, *self._pending):
                task.cancel()
            await asyncio.gather(*tasks, *self._pending, return_exceptions=True)

    async def close(self) -> None:
        """End the connection; the page tries again."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a sender; when it fails the connection ends, so that the page connects anew."""
        try:
            await work
        except (ConnectionError, RuntimeError):  # the browser has gone; aiohttp says it both ways
            pass
        except Exception as error:
            self._warn(f"a browser is disconnected: {type(error).__name__}: {error}")
        await self._socket.close()

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                await self._refuse("messages are text")
                return
            if not self._messages.take(self._loop.time()):
                await self._refuse("too many messages")
                return
            try:
                command = parse_command(message.data, len(self._tiles))
            except CommandError as error:
                self._warn(f"a browser's message is refused: {error}")
                await self._answer(error.number, Answer(ok=False, message=str(error)))
                if not self._requests.take(self._loop.time()):
                    await self._refuse("too many messages that make no sense")
                    return
                continue
            await self._take(command)

    async def _refuse(self, reason: str) -> None:
        await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason.encode())

    async def _take(self, command: Command) -> None:
        if isinstance(command, Clock):
            now = self._loop.time() * 1e3
            await self._send({"type": "clock", "sent": command.sent, "server_ms": now})
        elif isinstance(command, Shown):
            tile = self._tiles[command.tracker]
            if command.frame == tile.sent:
                tile.transfer = command.transfer
                tile.shown.set()
        elif isinstance(command, View):
            self._on_view(self._tiles[command.tracker], command.width)
        else:
            await self._on_request(command)

    def _on_view(self, tile: _Tile, width: int) -> None:
        tile.width = width
        if width:
            tile.wanted.set()
        else:
            tile.wanted.clear()
            tile.interrupted = True

    async def _on_request(self, request: Request) -> None:
        if self.role is not Role.OPERATOR:
            refusal = "this page may look and not touch: it was opened read-only"
        elif not self._requests.take(self._loop.time()) or len(self._pending) >= _MOST_PENDING:
            refusal = "too many requests at a time; wait a second"
        else:
            task = asyncio.ensure_future(self._carry_out(request))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
            return
        await self._answer(request.number, Answer(ok=False, message=refusal))

    async def _carry_out(self, request: Request) -> None:
        view = self._tiles[request.tracker].view
        try:
            answer = await view.request(request)
        except Exception as error:  # of whatever type, the browser waits for an answer
            self._warn(f"a request failed: {type(error).__name__}: {error}")
            answer = Answer(ok=False, message=f"the request failed: {type(error).__name__}")
        with suppress(ConnectionError, RuntimeError):  # it has gone
            await self._answer(request.number, answer)

    async def _answer(self, number: int | None, answer: Answer) -> None:
        await self._send(
            {
                "type": "answer",
                "id": number,
                "ok": answer.ok,
                "message": answer.message,
                "candidates": answer.candidates,
                "stamp": str(answer.stamp),
            }
        )

    async def _send(self, content: dict[str, Any]) -> None:
        await self._socket.send_str(json_text(content))

    async def _report(self) -> None:
        """Say once a second what is to be seen beside the frames, if it has changed."""
        said: list[dict[str, Any]] = [{} for _ in self._tiles]
        while True:
            for number, tile in enumerate(self._tiles):
                report = tile.view.describe()
                changed = {
                    key: value for key, value in report.items() if said[number].get(key) != value
                }
                said[number] = report
                if changed:
                    await self._send({"type": "report", "tracker": number, **changed})
            await asyncio.sleep(_REPORT_PERIOD)

    async def _send_frames(self, number: int, tile: _Tile) -> None:
        """Send the newest frame, wait until it is on the screen, and so on."""
        last, due = 0, 0.0
        while True:
            await tile.wanted.wait()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            frame = await tile.view.next_frame(last)
            due, last = self._loop.time() + self._settings().interval, frame.number
            await self._send_frame(number, tile, frame)

    async def _send_frame(self, number: int, tile: _Tile, frame: Frame) -> None:
        settings = self._settings()
        tile.link.transfer_time = settings.transfer_time
        width = min(tile.width or settings.max_width, settings.max_width)
        level = tile.link.level(width, settings.max_quality)
        content, jpeg = describe_frame(frame), b""
        try:
            jpeg, content["size"] = await tile.view.encoder.jpeg(frame, level)
        except ConversionError as error:
            content["unreadable"] = str(error)
        content |= {
            "type": "frame",
            "tracker": number,
            "prediction": tile.view.predicted_box(),
            "age_ms": tile.view.age_ms(frame),
            "server_ms": self._loop.time() * 1e3,
            "quality": level.quality,
        }
        tile.sent, tile.interrupted = frame.number, False
        tile.shown.clear()
        begin = self._loop.time()
        await self._send({"type": "mark", "tracker": number})
        await self._socket.send_bytes(frame_message(content, jpeg))
        self.frames += 1
        self.bytes += len(jpeg)
        await tile.shown.wait()
        if jpeg and not tile.interrupted:
            # What a browser says is believed within what can be.
            elapsed = self._loop.time() - begin
            tile.link.note_frame(len(jpeg), min(max(tile.transfer, 0.0), elapsed))
