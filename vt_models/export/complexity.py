# SPDX-License-Identifier: Apache-2.0
"""Count the parameters and multiply-accumulates of a network (needs torch).

    python -m vt_models.export.complexity

counts every registered model and writes `vt_models/complexity.json`, which `vt-models models` shows
without torch. Run it after a change of a network; a test counts again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vt_models.export.exporter import example_graphs
from vt_models.files import write_text
from vt_models.nets.builders import find_builder, training_packages
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.runtime.export_directory import SEARCH_GRAPH


@dataclass(frozen=True)
class Complexity:
    """Size and cost of a network in the form it runs in.

    Attributes:
        parameters: numbers the network runs on that training learned, branches merged.
        frame_gmacs: 1e9 multiply-accumulates for each frame: matrix products, convolutions and
            attention; half the flops that torch counts.
        target_gmacs: the same, once for each target (templates, and the text where there is one).
    """

    parameters: int
    frame_gmacs: float
    target_gmacs: float


def measure(spec: ModelSpec) -> Complexity:
    """Count a registered model, without computing anything: tensors have shapes but no values.

    Raises:
        BackendError: torch, or another package of the [train] extra, is not installed.
    """
    with training_packages(spec), torch.device("meta"):
        net: Any = find_builder(spec)().eval()
        graphs = example_graphs(net.merge(), spec)
        parameters = sum(parameter.numel() for parameter in net.parameters())
    counts = {graph.file: _gmacs(graph.module, graph.inputs) for graph in graphs}
    frame = counts.pop(SEARCH_GRAPH)
    return Complexity(parameters, frame, sum(counts.values()))


def _gmacs(module: Any, inputs: tuple[Any, ...]) -> float:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device("meta"), counter:
        module(*inputs)
    total: int = counter.get_total_flops()
    return total / 2e9


def main() -> int:
    """Count all models and write the file."""
    found = {name: asdict(measure(get_spec(name))) for name in list_models()}
    path = Path(str(files("vt_models"))) / "complexity.json"
    write_text(path, json.dumps(found, indent=2) + "\n")
    sys.stdout.write(f"{path}: {len(found)} models\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
