# SPDX-License-Identifier: Apache-2.0
"""Training learns, survives being killed, and repeats its numbers. Real networks, tiny data."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vt_models.api import create_model
from vt_models.cli.main import main
from vt_models.errors import RecipeError, TrainingError, WeightsError
from vt_models.registry import get_spec
from vt_models.training.checkpoint import load_checkpoint, save_checkpoint
from vt_models.training.data.batches import BatchNumbers, BatchPreprocessor, make_loader
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import load_image_pack
from vt_models.training.optimizer import learning_rate_scale
from vt_models.training.progress import Hooks
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import OptimConfig
from vt_models.training.trainer import (
    DataWorkerError,
    DivergedError,
    Trainer,
    seed_everything,
)

pytestmark = pytest.mark.train

RECIPE = """
model: {model}
seed: 3
checkpoint_every: 8
augment: {{search_centre: 1.0, search_scale: 0.1, crop_flip: 0, rotation_deg: 10, blur: 0.2,
          occlusion: 0.2, foreign_border: 0.5, template_centre: 0.1}}
sampling: {{clip_share: 0.5, still_share: 0.4, region_share: 0.1, negative_share: 0.1}}
optim: {{samples: 24, batch_size: 4, lr: 1e-3, backbone_lr_factor: 1, grad_clip: 5, ema: 0.9,
        backbone_freeze_samples: 8, warmup_samples: 8, decay: linear}}
loss: {{score: 1.0}}
"""


def _recipe_file(folder: Path, model: str = "asymtrack_lite0") -> Path:
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(model=model))
    return path


def _trainer(folder: Path, pack: Path, overrides: list[str], model: str) -> Trainer:
    recipe = load_recipe(_recipe_file(folder, model), overrides)
    seed_everything(recipe.seed)
    net = create_model(recipe.model)
    return Trainer(net, recipe, load_image_pack(pack), folder, torch.device("cpu"))


@pytest.mark.parametrize("model", ["asymtrack_lite0", "asymtrack_t"])
def test_loss_falls_on_a_tiny_set(tmp_path: Path, mini_pack: Path, model: str) -> None:
    overrides = [
        "sampling.clip_share=1",
        "sampling.still_share=0",
        "sampling.region_share=0",
        "sampling.negative_share=0",
        "optim.samples=240",
        "optim.backbone_freeze_samples=0",
        "optim.decay_start=1.0",
        "checkpoint_every=1000",
        "augment.search_centre=0.5",
        "augment.occlusion=0",
        "augment.rotation_deg=0",
    ]
    losses: list[float] = []
    trainer = _trainer(tmp_path, mini_pack, overrides, model)
    trainer.run(Hooks(on_progress=lambda progress: losses.append(progress.terms["total"])))
    assert len(losses) == 3
    assert losses[-1] < 0.75 * losses[0]


def test_resume_gives_the_same_numbers(tmp_path: Path, mini_pack: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    straight.mkdir()
    stopped.mkdir()
    first = _trainer(straight, mini_pack, [], "asymtrack_lite0")
    first.run()

    class PowerCut(Exception):  # noqa: N818
        pass

    def cut(net: object, samples: int) -> None:
        raise PowerCut

    overrides = ["validate_every=12"]
    second = _trainer(stopped, mini_pack, overrides, "asymtrack_lite0")
    with pytest.raises(PowerCut):
        second.run(Hooks(on_validate=cut))
    third = _trainer(stopped, mini_pack, overrides, "asymtrack_lite0")
    assert third.resume()
    assert third.samples == 8
    third.run()
    expected, found = first.averaged_net.state_dict(), third.averaged_net.state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_finished_run_is_resumed_without_a_step(tmp_path: Path, mini_pack: Path) -> None:
    overrides = ["optim.samples=5", "optim.warmup_samples=0", "optim.backbone_freeze_samples=0"]
    first = _trainer(tmp_path, mini_pack, overrides, "asymtrack_lite0")
    reports: list[int] = []
    first.run(Hooks(on_progress=lambda progress: reports.append(progress.samples)))
    assert reports == [4], "the last steps are reported too"
    assert first.finished
    second = _trainer(tmp_path, mini_pack, overrides, "asymtrack_lite0")
    assert second.resume()
    second.run(Hooks(on_progress=lambda progress: reports.append(progress.samples)))
    assert (second.samples, reports) == (4, [4])


def test_resume_takes_rates_from_the_recipe(tmp_path: Path, mini_pack: Path) -> None:
    _trainer(tmp_path, mini_pack, [], "asymtrack_lite0").save()
    changes = ["optim.lr=5e-4", "optim.weight_decay=0.5", "optim.backbone_lr_factor=0.1"]
    changed = _trainer(tmp_path, mini_pack, changes, "asymtrack_lite0")
    assert changed.resume()
    groups = changed._optimizer.param_groups
    assert {round(group["peak_lr"], 9) for group in groups} == {5e-4, 5e-5}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.5}


@pytest.mark.parametrize(
    "change", ["optim.frozen=[backbone.stem]", "optim.backbone_lr_factor=0"], ids=str
)
def test_resume_with_other_trainable_parameters_is_refused(
    tmp_path: Path, mini_pack: Path, change: str
) -> None:
    _trainer(tmp_path, mini_pack, [], "asymtrack_lite0").save()
    changed = _trainer(tmp_path, mini_pack, [change], "asymtrack_lite0")
    with pytest.raises(RecipeError, match="what learns cannot change"):
        changed.resume()


def test_frozen_prefix_without_parameter_is_refused(tmp_path: Path, mini_pack: Path) -> None:
    with pytest.raises(RecipeError, match=r"'bakbone'.*backbone\.stem"):
        _trainer(tmp_path, mini_pack, ["optim.frozen=[bakbone]"], "asymtrack_lite0")
    with pytest.raises(RecipeError, match="nothing to learn"):
        _trainer(tmp_path, mini_pack, ["optim.frozen=['']"], "asymtrack_lite0")


def test_a_dead_data_process_is_named(
    tmp_path: Path, mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(dataset: PairDataset, number: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    trainer = _trainer(tmp_path, mini_pack, [], "asymtrack_lite0")
    monkeypatch.setattr(PairDataset, "__getitems__", die)
    trainer._workers = 1
    with pytest.raises(DataWorkerError, match=r"after 0 samples.*--workers 0"):
        trainer.run()


def test_workers_do_not_change_the_data(mini_pack: Path, tmp_path: Path) -> None:
    recipe = load_recipe(_recipe_file(tmp_path))
    dataset = PairDataset(load_image_pack(mini_pack), get_spec(recipe.model), recipe)
    here = list(make_loader(dataset, BatchNumbers(4, 16, 4), 0, pin=False))
    there = list(make_loader(dataset, BatchNumbers(4, 16, 4), 2, pin=False))
    assert len(here) == len(there) == 3
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    batch = BatchPreprocessor(get_spec(recipe.model), torch.device("cpu"))(here[0])
    assert batch.inputs["search"].shape == (4, 3, 256, 256)
    assert batch.inputs["search"].abs().max() <= 1.0
    centres = batch.truth.box[:, :2]
    assert bool(((centres > 0) & (centres < 1)).all())


def test_every_augmentation_keeps_the_label_in_the_crop(mini_pack: Path, tmp_path: Path) -> None:
    always = ["spin", "blur", "template_blur", "small", "distractor", "transplant"]
    overrides = [f"augment.{name}=1" for name in always]
    recipe = load_recipe(_recipe_file(tmp_path), [*overrides, "sampling.lookalike_share=0.5"])
    dataset = PairDataset(load_image_pack(mini_pack), get_spec(recipe.model), recipe)
    plain_recipe = load_recipe(_recipe_file(tmp_path))
    plain = PairDataset(load_image_pack(mini_pack), get_spec(recipe.model), plain_recipe)
    for number in range(40):
        sample, again = dataset[number], dataset[number]
        assert all(np.array_equal(sample[key], again[key]) for key in sample)
        assert sample["search"].shape == (256, 256, 3)
        assert (sample["box"][2:] > 0).all()
        assert ((sample["box"][:2] > 0) & (sample["box"][:2] < 1)).all()
        assert (sample["search"] != plain[number]["search"]).any()


def test_a_killed_command_continues(tmp_path: Path, mini_pack: Path) -> None:
    command = [sys.executable, "-m", "vt_models", "train", str(_recipe_file(tmp_path))]
    command += ["--data", str(mini_pack), "--threads", "1", "--workers", "0", "--output"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = tmp_path / "killed"
    process = subprocess.Popen([*command, str(run)], stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 240
    while not (run / "last.pt").is_file():
        assert process.poll() is None, "the command ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint within 240 s"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert load_checkpoint(run / "last.pt")["samples"] >= 8
    for folder in (run, tmp_path / "whole"):
        subprocess.run([*command, str(folder)], check=True, capture_output=True, env=environment)
    killed = load_file(run / "weights.safetensors")
    whole = load_file(tmp_path / "whole" / "weights.safetensors")
    assert all(np.array_equal(killed[key], whole[key]) for key in whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_command_saves_and_says_so(
    tmp_path: Path, mini_pack: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "vt_models", "train", str(_recipe_file(tmp_path))]
    command += ["--data", str(mini_pack), "--threads", "1", "--workers", "1"]
    command += ["--set", "optim.samples=40000", "--output", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "run" / "last.pt").is_file():
        assert process.poll() is None, "the command ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint within 240 s"
        time.sleep(0.02)
    # Terminals, service managers and torchrun signal the data processes as well.
    os.killpg(process.pid, number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in words
    samples = load_checkpoint(tmp_path / "run" / "last.pt")["samples"]
    assert f"stopped at {samples} samples; the same command continues there" in words
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert load_file(tmp_path / "run" / "latest.safetensors"), "the weights so far"


def test_the_command_validates_and_logs(tmp_path: Path, mini_pack: Path) -> None:
    sequence = tmp_path / "sequences" / "clip"
    (sequence / "img").mkdir(parents=True)
    boxes = []
    for frame in range(4):
        image = cv2.imread(str(mini_pack / f"clip0_{frame}.png"))
        cv2.imwrite(str(sequence / "img" / f"{frame + 1:06d}.jpg"), image)
        boxes.append(f"{30 + 8 * frame},{40 + 2 * frame},24,30")
    (sequence / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
    words = ["train", str(_recipe_file(tmp_path)), "--data", str(mini_pack), "--workers", "0"]
    words += ["--output", str(tmp_path / "run"), "--validate-on", str(tmp_path / "sequences")]
    words += ["--set", "optim.samples=80", "--set", "validate_every=40", "--threads", "1"]
    assert main(words) == 0
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"train/total", "train/lr", "speed/pairs_per_second", "speed/data_wait"} <= tags
    validations = board.Scalars("validation/ao")
    assert [event.step for event in validations] == [40, 80]
    assert all(0.0 <= event.value <= 1.0 for event in validations)


def test_nan_loss_stops_with_the_checkpoint_intact(tmp_path: Path, mini_pack: Path) -> None:
    trainer = _trainer(tmp_path, mini_pack, ["optim.lr=1e30"], "asymtrack_lite0")
    trainer.save()
    with pytest.raises(DivergedError, match=r"last\.pt is intact"):
        trainer.run()
    assert load_checkpoint(trainer.checkpoint_path)["samples"] < 24


def test_resume_from_another_model_or_damage_is_refused(tmp_path: Path, mini_pack: Path) -> None:
    trainer = _trainer(tmp_path, mini_pack, [], "asymtrack_lite0")
    assert not trainer.resume()
    trainer.save()
    other = _trainer(tmp_path, mini_pack, [], "asymtrack_t")
    with pytest.raises(RecipeError, match="asymtrack_lite0"):
        other.resume()
    for wrong in (b"half a file", b"{}", bytes(99), pickle.dumps({"model": Path("x")}, 2)):
        (tmp_path / "last.pt").write_bytes(wrong)
        with pytest.raises(WeightsError, match=r"not a training checkpoint.*--restart"):
            trainer.resume()
    torch.save([1, 2], tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="lacks"):
        trainer.resume()


def test_resume_from_another_network_version_is_refused(tmp_path: Path, mini_pack: Path) -> None:
    trainer = _trainer(tmp_path, mini_pack, [], "asymtrack_lite0")
    trainer.save()
    state = load_checkpoint(trainer.checkpoint_path)
    state["model"].popitem()
    save_checkpoint(state, trainer.checkpoint_path)
    with pytest.raises(WeightsError, match="does not fit this version of asymtrack_lite0"):
        trainer.resume()


def test_a_failed_write_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    state = {"model": {}, "ema": None, "optimizer": {}, "samples": 1, "recipe": {}}
    save_checkpoint(state, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="No space left"):
        save_checkpoint(state | {"samples": 2}, path)
    assert load_checkpoint(path)["samples"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_learning_rate_schedule() -> None:
    step = OptimConfig(samples=1000, batch_size=10, decay_start=0.8)
    assert [learning_rate_scale(n, step) for n in (0, 790, 800, 990)] == [1.0, 1.0, 0.1, 0.1]
    linear = OptimConfig(
        samples=1000, batch_size=10, warmup_samples=90, decay_start=0.5, decay="linear"
    )
    assert learning_rate_scale(0, linear) == pytest.approx(0.1)
    assert learning_rate_scale(750, linear) == pytest.approx(0.5)
    assert learning_rate_scale(1000, linear) == pytest.approx(0.01)
