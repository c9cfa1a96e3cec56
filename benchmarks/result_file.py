# SPDX-License-Identifier: Apache-2.0
"""From a measurement to its result file: what the benchmarks share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vt_models.errors import VtModelsError
from vt_models.files import write_text

SHARED = Path(os.environ.get("VT_SHARED_DIR", "../shared"))
"""Where sequences, baselines and training images are by default."""


def measure_into(path: Path, measure: Callable[[], dict[str, Any]]) -> int:
    """Run a benchmark and write what it returns as JSON.

    Returns:
        0, or 2 with one line on standard error where the benchmark is impossible.
    """
    try:
        result = measure()
    except VtModelsError as error:
        print(error, file=sys.stderr)
        return 2
    write_result(path, with_final_load(result))
    return 0


def with_final_load(result: dict[str, Any]) -> dict[str, Any]:
    """Add the load average at the end of a measurement beside the one at its beginning."""
    machine = {**result["machine"], "load_average_at_end": round(os.getloadavg()[0], 2)}
    return {**result, "machine": machine}


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, and say so."""
    write_text(path, json.dumps(result, indent=2) + "\n", parents=True)
    print(f"written: {path}", file=sys.stderr)
