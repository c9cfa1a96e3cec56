# SPDX-License-Identifier: Apache-2.0
"""A backbone without weights learns a trained tracker's maps from windows of images."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path

from safetensors import safe_open

from vt_models import create_model
from vt_models.cli.main import main
from vt_models.errors import InputError
from vt_models.registry import get_spec
from vt_models.training.distillation.backbone import (
    BackboneSettings,
    Windows,
    distill_backbone,
)
from vt_models.weights.tensors import save_weights

CPU = torch.device("cpu")
SETTINGS = BackboneSettings(samples=160, batch_size=8, size=64, lr=3e-3)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 6, 8, 3), np.uint8)
    return [np.kron(one, np.ones((20, 20, 1), np.uint8)) for one in coarse]


def _pair(name: str, seed: int = 0):
    torch.manual_seed(seed)
    return create_model(name), get_spec(name)


def test_distill_backbone_lowers_the_loss_and_keeps_the_teacher(images: list[np.ndarray]) -> None:
    student, teacher = _pair("asymtrack_t"), _pair("asymtrack_lite0", seed=1)
    before = [one.clone() for one in (*teacher[0].parameters(), *teacher[0].buffers())]

    course = list(distill_backbone(student, teacher, images, SETTINGS, CPU))

    assert [seen for seen, _ in course] == list(range(8, 161, 8))
    shares = torch.stack([shares for _, shares in course])
    assert shares.shape == (20, 3)
    assert (shares[-4:].mean(0) < 0.9 * shares[:2].mean(0)).all()
    after = (*teacher[0].parameters(), *teacher[0].buffers())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not student[0].training


def test_windows_of_the_same_number_are_equal(images: list[np.ndarray]) -> None:
    windows = Windows(images, SETTINGS)
    first, again, other = windows[3], windows[3], windows[4]
    assert first["crop"].shape == (64, 64, 3)
    assert first["crop"].dtype == np.uint8
    assert np.array_equal(first["crop"], again["crop"])
    assert not np.array_equal(first["crop"], other["crop"])


def test_distill_backbone_max_seconds_ends_early(images: list[np.ndarray]) -> None:
    hurried = BackboneSettings(samples=80_000, max_seconds=1.5, batch_size=8, size=64)
    course = list(
        distill_backbone(_pair("asymtrack_t"), _pair("asymtrack_lite0"), images, hurried, CPU)
    )
    assert 0 < course[-1][0] < 80_000


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ("asymtrack_lite0", "asymtrack_lite0", r"asymtrack_lite0 .* cannot learn .* asymtrack can"),
        ("asymtrack_t", "stark_s50", r"stark_s50 \(family stark\) cannot teach .* asymtrack_lite"),
    ],
)
def test_distill_backbone_of_another_family_is_refused(
    student: str, teacher: str, words: str, images: list[np.ndarray]
) -> None:
    lessons = distill_backbone(_pair(student), _pair(teacher), images, SETTINGS, CPU)
    with pytest.raises(InputError, match=words):
        next(lessons)


def test_the_command_writes_weights_that_training_starts_from(
    tmp_path: Path, mini_pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    output, run = tmp_path / "start.safetensors", tmp_path / "run"
    teacher = tmp_path / "teacher.safetensors"
    _save(create_model("asymtrack_lite0"), teacher)
    command = ["distill-backbone", "asymtrack_t", "--data", str(mini_pack), "--output", str(output)]
    command += ["--teacher-weights", str(teacher), "--samples", "16", "--batch-size", "8"]

    assert main([*command, "--workers", "0"]) == 0

    assert "16 windows, unexplained" in capsys.readouterr().out
    with safe_open(output, "pt") as file:
        facts, gamma = file.metadata(), file.get_tensor("backbone.layers.0.blocks.0.gamma_1")
    assert (facts["model"], facts["teacher"], facts["windows"]) == (
        "asymtrack_t",
        "asymtrack_lite0",
        "16",
    )
    assert gamma.mean() > 0.5  # it starts at 1e-4 in a fresh network
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: asymtrack_t\noptim: {samples: 4, batch_size: 4}\n")
    train = [
        "train",
        str(recipe),
        "--data",
        str(mini_pack),
        "--output",
        str(run),
        "--device",
        "cpu",
    ]
    assert main([*train, "--start-from", str(output), "--workers", "0"]) == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--samples", "0"], ["--samples", "0"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--max-minutes", "-1"], ["--max-minutes", "-1"]),
        (["--workers", "-1"], ["--workers", "-1"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--output", "weights.pt"], ["weights.pt", ".safetensors"]),
        (["--teacher", "stark_s50"], ["stark_s50", "--teacher-weights"]),
    ],
)
def test_distill_backbone_command_impossible_values_are_refused(
    tmp_path: Path, option: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "start.safetensors")]
    given = ["distill-backbone", "asymtrack_t", "--data", str(tmp_path), *output, *option]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words)
    assert "Traceback" not in said


def _save(net: torch.nn.Module, path: Path) -> None:
    tensors = {name: value.numpy() for name, value in net.state_dict().items()}
    save_weights(tensors, path, "asymtrack_lite0")
