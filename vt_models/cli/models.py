# SPDX-License-Identifier: Apache-2.0
"""`vt-models models`: what there is."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.resources import files
from typing import Any

from vt_models.cli.options import BACKENDS
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.runtime.installed_weights import bundled_directory, installed_directory

_HEADER = ("model", "crops", "Mparam", "GMAC", "weights", "reads", "paper")


def run(args: argparse.Namespace) -> int:
    """List the models."""
    text = (files("vt_models") / "complexity.json").read_text(encoding="utf-8")
    complexity = json.loads(text)  # made by `python -m vt_models.export.complexity`
    entries = [_entry(get_spec(name), complexity[name]) for name in list_models()]
    if args.json:
        sys.stdout.write(json.dumps({"models": entries}, indent=2) + "\n")
        return 0
    rows = [_HEADER, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        sys.stdout.write("  ".join([*cells, row[-1]]) + "\n")
    sys.stdout.write(
        "GMAC: 1e9 multiply-accumulates for each frame. Weights: bundled, installed (see "
        "`vt-models export --install`), or none (import or train them). Backends: "
        f"{', '.join(BACKENDS)}. `--json` has licences and more.\n"
    )
    return 0


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["name"],
        f"{entry['template_size']}/{entry['search_size']}",
        f"{entry['parameters'] / 1e6:.2f}",
        f"{entry['frame_gmacs']:.2f}",
        entry["weights"],
        "box, text" if entry["language"] else "box",
        entry["paper"],
    )


def _entry(spec: ModelSpec, complexity: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "family": spec.family,
        "template_size": spec.template_size,
        "search_size": spec.search_size,
        **complexity,
        "language": spec.language,
        "weights": _weights(spec),
        "weights_bundled": bundled_directory(spec) is not None,
        "weights_ship": bundled_directory(spec) is not None,  # its earlier name, until 0.2
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
    return "bundled" if bundled_directory(spec) is not None else "none"
