# SPDX-License-Identifier: Apache-2.0
"""`vt-models models`: what there is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from vt_models.api import shipped_directory
from vt_models.registry import get_spec, list_models

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vt-models models`."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """List the models."""
    entries = [_entry(name) for name in list_models()]
    if args.json:
        sys.stdout.write(json.dumps({"models": entries}, indent=2) + "\n")
        return 0
    width = max(len(str(entry["name"])) for entry in entries)
    for entry in entries:
        weights = "weights ship" if entry["weights_ship"] else "no weights ship"
        sizes = f"{entry['template_size']}/{entry['search_size']}"
        sys.stdout.write(f"{entry['name']:{width}}  {sizes:8} {weights:16} {entry['paper']}\n")
    return 0


def _entry(name: str) -> dict[str, object]:
    spec = get_spec(name)
    return {
        "name": spec.name,
        "family": spec.family,
        "template_size": spec.template_size,
        "search_size": spec.search_size,
        "weights_ship": shipped_directory(spec) is not None,
        "licence": spec.licence,
        "paper": spec.paper,
        "url": spec.url,
    }
