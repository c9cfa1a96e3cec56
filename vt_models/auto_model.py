# SPDX-License-Identifier: Apache-2.0
"""The model called "auto": what suits the machine, of the models with installed weights.

A Jetson gets the largest AsymTrack that its memory and power mode carry (the authors measure 84,
78 and 64 frames a second for T, S and B on an AGX Xavier, AAAI 2025, table 1), a CUDA GPU gets
ProContEXT, everything else the default. A model without installed weights is passed over, and the
reason says so; bundled weights of such a model do not count, as the default's are better.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vt_models.registry import get_spec, list_models
from vt_models.runtime.export_directory import MANIFEST
from vt_models.runtime.installed_weights import installed_directory

if TYPE_CHECKING:
    from collections.abc import Callable

AUTO = "auto"

_GIB_IN_KIB = 1 << 20
# What a board must have for a variant: memory in GiB (a board of 16 GB shows 15 and some) and its
# power budget in watts. The smallest has no demands.
_JETSON_NEEDS = (("asymtrack_b", 14.0, 20.0), ("asymtrack_s", 7.0, 10.0), ("asymtrack_t", 0.0, 0.0))


@dataclass(frozen=True)
class Hardware:
    """Properties of a machine that the choice depends on.

    Attributes:
        jetson: the board's name, None on other machines.
        memory_gib: main memory.
        power_mode: of a Jetson, as `nvpmodel -q` names it ("MAXN", "MODE_15W_6CORE"); None where
            it is unknown.
        cuda: a CUDA GPU that ONNX Runtime can use.
    """

    jetson: str | None
    memory_gib: float
    power_mode: str | None
    cuda: bool


@dataclass(frozen=True)
class Choice:
    """A model, and the reason in one sentence."""

    name: str
    reason: str


def choose_model(
    hardware: Hardware | None = None, has_weights: Callable[[str], bool] | None = None
) -> Choice:
    """Choose a model for a machine.

    Args:
        hardware: None probes this machine.
        has_weights: whether a model's weights are installed; None checks the file system.
    """
    hardware = hardware or probe_hardware()
    has_weights = has_weights or _has_weights
    default = list_models()[0]
    wanted, why = _wanted(hardware)
    for name in wanted:
        if has_weights(name):
            return Choice(name, why)
    if not wanted:
        return Choice(default, f"{why}: {default}, which is bundled")
    return Choice(
        default, f"{why}, but no weights of {wanted[0]} are installed: {default} is bundled"
    )


def probe_hardware(root: Path = Path("/")) -> Hardware:
    """Probe this machine.

    Args:
        root: where its /proc and /dev are.
    """
    jetson = _jetson(root)
    return Hardware(
        jetson=jetson,
        memory_gib=_memory_gib(root),
        power_mode=_power_mode() if jetson else None,
        cuda=_has_cuda(root),
    )


def _wanted(hardware: Hardware) -> tuple[tuple[str, ...], str]:
    """Return the models that suit a machine, the best first, and the reason."""
    if hardware.jetson:
        watts = _watts(hardware.power_mode)
        fitting = tuple(
            name
            for name, memory, power in _JETSON_NEEDS
            if hardware.memory_gib >= memory and watts >= power
        )
        mode = hardware.power_mode or "unknown"
        return fitting, (
            f"{hardware.jetson} with {hardware.memory_gib:.0f} GiB in power mode {mode} "
            f"suits {fitting[0]}"
        )
    if hardware.cuda:
        return ("procontext",), "a CUDA GPU suits procontext"
    return (), "no CUDA GPU and no Jetson"


def _watts(power_mode: str | None) -> float:
    """Read the power budget, watts, off a mode's name; an unknown one counts as 10 W."""
    if power_mode is None:
        return 10.0
    if power_mode.upper().startswith("MAXN"):
        return float("inf")
    found = re.search(r"(\d+)\s*W", power_mode.upper())
    return float(found.group(1)) if found else 10.0


def _has_weights(name: str) -> bool:
    return (installed_directory(get_spec(name)) / MANIFEST).is_file()


def _jetson(root: Path) -> str | None:
    """Read the board's name from the device tree; None if this is no Jetson."""
    try:
        model = (root / "proc/device-tree/model").read_bytes().rstrip(b"\0").decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return model if re.search(r"jetson|orin|xavier", model, re.IGNORECASE) else None


def _memory_gib(root: Path) -> float:
    """Read the size of main memory, GiB; 0 where the system does not say."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) / _GIB_IN_KIB if found else 0.0


def _power_mode() -> str | None:
    """Ask `nvpmodel -q` for the present mode; None where it cannot be asked."""
    program = shutil.which("nvpmodel", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return None
    try:
        result = subprocess.run(
            [program, "-q"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"Power Mode:\s*(\S+)", result.stdout)
    return found.group(1) if found else None


def _has_cuda(root: Path) -> bool:
    """Check for a GPU with its driver, and an ONNX Runtime that was built for it."""
    if not any((root / path).exists() for path in ("proc/driver/nvidia/version", "dev/nvhost-gpu")):
        return False
    if find_spec("onnxruntime") is None:
        return False
    import onnxruntime  # noqa: PLC0415 - loaded where it is used

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
