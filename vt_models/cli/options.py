# SPDX-License-Identifier: Apache-2.0
"""Options of several commands: earlier spellings, and checks before any work begins."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from vt_models.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

_BASELINES = {"--peers": "--baselines", "--peer-weights": "--baseline-weights"}
RENAMED_OPTIONS = {"eval": _BASELINES, "bench": _BASELINES}
"""Earlier spellings by command; they work in this release and go with 0.2."""


def with_current_names(command: str, words: Sequence[str]) -> list[str]:
    """Replace options by their current spelling; each old one is a line on standard error.

    Args:
        command: a key of `RENAMED_OPTIONS`; others have no earlier spellings.
        words: of the command line, as typed.
    """
    renamed = RENAMED_OPTIONS.get(command, {})
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        current = renamed.get(option, option)
        if current != option:
            sys.stderr.write(f"{option} is now {current}; the old spelling goes with 0.2\n")
        found.append(f"{current}{equals}{value}")
    return found


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
    import torch  # noqa: PLC0415 - for training commands only

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; use --device cpu.")


def check_weights_file(output: Path) -> None:
    """InputError where --output is no name for weights, or lies in no directory."""
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise InputError(
            f"--output {output}: expected a name that ends in .safetensors, in a directory that "
            "exists."
        )
