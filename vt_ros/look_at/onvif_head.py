# SPDX-License-Identifier: Apache-2.0
"""Moves an ONVIF camera with pan and tilt: the newest velocities, by ContinuousMove and Stop.

`onvif-zeep-async` speaks SOAP; it is imported here alone, where the output `onvif` is chosen.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from rclpy.impl.rcutils_logger import RcutilsLogger

from vt_ros.common.errors import describe_error
from vt_ros.look_at.parameters import OnvifSettings

_T = TypeVar("_T")

_TICK = 0.02  # seconds between two looks at what is wanted
_RETRY = 2.0  # seconds until a camera that does not answer is asked again
_CALL_TIMEOUT = 1.0  # seconds; a camera on its network answers in some hundredths
_CONNECT_TIMEOUT = 10.0  # seconds, for all calls of the beginning together

# The camera stops by itself after this time without another command: when this process is killed,
# the network breaks, or a Stop is lost.
_MOVE_TIMEOUT = timedelta(seconds=0.5)
_REFRESH = 0.2  # seconds after which the same velocity is sent again
_EXPIRED = 0.3  # seconds after which a velocity that was not set again is none
_SAME = 0.005  # a velocity that differs by less is not sent anew
_LONGEST_REASON = 200  # characters of what a camera says is wrong


class OnvifHead:
    """A camera that a thread of its own talks to; no method waits, but `close`.

    Args:
        settings: where it is, and who we are.
        log: is told when it answers and when it does not; never a password.

    Attributes:
        problem: why velocities do not arrive; empty while they do.
    """

    def __init__(self, settings: OnvifSettings, log: RcutilsLogger) -> None:
        self._settings, self._log = settings, log
        self._name = f"the ONVIF camera at {settings.host}:{settings.port}"
        self.problem = f"{self._name} has not answered yet"
        self._lock = threading.Lock()
        self._wanted, self._set_at = (0.0, 0.0), -math.inf
        self._goes_home = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="onvif", daemon=True
        )
        self._thread.start()

    def set_velocity(self, pan: float, tilt: float) -> None:
        """Move to the right and upwards, as shares of the fastest, -1 to 1, until told otherwise.

        What is not set again within 0.3 s is zero.
        """
        with self._lock:
            limited = max(-1.0, min(pan, 1.0)), max(-1.0, min(tilt, 1.0))
            self._wanted, self._set_at, self._goes_home = limited, time.monotonic(), False

    def go_home(self) -> None:
        """Go to the home position that the camera knows, at its own speed."""
        with self._lock:
            self._wanted, self._goes_home = (0.0, 0.0), True

    def close(self, patience: float) -> None:
        """Stop the camera, and end; waits so many seconds for that."""
        self._stopping.set()
        self._thread.join(patience)

    async def _run(self) -> None:
        """Talk to the camera, and begin again when it does not answer."""
        from onvif import ONVIFCamera  # noqa: PLC0415 - an extra

        settings = self._settings
        while not self._stopping.is_set():
            camera: Any = ONVIFCamera(
                settings.host,
                settings.port,
                settings.username or None,
                settings.password or None,
                adjust_time=bool(settings.username),  # or a camera with another time refuses us
            )
            try:
                await self._serve(camera)
            except Exception as error:  # of whatever type: it is the camera's, or the library's
                self._fail(error)
            finally:
                await camera.close()
            end = time.monotonic() + _RETRY
            while time.monotonic() < end and not self._stopping.is_set():
                await asyncio.sleep(_TICK)

    def _fail(self, error: Exception) -> None:
        reason = "no answer in time" if isinstance(error, TimeoutError) else describe_error(error)
        if self._settings.password:
            reason = reason.replace(self._settings.password, "***")
        problem = f"{self._name}: {reason[:_LONGEST_REASON]}"
        if problem != self.problem:  # once, not at every attempt
            self._log.warning(f"{problem}; tried again every {_RETRY:g} s")
        self.problem = problem

    async def _serve(self, camera: Any) -> None:
        """Send what is wanted, as long as the camera answers, or until `close`."""
        ptz, profile = await _within(_CONNECT_TIMEOUT, self._connect(camera))
        stop = {"ProfileToken": profile, "PanTilt": True, "Zoom": False}
        await _within(_CALL_TIMEOUT, ptz.Stop(stop))
        self.problem = ""
        self._log.info(f"{self._name} answers; profile {profile}")
        sent, sent_at, is_home = (0.0, 0.0), -math.inf, False
        while True:
            is_over = self._stopping.is_set()
            wanted, goes_home = self._newest()
            now = time.monotonic()
            if is_over or (wanted == (0.0, 0.0) and not goes_home):
                if is_over or sent != (0.0, 0.0):
                    await _within(_CALL_TIMEOUT, ptz.Stop(stop))
                    sent = (0.0, 0.0)
                is_home = False
            elif goes_home:
                if not is_home:
                    await _within(_CALL_TIMEOUT, ptz.GotoHomePosition({"ProfileToken": profile}))
                    sent, is_home = (0.0, 0.0), True
            elif math.dist(wanted, sent) > _SAME or now - sent_at >= _REFRESH:
                move = {
                    "ProfileToken": profile,
                    "Velocity": {"PanTilt": {"x": wanted[0], "y": wanted[1]}},
                    "Timeout": _MOVE_TIMEOUT,
                }
                # Before it is known to have arrived: if it has not, a Stop does no harm.
                sent, sent_at, is_home = wanted, now, False
                await _within(_CALL_TIMEOUT, ptz.ContinuousMove(move))
            if is_over:
                return
            await asyncio.sleep(_TICK)

    async def _connect(self, camera: Any) -> tuple[Any, str]:
        """Return the service that moves, and the profile that it moves."""
        await camera.update_xaddrs()
        media = await camera.create_media_service()
        profiles = await media.GetProfiles()
        tokens = [str(one.token) for one in profiles if one.PTZConfiguration is not None]
        wanted = self._settings.profile
        if not tokens:
            raise RuntimeError("it has no profile with pan and tilt")
        if wanted and wanted not in tokens:
            raise RuntimeError(f"onvif.profile is {wanted!r}, the camera has {', '.join(tokens)}")
        return await camera.create_ptz_service(), wanted or tokens[0]

    def _newest(self) -> tuple[tuple[float, float], bool]:
        """Return the velocity that is wanted, and whether it is to go home instead."""
        with self._lock:
            if time.monotonic() - self._set_at > _EXPIRED:
                self._wanted = (0.0, 0.0)
            return self._wanted, self._goes_home


async def _within(seconds: float, call: Awaitable[_T]) -> _T:
    return await asyncio.wait_for(call, seconds)
