# SPDX-License-Identifier: Apache-2.0
"""What a result needs beside its numbers: command, commit, machine, versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2

PACKAGES = ("numpy", "onnxruntime", "torch", "timm", "onnx")


def provenance(command: str, seed: int) -> dict[str, object]:
    """Describe this run for a result file.

    Args:
        command: what a reader types to repeat it.
        seed: of random weights, or of whatever else was drawn.

    Returns:
        JSON-serialisable: command, commit, modified (tracked files differ from the commit), date
        (UTC), seed, machine, versions. Unknown values are None; packages that are not installed
        are left out.
    """
    repository = Path(__file__).resolve().parents[2]
    commit = _git(repository, "rev-parse", "HEAD")
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {
        "command": command,
        "commit": commit,
        "modified": None if changes is None else bool(changes),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> dict[str, object]:
    """Processor, usable cores, load average of the last minute, and system."""
    names: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or None,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
    }


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that decide numbers."""
    found = {"python": platform.python_version(), "opencv": cv2.__version__}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def command_line() -> str:
    """The running command as a shell would take it, without the interpreter's path."""
    program = Path(sys.argv[0])
    if program.stem == "__main__":
        words = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        words = ["python", "-m", f"{program.parent.name}.{program.stem}"]
    else:
        words = [program.name]
    return shlex.join([*words, *sys.argv[1:]])


def _git(repository: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
