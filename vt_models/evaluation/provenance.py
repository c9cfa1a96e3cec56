# SPDX-License-Identifier: Apache-2.0
"""What a result needs beside its numbers: command, commit, machine, versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2

VECTOR_INSTRUCTIONS = {
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "avx": "AVX",
    "sse2": "SSE2",
    "sve": "SVE",
    "asimd": "NEON",
}
"""Names by the processor's flags, the widest first."""
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
    """Processor, its vector instructions, usable cores, load of the last minute, and system."""
    information = ""
    with suppress(OSError):
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.+)$", information, re.MULTILINE)
    return {
        "cpu": name[1].strip() if name else platform.processor() or None,
        "vector": vector_instructions(information),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
    }


def vector_instructions(information: str) -> str | None:
    """Name the widest vector instructions of the first processor in the text of /proc/cpuinfo.

    Milliseconds, and ratios between programs that use them to different degrees, hold for one
    width alone. None where the text names none of those that are known here.
    """
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", information, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return next((name for flag, name in VECTOR_INSTRUCTIONS.items() if flag in flags), None)


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
