# SPDX-License-Identifier: Apache-2.0
"""Who may see the page and who may act: tokens, cookies, and where a request comes from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from enum import Enum
from urllib.parse import urlsplit

from aiohttp import web

from vt_ros.console.parameters import ConsoleSettings

SESSION_SECONDS = 12 * 3600
"""After so long a browser is asked for the token again."""

_MOST_SESSIONS = 256
_BEARER = "Bearer "


class Role(Enum):
    """What somebody may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Access:
    """Decides about requests; holds no token in the clear that a browser could be given.

    Args:
        settings: tokens, names of this machine, and whether anybody may act.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: ConsoleSettings, clock: Callable[[], float]) -> None:
        self._settings, self._clock = settings, clock
        # By hash: looking a cookie up tells nothing about others, however long it takes.
        self._sessions: dict[bytes, tuple[Role, float]] = {}

    @property
    def needs_token(self) -> bool:
        """Whether nobody is let in without a token."""
        return bool(self._settings.operator_token)

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers share cookies between the ports of a machine."""
        return f"vt_console_{self._settings.port}"

    def role_of(self, request: web.Request) -> Role | None:
        """Return what the sender of a request may do; None: nothing, before a token is given."""
        role = None if self.needs_token else Role.OPERATOR
        if self.gives_token(request):
            token = request.headers["Authorization"].removeprefix(_BEARER)
            role = self._role_of_token(token) or role
        elif self.cookie in request.cookies:
            role = self._role_of_cookie(request.cookies[self.cookie]) or role
        return self._limited(role)

    def gives_token(self, request: web.Request) -> bool:
        """Return whether a request brings a token along, right or wrong."""
        return request.headers.get("Authorization", "").startswith(_BEARER)

    def log_in(self, token: str) -> tuple[str, Role] | None:
        """Return a cookie's value for a token, and the role; None: it is not the token."""
        role = self._role_of_token(token.strip())
        if role is None:
            return None
        now = self._clock()
        self._sessions = {key: each for key, each in self._sessions.items() if each[1] > now}
        while len(self._sessions) >= _MOST_SESSIONS:  # the oldest is asked again
            del self._sessions[next(iter(self._sessions))]
        value = secrets.token_urlsafe(32)
        self._sessions[_hash(value)] = role, now + SESSION_SECONDS
        return value, role

    def objection_to(self, request: web.Request) -> str:
        """Return why a request does not come from a page of this server; empty: it does.

        The name in `Host` must be one of this machine's, or a page elsewhere whose name was made to
        point here (DNS rebinding) would be taken for ours; `Origin`, which browsers always send
        with a WebSocket and with a form, must be this server itself. Another page may lead here by
        a link, and embed or fetch nothing.
        """
        host = request.headers.get("Host", "")
        if not self._is_own(host):
            return (
                f"this console is not known as {host[:100]!r}; use its IP address, or add the name "
                "to the parameter hosts"
            )
        origin = request.headers.get("Origin")
        is_own = origin is None or origin.lower().partition("://")[2] == host.lower()
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        is_link = request.method == "GET" and request.path in ("/", "/login")
        if not is_own or (site in ("cross-site", "same-site") and not is_link):
            return "this request comes from another page than the console's own"
        return ""

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name in self._settings.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address cannot be made to point elsewhere

    def _role_of_token(self, token: str) -> Role | None:
        """Compare with both tokens, each in the same time whatever was given."""
        given = token.encode("utf-8", "replace")
        is_operator = _equal(given, self._settings.operator_token)
        is_viewer = _equal(given, self._settings.viewer_token)
        return Role.OPERATOR if is_operator else Role.VIEWER if is_viewer else None

    def _role_of_cookie(self, value: str) -> Role | None:
        role, expires = self._sessions.get(_hash(value), (None, 0.0))
        return role if expires > self._clock() else None

    def _limited(self, role: Role | None) -> Role | None:
        return Role.VIEWER if role is not None and self._settings.read_only else role


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _equal(given: bytes, token: str) -> bool:
    """Compare in constant time, also for different lengths; an empty token equals nothing."""
    digests = (hashlib.sha256(text).digest() for text in (given, token.encode()))
    return hmac.compare_digest(*digests) and bool(token)
