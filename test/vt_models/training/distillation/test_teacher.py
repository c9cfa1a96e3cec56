# SPDX-License-Identifier: Apache-2.0
"""A dense head learns from NanoTrack v3, where that is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vt_models.api import create_model
from vt_models.cli.main import main
from vt_models.errors import InputError, RecipeError, WeightsError
from vt_models.nets.nanotrack import NanoTrack
from vt_models.registry import get_spec
from vt_models.training.data.batches import BatchNumbers, BatchPreprocessor, make_loader
from vt_models.training.data.pairs import PairDataset
from vt_models.training.data.targets import load_image_pack
from vt_models.training.distillation.teacher import (
    PADDING,
    Teacher,
    TeacherMaps,
    agreement,
    load_teacher,
    sides_to_boxes,
    teacher_loss,
)
from vt_models.training.losses.families import Truth, dense_loss
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import LossConfig
from vt_models.training.trainer import Trainer, seed_everything

pytestmark = pytest.mark.train

CPU = torch.device("cpu")
POINTS = 17
"""In a search crop of 256 pixels."""
CONFIG = LossConfig(teacher=1.0)


def _truth(count: int = 4) -> Truth:
    rng = np.random.default_rng(1)
    centre, size = rng.uniform(0.35, 0.65, (count, 2)), rng.uniform(0.15, 0.35, (count, 2))
    box = torch.from_numpy(np.hstack([centre, size]).astype(np.float32))
    return Truth(box, torch.ones(count, dtype=torch.bool))


def _maps_of(truth: Truth) -> TeacherMaps:
    """A teacher that says the truth: high where the target is, its box everywhere."""
    steps = torch.arange(POINTS) / (POINTS - 1)
    near_x = (steps[None] - truth.box[:, :1]).abs() < truth.box[:, 2:3] / 4
    near_y = (steps[None] - truth.box[:, 1:2]).abs() < truth.box[:, 3:4] / 4
    inside = near_y[:, :, None] & near_x[:, None, :] & truth.present[:, None, None]
    boxes = truth.box[:, :, None, None].expand(-1, 4, POINTS, POINTS)
    return TeacherMaps(torch.where(inside, 0.95, 0.01), boxes.contiguous())


def _student_of(maps: TeacherMaps) -> dict[str, torch.Tensor]:
    """A student that says the same."""
    score = torch.nn.functional.interpolate(maps.score[:, None], scale_factor=2.0, mode="bilinear")
    boxes = torch.nn.functional.interpolate(maps.boxes, scale_factor=2.0)
    return {"logits": score[:, 0, 1:-1, 1:-1].logit(), "boxes": boxes[..., 1:-1, 1:-1].clone()}


def test_teacher_loss_of_equal_maps_is_zero() -> None:
    truth = _truth()
    maps = _maps_of(truth)
    terms = teacher_loss(_student_of(maps), maps, truth, CONFIG)
    assert terms["teacher_right"] == 1
    assert terms["teacher_iou"].item() == pytest.approx(1, abs=1e-5)
    for name in ("total", "teacher", "teacher_score", "teacher_giou", "teacher_l1"):
        assert terms[name].item() == pytest.approx(0, abs=1e-5), name


@pytest.mark.parametrize("name", ["logits", "boxes"])
def test_teacher_loss_gradient_moves_towards_the_teacher(name: str) -> None:
    truth = _truth()
    maps = _maps_of(truth)
    student = _student_of(maps)
    moved = student[name] + (1.0 if name == "logits" else 0.03)
    student[name] = moved.requires_grad_()
    terms = teacher_loss(student, maps, truth, CONFIG)
    assert terms["total"] > 0.01
    (gradient,) = torch.autograd.grad(terms["total"], moved)
    student[name] = moved - 0.01 * gradient
    assert teacher_loss(student, maps, truth, CONFIG)["total"] < terms["total"]
    if name == "boxes":  # only those of cells beside points where the teacher is confident
        assert ((gradient != 0).any(1).sum((1, 2)) == 4 * (maps.score > 0.5).sum((1, 2))).all()


def test_teacher_loss_where_the_teacher_is_wrong_is_zero() -> None:
    truth = _truth()
    maps = _maps_of(truth)
    boxes = maps.boxes.clone()
    boxes[1, 0] += 0.4  # beside the target
    maps = TeacherMaps(maps.score, boxes)
    absent = torch.tensor([True, True, False, True])  # but the teacher finds one in the third
    truth = Truth(truth.box, absent)
    right, iou = agreement(maps, *truth)
    assert right.tolist() == [True, False, False, True]
    assert iou.tolist() == pytest.approx([1, 0, 0, 1], abs=1e-5)
    student = _student_of(maps)
    student = {key: (value + 0.05).requires_grad_() for key, value in student.items()}
    terms = teacher_loss(student, maps, truth, CONFIG)
    gradients = torch.autograd.grad(terms["total"], list(student.values()))
    for gradient in gradients:
        assert gradient[[0, 3]].flatten(1).any(1).all()
        assert not gradient[[1, 2]].any()
    assert terms["teacher_right"] == 0.5
    assert terms["teacher_iou"].item() == pytest.approx(2 / 3, abs=1e-5)


def test_teacher_loss_with_worse_boxes_ignores_them() -> None:
    truth = _truth()
    maps = _maps_of(truth)
    student = _student_of(maps)
    boxes = maps.boxes.clone()
    boxes[:2, 2] *= 1.3  # IoU 0.77
    maps = TeacherMaps(maps.score, boxes)
    student["boxes"] = student["boxes"].clone()
    student["boxes"][::2, 3] *= 1.1  # IoU 0.91
    student["boxes"].requires_grad_()
    terms = teacher_loss(student, maps, truth, CONFIG)
    (gradient,) = torch.autograd.grad(terms["total"], student["boxes"])
    assert gradient.flatten(1).any(1).tolist() == [False, False, True, False]
    assert terms["teacher_right"] == 1
    assert terms["teacher_better"].item() == pytest.approx(0.25, abs=1e-5)


def test_teacher_loss_with_absent_target_lowers_scores_only() -> None:
    truth = Truth(_truth().box, torch.zeros(4, dtype=torch.bool))
    maps = _maps_of(truth)
    student = {key: value.requires_grad_() for key, value in _student_of(maps).items()}
    student["logits"] = (student["logits"] + 4).detach().requires_grad_()
    terms = teacher_loss(student, maps, truth, CONFIG)
    gradients = torch.autograd.grad(terms["total"], [student["logits"], student["boxes"]])
    assert (gradients[0] > 0).all()
    assert not gradients[1].any()
    assert terms["teacher_right"] == 1


def test_teacher_loss_of_parts_adds_up_to_the_batch() -> None:
    truth = Truth(_truth(6).box, torch.tensor([True, True, False, True, False, True]))
    rng = torch.Generator().manual_seed(2)
    maps = _maps_of(truth)
    maps.boxes[3, 1] += 0.5
    outputs = {
        name: (value + 0.05 * torch.randn(value.shape, generator=rng)).requires_grad_()
        for name, value in _student_of(maps).items()
    }
    whole = teacher_loss(outputs, maps, truth, CONFIG)
    parts = []
    for cut in (slice(0, 1), slice(1, 5), slice(5, 6)):
        own = {name: value[cut] for name, value in outputs.items()}
        part_maps = TeacherMaps(maps.score[cut], maps.boxes[cut])
        part = Truth(truth.box[cut], truth.present[cut])
        parts.append(teacher_loss(own, part_maps, part, CONFIG, truth))
    for name, value in whole.items():
        found = sum(part[name] for part in parts).item()
        assert found == pytest.approx(value.item(), rel=1e-5), name
    inputs = list(outputs.values())
    expected = torch.autograd.grad(whole["total"], inputs)
    found = torch.autograd.grad(sum(part["total"] for part in parts), inputs)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_teacher_points_lie_as_published() -> None:
    sides = torch.full((1, 4, POINTS, POINTS), 8.0)
    boxes = sides_to_boxes(sides, 256) * 256
    assert boxes[0, 0, 0].tolist() == [128 + 16 * step for step in range(-8, 9)]
    assert boxes[0, 1, :, 0].tolist() == [128 + 16 * step for step in range(-8, 9)]
    assert (boxes[0, 2:] == 16).all()
    # But at the edge, each point lies where four of the student's cells meet.
    cells = (torch.arange(32) + 0.5) * 8
    assert torch.equal(boxes[0, 0, 0, 1:-1], (cells[1:-1:2] + cells[2:-1:2]) / 2)


RECIPE = """
model: {model}
seed: 3
checkpoint_every: 1000
sampling: {{negative_share: 0.1}}
optim: {{samples: {samples}, batch_size: 4, lr: 1e-3, grad_clip: 5, ema: 0.9}}
loss: {{teacher: {teacher}}}
"""


def _recipe(folder: Path, teacher: float, samples: int = 8, model: str = "asymtrack_lite0") -> Path:
    path = folder / "taught.yaml"
    path.write_text(RECIPE.format(model=model, teacher=teacher, samples=samples))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that knows nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "nanotrack_v3.safetensors"
    save_file(NanoTrack().state_dict(), path)
    return path


def test_the_teacher_sees_the_crops_as_bgr_bytes(mini_pack: Path, tmp_path: Path) -> None:
    class Seen(NanoTrack):
        def forward(self, template, search):
            self.crops = template, search
            return super().forward(template, search)

    recipe = load_recipe(_recipe(tmp_path, 1.0))
    spec, net = get_spec(recipe.model), Seen()
    dataset = PairDataset(load_image_pack(mini_pack), spec, recipe)
    (sample,) = make_loader(dataset, BatchNumbers(0, 4, 4), 0, pin=False)
    sample |= {"colour": torch.ones_like(sample["colour"]), "grey": torch.zeros(4) > 0}
    maps = Teacher(net, spec, CPU)(BatchPreprocessor(spec, CPU)(sample))
    template, search = (sample[name].permute(0, 3, 1, 2).flip(1) for name in ("template", "search"))
    assert torch.allclose(net.crops[0], template.float(), atol=1e-3)
    assert torch.allclose(
        net.crops[1][..., PADDING:-PADDING, PADDING:-PADDING], search.float(), atol=1e-3
    )
    assert maps.score.shape == (4, POINTS, POINTS)
    assert maps.boxes.shape == (4, 4, POINTS, POINTS)
    assert not maps.boxes.requires_grad
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not net.training


class Knowing(Teacher):
    """A teacher that says the truth."""

    def __init__(self) -> None:
        pass

    def __call__(self, batch):
        return _maps_of(batch.truth)


def test_training_step_with_teacher_parts_add_up(tmp_path: Path, mini_pack: Path) -> None:
    gradients, terms = [], []
    for parts in (1, 2):
        recipe = load_recipe(_recipe(tmp_path, 1.0), [f"optim.accumulate={parts}"])
        seed_everything(recipe.seed)
        net, data = create_model(recipe.model).eval(), load_image_pack(mini_pack)
        trainer = Trainer(net, recipe, data, tmp_path, CPU, teacher=Knowing())
        # In evaluation mode, as batch norms see parts and not the batch.
        terms.append(trainer.compute_gradients(next(iter(trainer.batches()))[0]))
        gradients.append({name: one.grad for name, one in net.head.named_parameters()})
    assert terms[0].keys() == terms[1].keys()
    assert terms[0]["teacher_right"] == 1
    for name, term in terms[0].items():
        assert terms[1][name].item() == pytest.approx(term.item(), rel=1e-4), name
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-3, atol=1e-5), name


def test_loss_without_teacher_is_that_of_the_family(tmp_path: Path, mini_pack: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, 0.0))
    trainer = Trainer(create_model(recipe.model), recipe, load_image_pack(mini_pack), tmp_path, CPU)
    trainer.prepare()
    (sample,), _ = next(iter(trainer.batches()))
    part = trainer._preprocess(sample)
    terms = trainer._terms(trainer._net, part, part.truth)
    expected = dense_loss(trainer._net(**part.inputs), part.truth, recipe.loss)
    assert terms.keys() == expected.keys()
    assert terms["total"].item() == pytest.approx(expected["total"].item(), rel=1e-6)


def test_teacher_impossible_use_is_refused(tmp_path: Path, mini_pack: Path, weights: Path) -> None:
    with pytest.raises(RecipeError, match=r"taught.yaml:7: `loss.teacher` means nothing for sbt"):
        load_recipe(_recipe(tmp_path, 1.0, model="sbt_light"))
    taught = load_recipe(_recipe(tmp_path, 0.5))
    with pytest.raises(InputError, match=r"`loss.teacher` is 0.5: .*--teacher-weights FILE"):
        load_teacher(None, taught, CPU)
    net = create_model(taught.model)
    with pytest.raises(InputError, match=r"`loss.teacher` is 0.5"):
        Trainer(net, taught, load_image_pack(mini_pack), tmp_path, CPU)
    plain = load_recipe(_recipe(tmp_path, 0.0))
    with pytest.raises(InputError, match=r"--teacher-weights .*`loss.teacher` is 0, nothing"):
        load_teacher(weights, plain, CPU)
    with pytest.raises(WeightsError, match=r"nowhere.safetensors cannot be read"):
        load_teacher(tmp_path / "nowhere.safetensors", taught, CPU)


def test_the_command_trains_with_a_teacher_on_real_pairs(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, pack = shared_dir / "peers" / "nanotrack_v3.safetensors", shared_dir / "train_pack"
    if not (teacher.is_file() and pack.is_dir()):
        pytest.skip(f"no {teacher} or no {pack}")
    small = tmp_path / "pack"
    small.mkdir()
    lines = (pack / "annotations.jsonl").read_text().splitlines()[:40]
    (small / "annotations.jsonl").write_text("\n".join(lines) + "\n")
    for line in lines:
        image = small / json.loads(line)["image"]
        image.parent.mkdir(exist_ok=True)
        image.symlink_to(pack / json.loads(line)["image"])
    recipe, output = _recipe(tmp_path, 1.0, samples=64), tmp_path / "run"
    command = ["train", str(recipe), "--data", str(small), "--output", str(output)]
    options = ["--workers", "0", "--threads", "1", "--device", "cpu"]
    assert main([*command, *options]) == 2
    assert "--teacher-weights" in capsys.readouterr().err
    assert main([*command, *options, "--teacher-weights", str(teacher)]) == 0
    board = EventAccumulator(str(output / "tensorboard"))
    board.Reload()
    values = {
        tag: board.Scalars(tag)[-1].value for tag in board.Tags()["scalars"] if "teacher" in tag
    }
    names = ("", "_score", "_giou", "_l1", "_right", "_better", "_iou")
    assert values.keys() == {f"train/teacher{name}" for name in names}
    assert values["train/teacher"] > 0
    assert 0.1 < values["train/teacher_right"] <= 1
    assert 0.2 < values["train/teacher_iou"] <= 1
