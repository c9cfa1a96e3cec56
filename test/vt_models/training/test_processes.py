# SPDX-License-Identifier: Apache-2.0
"""Training in real processes: several under torchrun, and what happens when one of them dies."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file

from vt_models.cli import train as command
from vt_models.cli.main import main
from vt_models.errors import WeightsError
from vt_models.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.train

RECIPE = """
model: asymtrack_lite0
seed: 3
checkpoint_every: 8
sampling: {clip_share: 0.5, still_share: 0.4, region_share: 0.1, negative_share: 0.3}
optim: {samples: 12, batch_size: 4, lr: 1e-4, backbone_lr_factor: 1e-3, grad_clip: 5, ema: 0.9,
        backbone_freeze_samples: 4, warmup_samples: 4, decay_start: 1.0}
"""
ENDLESS = ["--set", "optim.samples=400000"]
PATIENCE_S = 240
WITHOUT_DROP_PATH = """
import dataclasses, sys
from vt_models.nets import sbt
sbt._LIGHT = dataclasses.replace(sbt._LIGHT, drop_path=0.0)
from vt_models.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def _words(folder: Path, pack: Path, run: str, *more: str) -> list[str]:
    recipe = folder / "r.yaml"
    recipe.write_text(RECIPE)
    words = ["train", str(recipe), "--data", str(pack), "--output", str(folder / run)]
    return [*words, "--threads", "1", "--workers", "0", *more]


def _start(
    words: list[str],
    processes: int = 1,
    program: tuple[str, ...] = ("-m", "vt_models"),
    **options: Any,
) -> subprocess.Popen[str]:
    """The command in a process of its own, or in several under torchrun."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher = several if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *launcher, *program, *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def _wait_for_checkpoint(process: subprocess.Popen[str], file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not file.is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"no checkpoint within {PATIENCE_S} s"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _weights(folder: Path) -> np.ndarray:
    """All numbers of the weights in one row."""
    tensors = load_file(folder / "weights.safetensors")
    return np.concatenate([tensors[name].ravel().astype(np.float64) for name in sorted(tensors)])


def _assert_same(one: np.ndarray, other: np.ndarray) -> None:
    """To 1e-6; AdamW moves the few weights whose gradient is nothing but rounding by their sign."""
    difference = np.abs(one - other)
    assert np.sqrt((difference**2).mean()) < 1e-7
    assert (difference > 1e-6).mean() < 2e-4


def test_two_processes_train_as_one_and_either_continues(tmp_path: Path, mini_pack: Path) -> None:
    """Of a model without batch norms, which only GPUs synchronise, and here without drop path."""
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_DROP_PATH)
    model = ["--set", "model=sbt_light"]

    def run(folder: str, *more: str, processes: int = 1) -> str:
        words = _words(tmp_path, mini_pack, folder, *model, *more)
        process = _start(words, processes, program=(str(program),))
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        return said

    run("start", "--set", "optim.samples=8", "--set", "optim.lr=1e-20")
    said = run("two", processes=2)
    assert said.count("weights: ") == 1, "one process speaks"
    run("one")
    start, one, two = (tmp_path / name for name in ("start", "one", "two"))
    assert np.sqrt(((_weights(one) - _weights(start)) ** 2).mean()) > 5e-5
    _assert_same(_weights(one), _weights(two))
    for name in ("one", "two"):
        run(name, "--set", "optim.samples=20")
    assert load_checkpoint(two / "last.pt")["samples"] == 20
    _assert_same(_weights(one), _weights(two))


def test_sigterm_to_one_process_stops_all(tmp_path: Path, mini_pack: Path) -> None:
    process = _start(_words(tmp_path, mini_pack, "run", *ENDLESS), processes=2)
    _wait_for_checkpoint(process, tmp_path / "run" / "last.pt")
    os.kill(_children(process.pid)[-1], signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, "torchrun's own status for whatever is not 0"
    samples = load_checkpoint(tmp_path / "run" / "last.pt")["samples"]
    assert f"stopped at {samples} samples; the same command continues there" in said


def test_killed_process_ends_all_with_a_message(tmp_path: Path, mini_pack: Path) -> None:
    process = _start(_words(tmp_path, mini_pack, "run", *ENDLESS), processes=2)
    _wait_for_checkpoint(process, tmp_path / "run" / "last.pt")
    os.kill(_children(process.pid)[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Another process of this run ended or cannot be reached" in said
    assert load_checkpoint(tmp_path / "run" / "last.pt")["samples"] % 4 == 0


def test_a_killed_data_process_ends_the_command(tmp_path: Path, mini_pack: Path) -> None:
    process = _start(_words(tmp_path, mini_pack, "run", "--workers", "1", *ENDLESS))
    _wait_for_checkpoint(process, tmp_path / "run" / "last.pt")
    os.kill(_children(process.pid)[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "A process that cuts crops died" in said
    assert "Traceback" not in said
    assert load_checkpoint(tmp_path / "run" / "last.pt")["samples"] >= 8


def _with_small_files() -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def test_a_full_disk_ends_the_command_with_the_old_checkpoint(
    tmp_path: Path, mini_pack: Path
) -> None:
    assert main(_words(tmp_path, mini_pack, "run", "--set", "optim.samples=8")) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    words = _words(tmp_path, mini_pack, "run", *ENDLESS)
    process = _start(words, preexec_fn=_with_small_files())
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, said
    assert (
        "last.pt could not be written (File too large); the previous checkpoint is intact" in said
    )
    assert "Traceback" not in said
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_diverged_run_ends_the_command_with_the_old_checkpoint(
    tmp_path: Path, mini_pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_words(tmp_path, mini_pack, "run", "--set", "optim.samples=8")) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    wild = ["--set", "optim.lr=1e30", "--set", "checkpoint_every=4000"]
    assert main(_words(tmp_path, mini_pack, "run", *ENDLESS, *wild)) == 1
    assert "The loss or its gradient is not finite" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_data_process_without_memory_ends_with_a_message(
    tmp_path: Path,
    mini_pack: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(command.Trainer, "run", full)
    assert main(_words(tmp_path, mini_pack, "run")) == 1
    said = capsys.readouterr().err
    assert "no memory left" in said
    assert "last.pt is intact" not in said  # there is none
    assert "no checkpoint was due yet" in said
    assert "Free some memory, or give fewer --workers" in said


def test_full_disk_after_the_checkpoint_keeps_it(
    tmp_path: Path,
    mini_pack: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise WeightsError("cannot write latest.safetensors: No space left on device")

    monkeypatch.setattr(command, "save_weights", full)
    assert main(_words(tmp_path, mini_pack, "run")) == 1
    assert "last.pt is intact. Free some space" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "last.pt")["samples"] == 8
