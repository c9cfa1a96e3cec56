# SPDX-License-Identifier: Apache-2.0
"""`vt-models doctor`: what this environment has, each part OK or with a remedy."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, NamedTuple

from vt_models.cli.options import add_json
from vt_models.errors import VtModelsError, install_hint
from vt_models.registry import get_spec, list_models

State = Literal["ok", "absent", "error"]


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models doctor`."""
    add_json(parser.add_argument)


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
    return [
        _python(),
        _package("numpy", "pip install 'numpy>=1.26,<3'"),
        _package("cv2", "pip install opencv-contrib-python-headless"),
        _onnxruntime(),
        _torch(),
        _rclpy(),
        *(_weights(name) for name in list_models()),
        _tracking(),
    ]


def _python() -> Check:
    version = f"{platform.python_version()}, {platform.machine()}, {sys.executable}"
    return Check("python", "ok", version)


def _import(name: str) -> ModuleType | str:
    """The module, or why it cannot be imported."""
    try:
        return import_module(name)
    except Exception as error:  # a broken package raises anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _package(name: str, remedy: str) -> Check:
    module = _import(name)
    if isinstance(module, str):
        return Check(name, "error", module, remedy)
    return Check(name, "ok", str(getattr(module, "__version__", "version unknown")))


def _onnxruntime() -> Check:
    module: Any = _import("onnxruntime")
    if isinstance(module, str):
        return Check("onnxruntime", "error", module, "pip install onnxruntime")
    providers = module.get_available_providers()
    detail = f"{module.__version__}, providers: {', '.join(providers)}"
    if "CUDAExecutionProvider" in providers:
        return Check("onnxruntime", "ok", detail)
    return Check("onnxruntime", "ok", detail, "for a GPU: pip install onnxruntime-gpu instead")


def _torch() -> Check:
    module: Any = _import("torch")
    if isinstance(module, str):
        return Check(
            "torch",
            "absent",
            f"{module}; tracking does not need it",
            f"to train, export or import checkpoints: {install_hint('train')}",
        )
    device = "CUDA" if module.cuda.is_available() else "CPU only"
    return Check("torch", "ok", f"{module.__version__}, {device}")


def _rclpy() -> Check:
    module = _import("rclpy")
    if isinstance(module, str):
        return Check(
            "rclpy",
            "absent",
            f"{module}; only the nodes need it",
            "source /opt/ros/jazzy/setup.bash, or run `make setup` in the repository",
        )
    return Check("rclpy", "ok", str(module.__file__))


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
