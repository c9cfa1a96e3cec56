# SPDX-License-Identifier: Apache-2.0
"""Ways to ground stations and autopilots: UDP to or from them, TCP, a serial port."""

from __future__ import annotations

import os
import re
import select
import socket
import termios
import threading
import tty
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

from vt_models.errors import InputError
from vt_ros.mavlink.messages import Frame, FrameReader

Address = tuple[str, int]

TURN = 0.2
"""Seconds that `receive` waits at most, so that a thread that is to end does."""

_CONNECT_TIMEOUT = 1.0
_LARGEST_DATAGRAM = 65535
_FORMS = "udpout:HOST:PORT, udpin:HOST:PORT, tcp:HOST:PORT or serial:DEVICE:BAUD"


@dataclass(frozen=True)
class LinkUrl:
    """Where a link leads to.

    Attributes:
        kind: udpout, udpin, tcp or serial.
        place: a host or a device.
        number: a port or a baud rate.
    """

    kind: str
    place: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}:{self.number}"


def parse_url(text: str, parameter: str) -> LinkUrl:
    """Read one URL.

    Args:
        text: the URL.
        parameter: that it is of; it stands in the error.

    Raises:
        InputError: it has none of the forms, or an impossible port or baud rate.
    """
    match = re.fullmatch(r"(udpout|udpin|tcp|serial):(.+):(\d{1,7})", text)
    if match is None:
        raise InputError(f"{parameter} is {text!r}, expected {_FORMS}")
    url = LinkUrl(match[1], match[2].strip("[]"), int(match[3]))
    if url.kind != "serial" and not 0 < url.number < 65536:
        raise InputError(f"{parameter} is {text!r}, expected a port from 1 to 65535")
    if url.kind == "serial" and not hasattr(termios, f"B{url.number}"):
        raise InputError(
            f"{parameter} is {text!r}, expected a usual baud rate such as 57600 or 921600"
        )
    return url


class Link(ABC):
    """A connection that opens itself, and opens itself again when it has broken.

    One thread calls `receive` again and again; any thread may call `send`.

    Args:
        url: says where to.
        accept_signed: read frames that are signed.

    Attributes:
        fixed: there is exactly one other end, which has no address.
        problem: why it is not open; empty if it is.
        counts: of frames sent, "unsent", and what `FrameReader` counts.
    """

    fixed = True

    def __init__(self, url: LinkUrl, accept_signed: bool) -> None:
        self.url, self.problem = url, "not open yet"
        self.counts: Counter[str] = Counter()
        self._accept_signed = accept_signed
        self._reader = FrameReader(accept_signed)
        self._lock = threading.Lock()  # lest a frame goes to what is opened after this was closed
        self._send_error: OSError | None = None

    def receive(self) -> list[tuple[Frame, Address | None]]:
        """Return the frames that have arrived, after waiting for some for `TURN` seconds at most.

        Raises:
            OSError: it cannot be opened, or is broken; `problem` says so too. Call it again later.
        """
        try:
            if self.problem:
                self._open()
                self._reader, self._send_error = FrameReader(self._accept_signed), None
                self.problem = ""
            if self._send_error is not None:
                raise self._send_error
            if not select.select([self._fileno()], [], [], TURN)[0]:
                return []
            return self._read()
        except (OSError, UnicodeError) as error:  # the latter is of a name that is no host's
            self.problem = getattr(error, "strerror", "") or str(error)
            self.close()
            raise OSError(self.problem) from error
        finally:
            with self._lock:
                self.counts.update(self._reader.counts)
            self._reader.counts.clear()

    def send(self, frame: bytes, address: Address | None) -> None:
        """Send a frame if that is possible now; count it as unsent otherwise."""
        with self._lock:
            sent = False
            if not self.problem:
                try:
                    sent = self._write(frame, address)
                except (BlockingIOError, ConnectionRefusedError):
                    pass  # too much at a time; or nobody listens there at the moment
                except OSError as error:
                    self._send_error = error
            self.counts["sent" if sent else "unsent"] += 1

    def close(self) -> None:
        """Close what is open; `receive` opens it again."""
        with self._lock:
            self.problem = self.problem or "closed"
            self._close()

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _fileno(self) -> int: ...

    @abstractmethod
    def _read(self) -> list[tuple[Frame, Address | None]]: ...

    @abstractmethod
    def _write(self, frame: bytes, address: Address | None) -> bool: ...


class UdpLink(Link):
    """UDP to one address (udpout), or from all that send to ours (udpin)."""

    def __init__(self, url: LinkUrl, accept_signed: bool) -> None:
        super().__init__(url, accept_signed)
        self.fixed = url.kind == "udpout"
        self._socket: socket.socket | None = None

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _open(self) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            self.url.place, self.url.number, type=socket.SOCK_DGRAM
        )[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        if self.fixed:
            self._socket.connect(address)  # so that nobody else is heard
        else:
            self._socket.bind(address)

    def _fileno(self) -> int:
        return self._opened().fileno()

    def _read(self) -> list[tuple[Frame, Address | None]]:
        try:
            data, address = self._opened().recvfrom(_LARGEST_DATAGRAM)
        except (BlockingIOError, ConnectionRefusedError):  # nobody listens there at the moment
            return []
        sender = None if self.fixed else (address[0], address[1])
        return [(frame, sender) for frame in self._reader.read_datagram(data)]

    def _write(self, frame: bytes, address: Address | None) -> bool:
        if address is None:
            return self._opened().send(frame) == len(frame)
        return self._opened().sendto(frame, address) == len(frame)

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise OSError("the socket is closed")
        return self._socket


class StreamLink(Link):
    """TCP to a server, or a serial port: a file descriptor and no boundaries between frames."""

    def __init__(self, url: LinkUrl, accept_signed: bool) -> None:
        super().__init__(url, accept_signed)
        self._descriptor = -1
        self._unwritten = b""

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        opened = _open_serial if self.url.kind == "serial" else _open_tcp
        self._unwritten, self._descriptor = b"", opened(self.url)

    def _fileno(self) -> int:
        return self._descriptor

    def _read(self) -> list[tuple[Frame, Address | None]]:
        try:
            data = os.read(self._descriptor, _LARGEST_DATAGRAM)
        except BlockingIOError:
            return []
        if not data:
            raise OSError("the other end has closed it")
        return [(frame, None) for frame in self._reader.read_stream(data)]

    def _write(self, frame: bytes, address: Address | None) -> bool:  # noqa: ARG002 - it has one end
        # A frame that was begun has to be ended before another one.
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(self._descriptor, self._unwritten) :]
        self._unwritten = frame[os.write(self._descriptor, frame) :]
        return True


def create_link(url: LinkUrl, accept_signed: bool) -> Link:
    """Return the link of a URL; it opens itself at the first `receive`."""
    return (UdpLink if url.kind.startswith("udp") else StreamLink)(url, accept_signed)


def _open_tcp(url: LinkUrl) -> int:
    connection = socket.create_connection((url.place, url.number), _CONNECT_TIMEOUT)
    connection.setblocking(False)
    # A status is worth nothing when it waits to be sent together with the next one.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection.detach()


def _open_serial(url: LinkUrl) -> int:
    descriptor = os.open(url.place, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(descriptor)
        attributes = termios.tcgetattr(descriptor)
        attributes[2] |= termios.CLOCAL  # no modem's lines
        attributes[4] = attributes[5] = getattr(termios, f"B{url.number}")
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    except termios.error as error:
        os.close(descriptor)
        raise OSError(f"{url.place} is no serial port: {error}") from error
    return descriptor
