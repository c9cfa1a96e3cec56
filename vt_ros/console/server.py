# SPDX-License-Identifier: Apache-2.0
"""The web server of the console: the page, the log-in, and one WebSocket for each browser."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

from aiohttp import web

from vt_models.registry import get_spec, list_models
from vt_models.runtime.installed_weights import find_weights
from vt_models.video.image_messages import ConversionError
from vt_ros.common.errors import describe_error
from vt_ros.console.access import SESSION_SECONDS, Access, Role
from vt_ros.console.commands import MOST_MESSAGE_BYTES
from vt_ros.console.parameters import ConsoleSettings
from vt_ros.console.tracker_view import TrackerView
from vt_ros.console.viewer import Viewer

_STATIC = Path(__file__).with_name("static")
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_PUBLIC = ("login.html", "console.css", "icon.svg")  # to be seen before a token is given
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would come with an Origin of null
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_MOST_REQUEST_BYTES = 4096  # of a form; the page itself sends nothing else but on its WebSocket
_SECONDS_TO_SPEAK = 10.0  # until a request is whole; connections without one are closed
_HEARTBEAT = 10.0  # seconds; a browser that does not answer for half of it more is gone
_SECONDS_AFTER_WRONG_TOKEN = 1.0
_MOST_LOG_INS = 8  # at a time; a wrong one waits its second, so that guessing takes for ever
_MOST_SNAPSHOTS = 2  # at a time: as many as there are threads to encode them
_PERIOD = 1.0
_PATIENCE_AT_END = 0.3  # seconds, twice: a browser that stands still must not hold the node up

_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """Serves the page; for one event loop.

    Args:
        views: the trackers, in the order of their tiles.
        settings: asked at every use, as live ones change.
        warn: logs a sentence.

    Attributes:
        viewers: the browsers that are connected.
        refused: browsers that were one too many, or not let in.
    """

    def __init__(
        self,
        views: Sequence[TrackerView],
        settings: Callable[[], ConsoleSettings],
        warn: Callable[[str], object],
    ) -> None:
        self._views, self._settings, self._warn = views, settings, warn
        self._loop = asyncio.get_running_loop()
        self._access = Access(settings(), self._loop.time)
        self._files = {
            file.name: (file.read_bytes(), _TYPES[file.suffix])
            for file in sorted(_STATIC.iterdir())
            if file.suffix in _TYPES
        }
        self._log_ins = asyncio.Semaphore(_MOST_LOG_INS)
        self._snapshots = asyncio.Semaphore(_MOST_SNAPSHOTS)
        self.viewers: set[Viewer] = set()
        self.refused = 0
        self._runner: web.AppRunner | None = None
        self._housekeeping: list[asyncio.Task[None]] = []
        self._spoken: set[web.RequestHandler] = set()  # connections that have made a request
        self._silent: dict[web.RequestHandler, float] = {}  # the others, since when

    async def start(self) -> str:
        """Listen, and return the address of the page.

        Raises:
            OSError: the address or the port cannot be had.
        """
        settings = self._settings()
        application = web.Application(
            middlewares=[self._guard], client_max_size=_MOST_REQUEST_BYTES
        )
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/login", self._log_in_page),
                web.post("/login", self._log_in),
                web.get("/ws", self._socket),
                web.get("/snapshot", self._snapshot),
                web.get("/{name}", self._file),
            ]
        )
        # aiohttp logs a traceback for each request that is not HTTP: anybody could fill the disk.
        logger = logging.Logger("vt_ros.console")
        logger.addHandler(_OneLine(self._warn))
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=logger,
            keepalive_timeout=_SECONDS_TO_SPEAK,
            shutdown_timeout=_PATIENCE_AT_END,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.address, settings.port)
        await site.start()
        self._housekeeping = [
            asyncio.ensure_future(self._keep_house()),
            *(asyncio.ensure_future(self._know_parameters(view)) for view in self._views),
        ]
        host = f"[{settings.address}]" if ":" in settings.address else settings.address
        return f"http://{host}:{self._runner.addresses[0][1]}/"

    async def close(self) -> None:
        """End all connections, and listen no more."""
        for task in self._housekeeping:
            task.cancel()
        closing = [asyncio.ensure_future(viewer.close()) for viewer in self.viewers]
        if closing:
            await asyncio.wait(closing, timeout=_PATIENCE_AT_END)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _keep_house(self) -> None:
        """Subscribe to images while somebody looks, and close connections that say nothing."""
        while True:
            for view in self._views:
                view.watch(bool(self.viewers))
            self._end_silent()
            await asyncio.sleep(_PERIOD)

    async def _know_parameters(self, view: TrackerView) -> None:
        """Know a tracker's parameters while somebody looks; one that hangs delays no other."""
        while True:
            if self.viewers:
                try:
                    await view.refresh_parameters()
                except Exception as error:  # of whatever another program answers
                    self._warn(f"parameters of {view.name}: {describe_error(error)}")
            await asyncio.sleep(_PERIOD)

    def _end_silent(self) -> None:
        """Close connections without a request: for aiohttp they may stay for ever."""
        if self._runner is None or self._runner.server is None:
            return
        connections = set(self._runner.server.connections)
        self._spoken &= connections
        now = self._loop.time()
        self._silent = {one: self._silent.get(one, now) for one in connections - self._spoken}
        for connection, since in self._silent.items():
            if now - since > _SECONDS_TO_SPEAK:
                connection.force_close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse requests from elsewhere, and tell browsers what the page may do."""
        self._spoken.add(request.protocol)
        objection = self._access.objection_to(request)
        if objection:
            self.refused += 1
            return web.Response(status=403, text=objection, headers=_HEADERS)
        try:
            if self._access.gives_token(request):
                await self._admit(lambda: self._access.role_of(request))
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if self._access.role_of(request) is None:
            raise web.HTTPSeeOther("/login")
        return self._static("index.html")

    async def _log_in_page(self, _request: web.Request) -> web.StreamResponse:
        return self._static("login.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in _PUBLIC and self._access.role_of(request) is None:
            raise web.HTTPForbidden(text="give the token first, at /login")
        return self._static(name)

    def _static(self, name: str) -> web.Response:
        """Return a file that was there at start; nothing else can be asked for."""
        if name not in self._files:
            raise web.HTTPNotFound(text="there is nothing of that name here")
        content, kind = self._files[name]
        return web.Response(body=content, content_type=kind, charset="utf-8")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        """Take the token out of the form, once; a cookie stands for it from then on."""
        try:
            form = await asyncio.wait_for(request.read(), _SECONDS_TO_SPEAK)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(text="the form did not come whole") from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(text="the form cannot be read") from None
        (token, *_) = parse_qs(form.decode("ascii", "replace")).get("token", [""])
        session = await self._admit(lambda: self._access.log_in(token))
        if session is None:
            raise web.HTTPSeeOther("/login#wrong")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self._access.cookie,
            session[0],
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    async def _admit(self, look_up: Callable[[], _T | None]) -> _T | None:
        """Return what a token stands for; None, a second later: nothing, it is a wrong one.

        Raises:
            HTTPServiceUnavailable: so many wait already that this one was not looked at.
        """
        if self._log_ins.locked():
            raise web.HTTPServiceUnavailable(text="too many log-ins at a time; try again")
        async with self._log_ins:
            found = look_up()
            if found is None:
                self.refused += 1
                await asyncio.sleep(_SECONDS_AFTER_WRONG_TOKEN)
        return found

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        """Return the newest frame of a tracker as PNG, its box drawn."""
        if self._access.role_of(request) is None:
            raise web.HTTPForbidden(text="give the token first, at /login")
        number = request.query.get("tracker", "")
        if not (number.isascii() and number.isdecimal() and len(number) < 4):
            raise web.HTTPBadRequest(text="tracker: expected the number of a tile, from 0")
        if int(number) >= len(self._views):
            raise web.HTTPNotFound(text=f"there are {len(self._views)} trackers, counted from 0")
        view = self._views[int(number)]
        frame = view.frame
        if frame is None:
            raise web.HTTPNotFound(text="no image has arrived yet")
        if self._snapshots.locked():
            raise web.HTTPServiceUnavailable(text="snapshots are being made; try again")
        try:
            async with self._snapshots:
                image = await view.encoder.snapshot(frame)
        except ConversionError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        name = f"{view.name.strip('/').replace('/', '_')}_{frame.stamp}.png"
        disposition = f'attachment; filename="{name}"'
        return web.Response(
            body=image, content_type="image/png", headers={"Content-Disposition": disposition}
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        role, settings = self._access.role_of(request), self._settings()
        if role is None:
            self.refused += 1
            raise web.HTTPForbidden(text="give the token first, at /login")
        if len(self.viewers) >= settings.max_viewers:
            self.refused += 1
            raise web.HTTPServiceUnavailable(
                text=f"{len(self.viewers)} browsers are connected, as many as max_viewers allows"
            )
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT, max_msg_size=MOST_MESSAGE_BYTES, compress=False
        )
        await socket.prepare(request)
        viewer = Viewer(socket, role, self._views, self._settings, self._warn)
        self.viewers.add(viewer)
        try:
            await viewer.serve(self._hello(role))
        except (ConnectionError, RuntimeError):
            pass  # it went while something was said to it
        finally:
            self.viewers.discard(viewer)
        return socket

    def _hello(self, role: Role) -> dict[str, Any]:
        return {
            "type": "hello",
            "role": role.value,
            "trackers": [view.name for view in self._views],
            # Of this machine; the trackers' machines may have others.
            "models": ["auto", *(n for n in list_models() if find_weights(get_spec(n)))],
        }


class _OneLine(logging.Handler):
    """Says what aiohttp logs in one line, without what a stranger wrote."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__()
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._warn(f"{record.getMessage()}: {kind.__name__ if kind else record.levelname}")
