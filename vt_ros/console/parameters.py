# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node `console`, and the object that its parts read."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vt_models.errors import InputError
from vt_models.files import open_regular
from vt_models.video.image_messages import MAX_MEGAPIXELS
from vt_ros.common.parameters import AUTOSTART, HARDWARE_ID, Setting, Value, check_ros_name

_HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_SHORTEST_TOKEN, _LONGEST_TOKEN, _MOST_TOKEN_BYTES = 16, 256, 1024
_HOW_TO_MAKE_ONE = (
    "make one with `(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > "
    "console.token)`"
)

SETTINGS = (
    AUTOSTART,
    Setting(
        "trackers",
        ["tracker"],
        "Names of the tracker nodes, relative or absolute; one tile for each.",
    ),
    Setting(
        "images",
        [""],
        'Topic of each tracker\'s images, in the same order; "": image_raw in the namespace of the '
        "tracker.",
    ),
    Setting(
        "image_transport",
        "raw",
        "Transport of the images: raw, or compressed (JPEG or PNG, TOPIC/compressed).",
        choices=("raw", "compressed"),
    ),
    Setting(
        "image.max_megapixels",
        MAX_MEGAPIXELS,
        "Larger images are not shown; the size that they declare counts.",
        0.01,
        512.0,
        live=True,
    ),
    Setting(
        "address",
        "127.0.0.1",
        "IP address to listen on. 127.0.0.1 or ::1 is this machine alone; any other, as 0.0.0.0 "
        "for all networks, needs token_file.",
    ),
    Setting("port", 8080, "TCP port to listen on; 0: a free one.", 0, 65535),
    Setting(
        "hosts",
        [""],
        "Names by which browsers reach this machine, as robot.local; IP addresses and localhost "
        "are known without.",
    ),
    Setting(
        "token_file",
        "",
        "File with the token of operators, at least 16 characters, readable by its owner alone; "
        "empty: no token, on this machine alone.",
        read_only=True,
    ),
    Setting(
        "viewer_token_file",
        "",
        "File with a second token, of viewers that may look and not touch; empty: none.",
        read_only=True,
    ),
    Setting("read_only", False, "Everybody may look, and nobody touch."),
    Setting("max_viewers", 8, "Browsers at a time; further ones are refused.", 1, 64),
    Setting(
        "controls",
        ["model", "target.*_threshold", "target.confirm"],
        "Parameters of the trackers, by name with * and ?, that operators may change.",
    ),
    Setting(
        "max_width",
        1280,
        "Widest frame that is sent, pixels; the link may make it smaller.",
        160,
        7680,
        live=True,
    ),
    Setting("max_quality", 80, "Best JPEG quality; the link may make it lower.", 20, 95, live=True),
    Setting(
        "max_rate",
        60.0,
        "Frames per second to one browser, at most.",
        0.5,
        120.0,
        live=True,
    ),
    Setting(
        "transfer_time",
        0.08,
        "Seconds that a frame may take through the link, beside the link's own delay; size and "
        "quality follow from it.",
        0.01,
        2.0,
        live=True,
    ),
    Setting(
        "tracker_timeout",
        2.0,
        "Seconds without a status of the tracker after which frames are shown without one.",
        0.1,
        60.0,
        live=True,
    ),
    Setting(
        "request_timeout",
        60.0,
        "Seconds that the tracker may take to answer, a search for a text included; for STOP and a "
        "confirmation 5 at most.",
        1.0,
        600.0,
        live=True,
    ),
    Setting(
        "buffer_megabytes",
        64,
        "Memory of each tile for frames that wait for their status.",
        1,
        4096,
    ),
    HARDWARE_ID,
)


@dataclass(frozen=True)
class TrackerSource:
    """One tile.

    Attributes:
        name: of the tracker node, relative or absolute.
        images: topic of its images; empty: image_raw in the tracker's namespace.
    """

    name: str
    images: str


@dataclass(frozen=True)
class ConsoleSettings:
    """The parameters together.

    Attributes:
        sources: the tiles.
        hosts: names by which browsers reach the page, in lower case.
        operator_token, viewer_token: empty where there is none.
        controls: patterns of the names of the trackers' parameters that operators may change.
        interval: seconds between two frames of one tile to one browser, at least.
        buffer_bytes: of each tile's frames that wait for their status.

    The others are parameters as they are; times in seconds.
    """

    sources: tuple[TrackerSource, ...]
    image_transport: str
    max_megapixels: float
    address: str
    port: int
    hosts: tuple[str, ...]
    operator_token: str
    viewer_token: str
    read_only: bool
    max_viewers: int
    controls: tuple[str, ...]
    max_width: int
    max_quality: int
    interval: float
    transfer_time: float
    tracker_timeout: float
    request_timeout: float
    buffer_bytes: int
    hardware_id: str


def read_settings(value: Callable[[str], Value]) -> ConsoleSettings:
    """Return the parameters together; `value` gives a parameter's value by name.

    Raises:
        InputError: one of them, or two together, make no sense, or a token file is not to be
            relied on; the message says which and what to do.
    """
    try:
        address = ipaddress.ip_address(str(value("address")))
    except ValueError:
        raise InputError(
            f"address is {value('address')!r}, expected an IP address: 127.0.0.1 for this machine "
            "alone, 0.0.0.0 for all its networks"
        ) from None
    hosts = [host.lower() for host in _texts(value("hosts"))]
    for host in hosts:
        if not re.fullmatch(_HOST_NAME, host):
            raise InputError(f"hosts has {host!r}, expected a name as robot.local, without a port")
    operator_token = _read_token(value, "token_file")
    viewer_token = _read_token(value, "viewer_token_file")
    if not address.is_loopback and not operator_token:
        raise InputError(
            f"address is {address}, which other machines reach, and token_file is empty; "
            f"{_HOW_TO_MAKE_ONE} and give its path, or listen on 127.0.0.1"
        )
    if viewer_token and not operator_token:
        raise InputError("viewer_token_file is given without token_file; read_only needs no token")
    if viewer_token and viewer_token == operator_token:
        raise InputError("token_file and viewer_token_file hold the same token; make another one")
    return ConsoleSettings(
        sources=_read_sources(value),
        image_transport=str(value("image_transport")),
        max_megapixels=float(value("image.max_megapixels")),
        address=str(address),
        port=int(value("port")),
        hosts=tuple(hosts),
        operator_token=operator_token,
        viewer_token=viewer_token,
        read_only=bool(value("read_only")),
        max_viewers=int(value("max_viewers")),
        controls=tuple(_texts(value("controls"))),
        max_width=int(value("max_width")),
        max_quality=int(value("max_quality")),
        interval=1.0 / float(value("max_rate")),
        transfer_time=float(value("transfer_time")),
        tracker_timeout=float(value("tracker_timeout")),
        request_timeout=float(value("request_timeout")),
        buffer_bytes=int(value("buffer_megabytes")) * 1024 * 1024,
        hardware_id=str(value("hardware_id")),
    )


def _read_sources(value: Callable[[str], Value]) -> tuple[TrackerSource, ...]:
    """Return the tiles that `trackers` and `images` ask for."""
    names, images = _texts(value("trackers")), _texts(value("images"), keep_empty=True)
    if not names:
        raise InputError("trackers is empty; give the names of tracker nodes, as [tracker]")
    for name in names:
        check_ros_name("one of trackers", name, "a node")
    if len(set(names)) < len(names):
        raise InputError(f"trackers names one twice: {', '.join(names)}")
    if not any(images):
        images = [""] * len(names)
    if len(images) != len(names):
        raise InputError(
            f"images has {len(images)} topics for {len(names)} trackers; give one for each, in "
            'the same order, "" for image_raw beside the tracker'
        )
    for topic in filter(None, images):
        check_ros_name("one of images", topic, "a topic")
    return tuple(map(TrackerSource, names, images))


def _texts(value: Any, keep_empty: bool = False) -> list[str]:
    """Return a list of strings without spaces around them; [""] stands for an empty one."""
    texts = [str(text).strip() for text in value]
    return texts if keep_empty else [text for text in texts if text]


def _read_token(value: Callable[[str], Value], name: str) -> str:
    """Return the token in the file that a parameter names; its content is in no message.

    Raises:
        InputError: the file cannot be read, others may read it, or it holds no good token.
    """
    given = str(value(name))
    if not given:
        return ""
    path = Path(given).expanduser()
    try:
        with open_regular(path, _MOST_TOKEN_BYTES) as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read().decode("ascii").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{name}: {path} cannot be read ({reason}); {_HOW_TO_MAKE_ONE}") from error
    except UnicodeDecodeError:
        raise InputError(f"{name}: {path} holds no ASCII text; {_HOW_TO_MAKE_ONE}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"{name}: others than the owner may use {path} (mode {stat.S_IMODE(mode):o}); run "
            f"`chmod 600 {path}`"
        )
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise InputError(
            f"{name}: {path} holds no token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} letters, "
            f"digits and signs without spaces; {_HOW_TO_MAKE_ONE}"
        )
    return token
