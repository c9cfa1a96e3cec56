# SPDX-License-Identifier: Apache-2.0
"""`vt-models models`: what there is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vt_models.api import BACKENDS
from vt_models.cli.options import add_json
from vt_models.errors import BackendError
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.runtime.installed_weights import installed_directory, shipped_directory

if TYPE_CHECKING:
    import argparse

_HEADER = ("model", "crops", "Mparam", "GMAC", "weights", "reads", "paper")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models models`."""
    add_json(parser.add_argument)


def run(args: argparse.Namespace) -> int:
    """List the models."""
    names = tqdm(list_models(), desc="counting", unit="model", leave=False, file=sys.stderr)
    entries = [_entry(get_spec(name)) for name in names]
    if args.json:
        sys.stdout.write(json.dumps({"models": entries}, indent=2) + "\n")
        return 0
    rows = [_HEADER, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        sys.stdout.write("  ".join([*cells, row[-1]]) + "\n")
    if any(entry["parameters"] is None for entry in entries):
        sys.stderr.write(
            "parameters and GMACs are counted with torch: pip install 'vt_ros[train]'\n"
        )
    sys.stdout.write(
        "GMAC: 1e9 multiply-accumulates for each frame. Weights: ship, installed (see `vt-models "
        "export --install`), or none (import or train them). Backends: "
        f"{', '.join(BACKENDS)}. `--json` has licences and more.\n"
    )
    return 0


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    parameters, gmacs = entry["parameters"], entry["frame_gmacs"]
    return (
        entry["name"],
        f"{entry['template_size']}/{entry['search_size']}",
        "?" if parameters is None else f"{parameters / 1e6:.2f}",
        "?" if gmacs is None else f"{gmacs:.2f}",
        entry["weights"],
        "box, text" if entry["language"] else "box",
        entry["paper"],
    )


def _entry(spec: ModelSpec) -> dict[str, Any]:
    parameters, frame, target = _complexity(spec)
    return {
        "name": spec.name,
        "family": spec.family,
        "template_size": spec.template_size,
        "search_size": spec.search_size,
        "parameters": parameters,
        "frame_gmacs": frame,
        "target_gmacs": target,
        "language": spec.language,
        "weights": _weights(spec),
        "weights_ship": shipped_directory(spec) is not None,
        "installed_directory": str(installed_directory(spec)),
        "backends": list(BACKENDS),
        "update_presets": [policy.name for policy in spec.update_presets],
        "licence": spec.licence,
        "paper": spec.paper,
        "url": spec.url,
    }


def _weights(spec: ModelSpec) -> str:
    """Which weights a tracker made without naming any gets."""
    if installed_directory(spec).is_dir():
        return "installed"
    return "ship" if shipped_directory(spec) is not None else "none"


def _complexity(spec: ModelSpec) -> tuple[int | None, float | None, float | None]:
    """Parameters, GMACs a frame, GMACs a target; None where torch is missing."""
    try:
        from vt_models.export.complexity import measure  # noqa: PLC0415 - needs torch
    except ImportError:
        return None, None, None
    try:
        found = measure(spec)
    except BackendError:
        return None, None, None
    return found.parameters, found.frame_gmacs, found.target_gmacs
