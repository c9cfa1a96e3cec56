# SPDX-License-Identifier: Apache-2.0
"""Where the files beside the code lie: configuration and demo footage."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "vt_ros"
# The first before Fast DDS 3, the second from it on.
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# A profile of ours would come before these transports.
_TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"


def config_file(name: str) -> Path:
    """Return the path of a file of the folder `config`.

    It is searched for beside the source tree first, then where ROS (ament index) or pip has
    installed it.

    Raises:
        FileNotFoundError: it is in none of these places; the message names them.
    """
    folders = [Path(__file__).resolve().parents[2], *_ament_share(), _pip_share()]
    for folder in folders:
        path = folder / "config" / name
        if path.is_file():
            return path
    places = ", ".join(str(folder / "config") for folder in folders)
    raise FileNotFoundError(f"{name} is in none of {places}; install {PACKAGE} again")


def fast_dds_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make Fast DDS pass large images, see config/fastdds.xml.

    Args:
        environment: of the process that will have them. Where it names a profile or transports of
            the user's own, these are kept, and there is nothing to add.
    """
    if any(environment.get(name) for name in (*_PROFILE_VARIABLES, _TRANSPORT_VARIABLE)):
        return {}
    return dict.fromkeys(_PROFILE_VARIABLES, str(config_file("fastdds.xml")))


def footage_file(name: str) -> Path:
    """Return the path of a demo video, whether it is there or not; `make demo` puts it there."""
    return _pip_share() / "footage" / name


def _pip_share() -> Path:
    return Path(sys.prefix) / "share" / PACKAGE


def _ament_share() -> list[Path]:
    """Return the package's share folders according to ROS; none outside a ROS environment."""
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    return [Path(prefix) / "share" / PACKAGE for prefix in prefixes]
