# SPDX-License-Identifier: Apache-2.0
"""A student learns which cells look alike, from a teacher that stays as it is."""

from __future__ import annotations

import pytest
import torch

from vt_models import create_model
from vt_models.errors import RecipeError
from vt_models.registry import get_spec
from vt_models.training.distillation import Distiller, relation_difference
from vt_models.training.settings import DistillConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return create_model("asymtrack_t").train()


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(1)
    return create_model("asymtrack_lite0")


def _crops():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 128, 128, generator=generator), torch.randn(
        2, 3, 256, 256, generator=generator
    )


def _distill(distiller, student, samples, pairs=2):
    template, search = _crops()
    outputs = student(template=template, search=search)
    terms = {"total": sum(value.float().square().mean() for value in outputs.values())}
    return float(terms["total"].detach()), distiller(terms, search, samples, pairs)


def test_the_student_comes_closer_to_the_teacher_and_only_the_student_moves(teacher):
    torch.manual_seed(0)
    student = create_model("asymtrack_t").train()
    config = DistillConfig(teacher="asymtrack_lite0", weight=10.0, alone_samples=100)
    distiller = Distiller(student, teacher, get_spec("asymtrack_t"), config, CPU)
    before = [one.clone() for one in (*teacher.parameters(), *teacher.buffers())]
    optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
    course = []
    for _ in range(6):
        _, terms = _distill(distiller, student, samples=0)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        course.append(float(terms["distill"]))
    assert course[-1] < 0.9 * course[0]
    after = (*teacher.parameters(), *teacher.buffers())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_teacher_has_nothing_to_teach_to_maps_like_its_own():
    maps = torch.randn(2, 24, 16, 16, generator=torch.Generator().manual_seed(3))
    assert relation_difference(maps, maps * 3.0) == pytest.approx(0.0, abs=1e-10)
    assert (relation_difference(maps, maps.flip(-1)) > 1e-3).all()


def test_the_student_learns_to_track_after_the_features_alone_and_is_let_go_at_the_end(
    student, teacher
):
    config = DistillConfig(
        teacher="asymtrack_lite0", weight=10.0, alone_samples=100, fade_samples=100
    )
    distiller = Distiller(student, teacher, get_spec("asymtrack_t"), config, CPU)
    _, alone = _distill(distiller, student, samples=99)
    assert float(alone["total"].detach()) == pytest.approx(10.0 * float(alone["distill"]), rel=1e-5)
    tracking, both = _distill(distiller, student, samples=150)
    wanted = tracking + 5.0 * float(both["distill"])
    assert float(both["total"].detach()) == pytest.approx(wanted, rel=1e-5)
    tracking, last = _distill(distiller, student, samples=500)
    assert float(last["total"].detach()) == pytest.approx(tracking, rel=1e-6)
    assert "distill" not in last, "the teacher must not compute what nobody reads"


def test_parts_of_a_batch_add_up(student, teacher):
    config = DistillConfig(teacher="asymtrack_lite0", alone_samples=1)
    distiller = Distiller(student, teacher, get_spec("asymtrack_t"), config, CPU)
    _, whole = _distill(distiller, student, samples=0, pairs=2)
    _, part = _distill(distiller, student, samples=0, pairs=4)
    assert float(part["distill"]) == pytest.approx(float(whole["distill"]) / 2, rel=1e-6)


def test_a_family_without_known_maps_is_named(teacher):
    net = create_model("asymtrack_lite0")
    config = DistillConfig(teacher="asymtrack_lite0")
    with pytest.raises(RecipeError, match=r"asymtrack_lite0 \(family .*known: asymtrack"):
        Distiller(net, teacher, get_spec("asymtrack_lite0"), config, CPU)
