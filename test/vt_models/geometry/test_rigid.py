# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms: the laws of their group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.geometry.rigid import (
    Transform,
    facing,
    quaternion_of,
    rotation_matrix,
    slerp,
    unit_quaternion,
)

numbers = st.floats(-1.0, 1.0)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    values = np.array([draw(numbers) for _ in range(4)])
    assume(np.linalg.norm(values) > 0.1)
    return values / np.linalg.norm(values)


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    return Transform.from_parts(draw(quaternions()), 10.0 * draw(vectors))


def test_quaternion_turns_as_rep_103_says() -> None:
    quarter_left = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))
    moved = Transform.from_parts(quarter_left, (1.0, 2.0, 3.0))
    assert moved.apply((1.0, 0.0, 0.0)) == pytest.approx((1.0, 3.0, 3.0))
    assert moved.apply([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]).shape == (2, 3)


@given(quaternions())
def test_matrix_is_a_rotation_and_leads_back_to_its_quaternion(quaternion: np.ndarray) -> None:
    matrix = rotation_matrix(quaternion)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    back = quaternion_of(matrix)
    assert back[3] >= 0.0
    assert abs(back @ quaternion) == pytest.approx(1.0, abs=1e-9)


@given(transforms(), transforms(), vectors)
def test_transforms_compose_and_invert(first: Transform, second: Transform, point: np.ndarray):
    assert (first @ second).apply(point) == pytest.approx(first.apply(second.apply(point)))
    assert first.inverse().apply(first.apply(point)) == pytest.approx(point, abs=1e-9)


@given(quaternions(), quaternions(), st.floats(0.0, 1.0))
def test_slerp_turns_at_a_constant_rate_on_the_shorter_way(
    start: np.ndarray, end: np.ndarray, share: float
) -> None:
    total = np.arccos(min(1.0, abs(start @ end)))
    mixed = slerp(start, end, share)
    assert np.linalg.norm(mixed) == pytest.approx(1.0)
    assert np.arccos(min(1.0, abs(start @ mixed))) == pytest.approx(share * total, abs=1e-6)
    assert np.arccos(min(1.0, abs(end @ mixed))) == pytest.approx((1 - share) * total, abs=1e-6)


@given(vectors, st.sampled_from([(0.0, 0.0, 1.0), (0.0, -1.0, 0.0)]))
def test_facing_is_a_level_rotation_towards_the_direction(
    direction: np.ndarray, up: tuple[float, float, float]
) -> None:
    assume(np.linalg.norm(direction) > 1e-3)
    axes = facing(direction, up)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert axes[:, 2] == pytest.approx(up)
    assert axes[:, 0] @ direction >= -1e-9
    assert axes[:, 1] @ direction == pytest.approx(0.0, abs=1e-5)


def test_facing_straight_up_is_still_a_rotation() -> None:
    axes = facing((0.0, 0.0, 3.0), (0.0, 0.0, 1.0))
    assert axes.T @ axes == pytest.approx(np.eye(3))


@pytest.mark.parametrize(
    "quaternion", [(0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.1), (0.0, 0.0, 0.0, float("nan"))]
)
def test_quaternion_that_is_no_rotation_is_refused(quaternion: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected the norm 1"):
        unit_quaternion(quaternion)


def test_translation_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="expected finite numbers"):
        Transform.from_parts((0.0, 0.0, 0.0, 1.0), (0.0, float("inf"), 0.0))
