# SPDX-License-Identifier: Apache-2.0
"""The result of a training run as a weights file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from vt_models.training.recipe import Recipe, to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def save_trained(net: nn.Module, recipe: Recipe, samples: int, path: Path) -> None:
    """Writes a network with the recipe that made it, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    metadata = {
        "format": "vt_models",
        "model": recipe.model,
        "recipe": json.dumps(to_dict(recipe)),
        "samples": str(samples),
    }
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata)
    temporary.replace(path)
