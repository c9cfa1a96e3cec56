# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share: one spelling, one description, one check each."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from vt_models.errors import InputError

Add: TypeAlias = Callable[..., argparse.Action]

BACKENDS = ("onnxruntime", "torch")
"""Those of `vt_models.api`, which loads OpenCV."""
GROUNDERS = ("onnx", "pjvlt", "zero_shot")
"""`vt_models.grounding.list_grounders()`, which loads numpy."""
BASELINES = ("csrt", "kcf", "nanotrack", "nanotrack_v3", "vit")
"""Those of `vt_models.evaluation.baselines`, which loads OpenCV."""

RENAMED_COMMANDS = {"shrink-text": "distill-text-encoder"}
_RENAMED_BASELINES = {"--peers": "--baselines", "--peer-weights": "--baseline-weights"}
_RENAMED_GROUNDING = {
    "--grounder": "--grounding-backend",
    "--grounder-source": "--grounding-source",
}
RENAMED_OPTIONS = {
    "eval": {
        **_RENAMED_BASELINES,
        **_RENAMED_GROUNDING,
        "--grounder-threshold": "--grounding-threshold",
        "--models": "--model",
    },
    "bench": {**_RENAMED_BASELINES, "--models": "--model"},
    "track": _RENAMED_GROUNDING,
    "ground": {
        "--backend": "--grounding-backend",
        "--source": "--grounding-source",
        "--threshold": "--grounding-threshold",
    },
}
"""Earlier spellings by command; they work in this release and go with 0.2."""


def with_current_names(words: Sequence[str]) -> list[str]:
    """Replace a command and options by their current spelling; a line on standard error for each.

    Numbers below 0 behind an option, which argparse takes for options, are joined to it. An option
    that is there under both of its names ends the program with status 2.

    Args:
        words: of the command line, as typed.
    """
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and re.match(r"-[0-9.]", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    place = next((index for index, word in enumerate(found) if not word.startswith("-")), None)
    if place is None:
        return found
    command = found[place] = _current(found[place], RENAMED_COMMANDS)
    renamed = RENAMED_OPTIONS.get(command, {})
    given = [word.partition("=")[0] for word in found[place + 1 :]]
    for index, option in enumerate(given, start=place + 1):
        if renamed.get(option) in given:
            sys.stderr.write(
                f"vt-models: error: {option} is {renamed[option]} now, which is there too; leave "
                "one of them out\n"
            )
            sys.exit(2)
        found[index] = _current(option, renamed) + found[index][len(option) :]
    return found


def _current(word: str, renamed: dict[str, str]) -> str:
    if word not in renamed:
        return word
    sys.stderr.write(f"{word} is now {renamed[word]}; the old spelling goes with 0.2\n")
    return renamed[word]


def split_names(text: str) -> list[str]:
    """`"a, b"` to `["a", "b"]`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_weights(add: Add, of: str = "of the model") -> None:
    """Declare --weights."""
    add(
        "--weights",
        type=parse_path,
        help=f"{of}: export directory or .safetensors; default: bundled or installed weights",
    )


def parse_path(text: str) -> Path:
    """Turn a word into a path; an empty one, of a shell variable that is not set, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def add_inference(add: Add, *, backend: bool = True) -> None:
    """Declare how networks run: --backend, --device, --threads."""
    if backend:
        add("--backend", default=BACKENDS[0], choices=BACKENDS, help="default: %(default)s")
    add("--device", default="auto", help="auto, cpu, cuda or tensorrt; default: %(default)s")
    add("--threads", type=int, default=1, help="CPU threads; default: %(default)s")


def add_training_device(add: Add) -> None:
    """Declare --device and --threads of commands that train with torch."""
    add(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="default: %(default)s, a GPU where torch sees one",
    )
    add("--threads", type=int, help="CPU threads of torch; default: torch's own choice")


def add_grounding(add: Add, purpose: str) -> None:
    """Declare what finds a target by its description: --grounding-backend, --grounding-source."""
    add(
        "--grounding-backend",
        default=GROUNDERS[0],
        choices=GROUNDERS,
        help=f"{purpose}; default: %(default)s",
    )
    add("--grounding-source", help="what it loads, see docs/grounding.md; default: the bundled one")


def add_baselines(add: Add) -> None:
    """Declare --baselines and --baseline-weights."""
    add(
        "--baselines",
        type=split_names,
        default=[],
        help=f"also run published trackers: {', '.join(BASELINES)}",
    )
    add("--baseline-weights", type=parse_path, help="folder of the baselines' weight files")


def add_json(add: Add) -> None:
    """Declare --json."""
    add("--json", action="store_true", help="one JSON object on standard output")


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


def training_device(device: str) -> str:
    """Return "cpu" or "cuda" for the value of --device; auto is a GPU where torch sees one.

    Raises:
        InputError: --device cuda was asked for and there is none.
    """
    import torch  # noqa: PLC0415 - for training commands only

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; use --device cpu.")
    return device


def check_output_file(option: str, output: Path) -> None:
    """InputError where a file cannot be written: no folder, or a pipe, device or folder is there.

    Checked before the work, whose end is late to find that out.
    """
    if not output.parent.is_dir():
        raise InputError(f"{option} {output}: the folder {output.parent} does not exist; create it")
    if output.exists() and not output.is_file():
        raise InputError(f"{option} {output} is there and is not a regular file; give another name")


def check_not_input(option: str, output: Path | None, *inputs: Path | None) -> None:
    """InputError where a file to write, named by an option, is one of those that are read."""
    for path in inputs:
        if output and path and output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{option} {output} is {path}, which is read; give another file")


def check_weights_file(output: Path, *inputs: Path | None) -> None:
    """InputError where --output is no name for weights, lies in no directory, or is an input."""
    check_not_input("--output", output, *inputs)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise InputError(
            f"--output {output}: expected a name that ends in .safetensors, in a directory that "
            "exists."
        )
