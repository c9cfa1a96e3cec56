# SPDX-License-Identifier: Apache-2.0
"""`vt-models export`: weights to an export directory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vt_models.cli.options import add_json
from vt_models.errors import InputError
from vt_models.registry import ModelSpec

_SETTINGS = {
    "clip_margin": ("box", "dense"),
    "size_calibration": ("box", "dense"),
    "size_smoothing": ("box", "dense"),
    "least_score": ("box",),
    "scale_penalty": ("dense",),
    "window_influence": ("dense",),
}
"""What trackers may do otherwise than with the authors' weights, and the decoders that do it."""
_OLD_SETTINGS = {"size_fit": "size_calibration"}
"""Previous names of settings; accepted for one release, with a warning."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models export`."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the model, see `vt-models models`")
    add("--weights", required=True, type=Path, help=".safetensors file of this model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, help="directory to create")
    where.add_argument(
        "--install",
        action="store_true",
        help="where trackers look that are made without naming weights: VT_MODELS_WEIGHTS, else "
        "vt_models in the user's data directory",
    )
    add(
        "--storage",
        default="float16",
        choices=("float32", "float16", "int8"),
        help="how weights are stored; default: %(default)s",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help=f"how trackers treat what these weights find, instead of the model's own value: "
        f"{', '.join(_SETTINGS)}; may be given several times",
    )
    add_json(add)


def run(args: argparse.Namespace) -> int:
    """Run `vt-models export`; raises VtModelsError for what the command line prints in one line."""
    from vt_models.api import create_model  # noqa: PLC0415 - loads OpenCV
    from vt_models.registry import get_spec  # noqa: PLC0415 - loads OpenCV
    from vt_models.runtime.export_directory import MANIFEST  # noqa: PLC0415 - loads OpenCV
    from vt_models.runtime.installed_weights import installed_directory  # noqa: PLC0415 - loads OpenCV

    spec = with_settings(get_spec(args.name), args.set)
    net = create_model(args.name, args.weights)
    from vt_models.export.exporter import export_model  # noqa: PLC0415 - needs torch

    target = installed_directory(spec) if args.install else args.output
    directory = export_model(net, spec, target, storage=args.storage, source=args.weights)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    if args.json:
        sys.stdout.write(json.dumps({"output": str(directory), **manifest}, indent=2) + "\n")
        return 0
    parity = manifest["parity"]
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    sys.stdout.write(
        f"{directory}: {size / 1e6:.1f} MB, differs from torch by {parity['output_abs']:.1e} on "
        f"outputs and {parity['sequence_px']:.1e} px over 12 frames\n"
    )
    return 0


def with_settings(spec: ModelSpec, texts: Sequence[str]) -> ModelSpec:
    """A specification with other test-time settings.

    Args:
        spec: the model's.
        texts: "setting=value" each.

    Raises:
        InputError: no such setting, one that the model's decoder does not read, or a bad value.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in _OLD_SETTINGS:
            sys.stderr.write(f"warning: --set {name} is now called {_OLD_SETTINGS[name]}\n")
            name = _OLD_SETTINGS[name]
        if spec.decoder not in _SETTINGS.get(name, ()):
            known = ", ".join(key for key, readers in _SETTINGS.items() if spec.decoder in readers)
            raise InputError(f"--set {text}: {spec.name} has no setting {name!r}; it has {known}")
        values[name] = _number(text, value, whole=name == "clip_margin")
    return dataclasses.replace(spec, **values)


def _number(text: str, value: str, whole: bool) -> float:
    """A count, or a fraction in [0, 1]."""
    wanted = "a whole number of pixels, 0 or more" if whole else "a number from 0 to 1"
    try:
        number = int(value) if whole else float(value)
    except ValueError as error:
        raise InputError(f"--set {text}: expected {wanted}") from error
    if not 0 <= number <= (10_000 if whole else 1):
        raise InputError(f"--set {text}: expected {wanted}")
    return number
