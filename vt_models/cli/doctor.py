# SPDX-License-Identifier: Apache-2.0
"""`vt-models doctor`: what this environment has, each part OK or with a remedy."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib import import_module
from typing import Any, Literal, NamedTuple

from vt_models.cli.main import EXTRAS
from vt_models.errors import VtModelsError, broken_package, install_hint
from vt_models.registry import get_spec, list_models

State = Literal["ok", "absent", "error"]
_PURPOSES = {
    "": "",
    "train": "to train, export or import checkpoints",
    "report": "for the page and the charts of eval",
    "grounding": "for published detectors",
}
"""What an extra is needed for; "" is needed for everything."""
_IMPORTED_AS = {"tensorboard": "torch.utils.tensorboard"}
"""What is imported of a package, where the package alone would not show that it is broken."""


class Check(NamedTuple):
    """One part of the environment.

    Attributes:
        name: of the part.
        state: "ok", "absent" (optional and not there), or "error" (needed, or broken).
        detail: what was found.
        remedy: what to do, empty where nothing needs doing.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def run(args: argparse.Namespace) -> int:
    """Print all checks; 0 if nothing that tracking needs is missing or broken, else 1."""
    checks = examine()
    healthy = all(check.state != "error" for check in checks)
    if args.json:
        result = {"ok": healthy, "checks": [check._asdict() for check in checks]}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 0 if healthy else 1
    labels = {"ok": "OK", "absent": "--", "error": "!!"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        sys.stdout.write(f"{labels[check.state]}  {check.name:{width}}  {check.detail}\n")
        if check.remedy:
            sys.stdout.write(f"    {'':{width}}  -> {check.remedy}\n")
    return 0 if healthy else 1


def examine() -> list[Check]:
    """All checks, in the order in which one depends on the other."""
    ros = "source /opt/ros/jazzy/setup.bash, or run `make setup` in the repository"
    train = f"to train, export or import checkpoints: {install_hint('train')}"
    python = f"{platform.python_version()}, {platform.machine()}, {sys.executable}"
    return [
        Check("python", "ok", python),
        _package("numpy", "pip install 'numpy>=1.26,<3'"),
        _package("cv2", "pip install opencv-contrib-python-headless"),
        _package("onnxruntime", "pip install onnxruntime"),
        _package("torch", train, "tracking does not need it"),
        _package("rclpy", ros, "only the nodes need it"),
        *(_extra(extra, purpose) for extra, purpose in _PURPOSES.items()),
        *(_weights(name) for name in list_models()),
        _tracking(),
    ]


def _package(name: str, remedy: str, optional: str = "") -> Check:
    """A package by the name under which it is imported; `optional` says who needs it if not all."""
    try:
        module: Any = import_module(name)
    except Exception as error:  # a broken package raises anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if optional and isinstance(error, ModuleNotFoundError) and error.name == name:
            return Check(name, "absent", f"{reason}; {optional}", remedy)
        return Check(name, "error", reason, remedy)
    found = str(getattr(module, "__version__", "version unknown"))
    if name == "rclpy":
        return Check(name, "ok", str(module.__file__))
    if name == "torch":
        found += ", CUDA" if module.cuda.is_available() else ", CPU only"
    if name == "onnxruntime":
        providers = module.get_available_providers()
        found += f", providers: {', '.join(providers)}"
        if "CUDAExecutionProvider" not in providers:
            return Check(name, "ok", found, "for a GPU: pip install onnxruntime-gpu instead")
    return Check(name, "ok", found)


def _extra(extra: str, purpose: str) -> Check:
    """The packages of an extra: all there, some missing, or one that cannot be loaded."""
    title, missing, problems = f"extra {extra}" if extra else "packages", [], []
    packages = [package for package, brought_by in EXTRAS.items() if brought_by == extra]
    for package in packages:
        try:
            import_module(_IMPORTED_AS.get(package, package))
        except ModuleNotFoundError as error:
            missing.append(str(error.name))
        except Exception as error:  # as above
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            problems.append(f"{broken_package(error) or package} cannot be loaded: {reason}")
    if problems:
        remedy = f"install what is broken and what it needs anew: {install_hint(extra)}"
        return Check(title, "error", "; ".join(problems), remedy)
    if missing:
        state: State = "absent" if extra else "error"
        names = ", ".join(dict.fromkeys(missing))
        return Check(title, state, f"without {names}", f"{purpose}: {install_hint(extra)}")
    return Check(title, "ok", ", ".join(packages))


def _weights(name: str) -> Check:
    title = f"weights {name}"
    try:
        # Imported here: it needs numpy and OpenCV, and those may be what is broken.
        installed: Any = import_module("vt_models.runtime.installed_weights")
        exported: Any = import_module("vt_models.runtime.export_directory")
        directory = installed.find_weights(get_spec(name))
        if directory is None:
            remedy = "train (`vt-models train`) or import them (`vt-models weights import`)"
            return Check(title, "absent", "none are bundled, none are installed", remedy)
        found = exported.read_export(directory)
    except (VtModelsError, ImportError) as error:
        return Check(title, "error", str(error), "install the package, or these weights, again")
    size = sum(len(data) for data in found.files.values())
    return Check(title, "ok", f"{size / 1e6:.1f} MB in {directory}, every sha256 is right")


def _tracking() -> Check:
    """Run the default model for a few frames, if its weights are bundled."""
    name = list_models()[0]
    try:
        api: Any = import_module("vt_models.api")
        installed: Any = import_module("vt_models.runtime.installed_weights")
        if installed.find_weights(get_spec(name)) is None:
            return Check("tracking", "absent", f"not tried: no weights are bundled for {name}")
        parity: Any = import_module("vt_models.export.parity")
        frames, boxes = parity.synthetic_sequence()
        tracker = api.create_tracker(name, device="cpu")
        tracker.init(frames[0], boxes[0])
        times = []
        for frame in frames[1:]:
            start = time.perf_counter()
            tracker.update(frame)
            times.append(time.perf_counter() - start)
    except (VtModelsError, ImportError) as error:
        return Check("tracking", "error", str(error), "see the lines above")
    typical = 1e3 * sorted(times)[len(times) // 2]
    return Check("tracking", "ok", f"{name} takes {typical:.1f} ms a frame on one CPU thread")
