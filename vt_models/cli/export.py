# SPDX-License-Identifier: Apache-2.0
"""`vt-models export`: weights to an export directory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from vt_models.api import create_model
from vt_models.cli.arguments import EXPORT_SETTINGS
from vt_models.errors import InputError
from vt_models.nets.builders import spec_of
from vt_models.registry import ModelSpec, get_spec
from vt_models.runtime.export_directory import MANIFEST
from vt_models.runtime.installed_weights import installed_directory

_OLD_SETTINGS = {"size_fit": "size_calibration"}
"""Previous names of settings; accepted for one release, with a warning."""


def run(args: argparse.Namespace) -> int:
    """Run `vt-models export`; raises VtModelsError for what the command line prints in one line."""
    sizes = args.search_size, args.narrow_search_size
    # What is wrong there is said before any reading.
    with_search_sizes(with_settings(get_spec(args.name), args.set), *sizes)
    net = create_model(args.name, args.weights)
    spec = with_search_sizes(with_settings(spec_of(get_spec(args.name), net), args.set), *sizes)
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


def with_search_sizes(spec: ModelSpec, search: int | None, narrow: int | None) -> ModelSpec:
    """A specification with other sides of its search crops, in pixels; None leaves one as it is.

    Args:
        spec: the model's.
        search: of the search crop; the model then has no narrow one unless that is given, too.
        narrow: of the narrow search crop; 0 for none.

    Raises:
        InputError: the network takes no other size, or this one does not fit it.
    """
    option = f"--search-size {search}"
    try:
        if search is not None:
            spec = spec.at_search_size(search)
        if narrow is not None:
            option = f"--narrow-search-size {narrow}"
            spec = dataclasses.replace(spec, narrow_search_size=narrow)
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
    return spec


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
        if spec.decoder not in EXPORT_SETTINGS.get(name, ()):
            known = [key for key, readers in EXPORT_SETTINGS.items() if spec.decoder in readers]
            raise InputError(
                f"--set {text}: {spec.name} has no setting {name!r}; it has {', '.join(known)}"
            )
        whole = name == "clip_margin"
        wanted = "a whole number of pixels, 0 or more" if whole else "a number from 0 to 1"
        try:
            values[name] = int(value) if whole else float(value)
        except ValueError as error:
            raise InputError(f"--set {text}: expected {wanted}") from error
        if not 0 <= values[name] <= (10_000 if whole else 1):
            raise InputError(f"--set {text}: expected {wanted}")
    return dataclasses.replace(spec, **values)
