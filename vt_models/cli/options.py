# SPDX-License-Identifier: Apache-2.0
"""What training commands check alike: what would only fail after minutes is refused first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vt_models.errors import InputError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def check_counts(args: argparse.Namespace, **least: int) -> None:
    """InputError where an option that was given is smaller than it may be.

    Args:
        args: Parsed options; None is one that was not given.
        least: By the option's name, the smallest value that makes sense.
    """
    for name, smallest in least.items():
        value = getattr(args, name)
        if value is not None and value < smallest:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} is {value}; expected {smallest} or more.")


def seconds_of(minutes: float | None) -> float:
    """What --max-minutes allows; infinity where it was not given.

    Raises:
        InputError: It is no time.
    """
    if minutes is None:
        return math.inf
    if not 0 < minutes < math.inf:
        raise InputError(f"--max-minutes is {minutes}; expected more than 0.")
    return 60.0 * minutes


def check_cuda(device: str) -> None:
    """InputError where --device cuda was asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; use --device cpu.")


def check_weights_file(output: Path) -> None:
    """InputError where --output is no name for weights, or lies in no directory."""
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise InputError(
            f"--output {output}: expected a name that ends in .safetensors, in a directory that "
            "exists."
        )
