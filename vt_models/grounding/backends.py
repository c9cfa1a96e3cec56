# SPDX-License-Identifier: Apache-2.0
"""Backends by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from vt_models.errors import InputError
from vt_models.grounding.grounder import Detector, Grounder
from vt_models.grounding.settings import GroundingSettings

# Each is a function (source, device, threads) -> Detector; a module is imported when it is asked
# for, because each needs packages that the others do not.
_BACKENDS = {
    "onnx": "vt_models.grounding.onnx_detector:open_detector",
    "pjvlt": "vt_models.grounding.pjvlt:open_detector",
    "zero_shot": "vt_models.grounding.zero_shot:open_detector",
}


def list_grounders() -> list[str]:
    """Names of the backends, in alphabetical order."""
    return sorted(_BACKENDS)


def create_grounder(
    name: str,
    source: str | Path | None = None,
    *,
    settings: GroundingSettings | None = None,
    device: str = "auto",
    threads: int | None = 1,
) -> Grounder:
    """A ready grounder; its network is loaded here, which can take seconds.

    Args:
        name: one of `list_grounders()`.
        source: what to load. zero_shot: directory of a checkpoint, or "hub:OWNER/NAME", which may
            download. onnx: directory made by `vt-models ground-export`; None for the bundled
            detector. pjvlt: weights as for `create_tracker`, or "MODEL" or "MODEL:WEIGHTS"; None
            takes what is bundled or installed.
        settings: what counts; the defaults take the backend's own threshold.
        device: "auto", "cpu" or "cuda"; for onnx and pjvlt also "tensorrt".
        threads: CPU threads of its network, so that tracking beside it keeps its own; None leaves
            them to the library. zero_shot sets torch's pool, which is one for the whole process.

    Raises:
        InputError: unknown name, device or number of threads.
        WeightsError: the source is missing, damaged or not what this backend reads.
        BackendError: a package is missing, or the device is not available.
    """
    if name not in _BACKENDS:
        raise InputError(f"no grounding backend called {name!r}; one of {list_grounders()}")
    module, function = _BACKENDS[name].split(":")
    detector: Detector = getattr(import_module(module), function)(source, device, threads)
    return Grounder(detector, settings)
