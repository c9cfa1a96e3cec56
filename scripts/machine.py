# SPDX-License-Identifier: Apache-2.0
"""What this machine has: a Python, a C++ compiler, a sourced ROS 2. Says what to install if not.

Used by setup_env.py; standard library only, Python 3.8 or newer.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.10")
OLDEST = (3, 10)
NEWEST_WITH_WHEELS = (3, 13)  # ROS 2 Jazzy's wheels exist for 3.10 to 3.13
OLD_DISTROS = ("foxy", "galactic", "humble", "iron")
PROBE = """
import importlib.util as u, json, os, sys, sysconfig
headers = sysconfig.get_paths()["include"]
print(json.dumps({
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "version": sys.version_info[:2],
    "venv": all(map(u.find_spec, ("venv", "ensurepip"))),
    "headers": os.path.exists(os.path.join(headers, "Python.h")),
    "rclpy": u.find_spec("rclpy") is not None,
}))
"""


class SetupError(Exception):
    """Something the user has to put right; the text is one sentence that says how."""


@dataclass(frozen=True)
class Interpreter:
    """A Python found on this machine.

    Attributes:
        executable: Absolute path of the interpreter that is not itself in a virtual environment.
        version: (major, minor).
        venv: Whether it can make virtual environments.
        headers: Whether C extensions can be compiled for it.
        rclpy: Whether it finds rclpy, which a sourced ROS 2 provides for one Python only.
    """

    executable: str
    version: tuple[int, int]
    venv: bool
    headers: bool
    rclpy: bool

    @property
    def name(self) -> str:
        """Its version as Debian names packages by it: `python3.11`."""
        return "python{}.{}".format(*self.version)


def sourced_distro(environment: dict[str, str], venv: Path) -> str | None:
    """Returns the name of the ROS 2 that this terminal has sourced, or None.

    Raises:
        SetupError: A ROS is sourced that is older than Jazzy.
    """
    distro = environment.get("ROS_DISTRO", "")
    prefixes = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if distro in OLD_DISTROS or environment.get("ROS_VERSION") == "1":
        raise SetupError(
            f"ROS {distro or '1'} is sourced here, but this project needs Jazzy or newer: use "
            "a terminal without it (Jazzy then comes from PyPI), or source a newer one."
        )
    return distro if distro and any(Path(p) != venv for p in prefixes) else None


def probe(name: str) -> Interpreter | None:
    """Asks a Python what it can do; None when there is none of that name, or it does not answer."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        answer = subprocess.check_output([path, "-c", PROBE], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None  # a launcher without an interpreter behind it
    found = json.loads(answer)
    return Interpreter(**{**found, "version": tuple(found["version"])})


def find_python(distro: str | None) -> Interpreter:
    """Returns the interpreter of this machine to build on; see `choose_python`."""
    candidates = (probe(name) for name in (sys.executable, *PYTHONS))
    return choose_python([python for python in candidates if python is not None], distro)


def choose_python(found: list[Interpreter], distro: str | None) -> Interpreter:
    """Picks the interpreter to build on: the first that is complete, else the first that fits.

    Args:
        found: What the machine has, the preferred one first.
        distro: The sourced ROS 2, or None.

    Raises:
        SetupError: None fits; names the apt package that helps.
    """
    new_enough = [python for python in found if python.version >= OLDEST]
    if not new_enough:
        versions = ", ".join(sorted({python.name for python in found})) or "none"
        raise SetupError(
            f"Python 3.10 or newer is needed and this machine has {versions}: on Debian 12, Ubuntu "
            "22.04 and later, run `sudo apt install python3 python3-venv python3-dev`."
        )
    if distro is not None:
        fitting = [python for python in new_enough if python.rclpy]
        if not fitting:
            raise SetupError(
                f"ROS 2 {distro} is sourced but no Python here can import rclpy: run "
                f"`sudo apt install ros-{distro}-rclpy python3-venv`, and source ROS here again."
            )
    else:
        fitting = [python for python in new_enough if python.version <= NEWEST_WITH_WHEELS]
        if not fitting:
            raise SetupError(
                f"ROS 2 Jazzy's wheels exist for Python 3.10 to 3.13 and this machine has only "
                f"{new_enough[0].name}: run `sudo apt install python3.13 python3.13-venv "
                "python3.13-dev`, or source an installed ROS 2."
            )
    return next((python for python in fitting if python.venv and python.headers), fitting[0])


def missing_packages(python: Interpreter, compiler: str | None) -> list[str]:
    """Returns the apt packages without which the set-up cannot succeed."""
    missing = []
    if not python.venv:
        missing.append(f"{python.name}-venv")
    if not python.headers:
        missing.append(f"{python.name}-dev")
    if compiler is None:
        missing.append("g++")
    return missing


def check_machine(python: Interpreter, distro: str | None) -> None:
    """Checks that the interpreter, the compiler and the processor will do, before any download.

    Raises:
        SetupError: Names the apt packages to install.
    """
    if distro is None and platform.machine() not in {"x86_64", "AMD64"}:
        raise SetupError(
            f"ROS 2 Jazzy's wheels exist for x86_64 only and this machine is {platform.machine()}: "
            "install ROS 2 Jazzy with apt (docs.ros.org) and source it in this terminal."
        )
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    compiler = next((name for name in compilers if name and shutil.which(name)), None)
    missing = missing_packages(python, compiler)
    if missing:
        what = {"g++": "a C++ compiler", f"{python.name}-dev": "Python's headers"}
        names = " and ".join(what.get(name, "Python's venv module") for name in missing)
        raise SetupError(
            f"This machine lacks {names} (for {python.executable}): run "
            f"`sudo apt install {' '.join(missing)}` and try again."
        )
