# SPDX-License-Identifier: Apache-2.0
"""Targets of a file: what is read, and what is refused in one sentence."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vt_models.errors import InputError
from vt_models.offline.targets import MOST_TARGETS, TargetPlan, read_plans

BOX = [1, 2, 30, 40]


def write(folder, content):
    path = folder / "targets.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_file_has_boxes_points_and_descriptions(tmp_path):
    targets = [
        {"name": "car", "box": BOX},
        {"name": "van", "at": 1.5, "text": "the white van", "box": BOX},
        {"name": "man_2", "at": 2, "text": "the man"},
        {"name": "ball", "point": [5, 6.5]},
    ]
    assert read_plans(write(tmp_path, {"targets": targets})) == [
        TargetPlan("car", 0.0, (1.0, 2.0, 30.0, 40.0)),
        TargetPlan("van", 1.5, (1.0, 2.0, 30.0, 40.0), "the white van"),
        TargetPlan("man_2", 2.0, None, "the man"),
        TargetPlan("ball", 0.0, point=(5.0, 6.5)),
    ]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"box": BOX}, r"targets\[0\] has no name"),
        ({"name": "a b", "box": BOX}, r"called 'a b'; expected a letter"),
        ({"name": 3, "box": BOX}, r"name is 3; expected a text"),
        ({"name": "a"}, r"give its box, text or point"),
        ({"name": "a", "box": [1, 2, 3]}, r"box is \[1, 2, 3\]; expected 4 numbers"),
        ({"name": "a", "box": [1, 2, 3, "x"]}, r"box has 'x'; expected a number"),
        ({"name": "a", "box": [1, 2, 3, True]}, r"box has True; expected a number"),
        ({"name": "a", "box": [1, 2, 3, math.inf]}, r"is not finite"),
        ({"name": "a", "point": [1, 2], "box": BOX}, r"a point is given beside a box"),
        ({"name": "a", "box": BOX, "at": -1}, r"at is -1.0; expected seconds, 0 or more"),
        ({"name": "a", "box": BOX, "at": math.nan}, r"at is nan; expected seconds"),
        ({"name": "a", "text": " "}, r"targets\[0\]: "),
        ({"name": "a", "box": BOX, "colour": "red"}, r"unknown key colour; its keys are name"),
        ("car", r"targets\[0\] is no mapping"),
    ],
)
def test_target_that_cannot_be_is_named(tmp_path, target, said):
    path = write(tmp_path, {"targets": [target]})
    with pytest.raises(InputError, match=said) as caught:
        read_plans(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected `targets:` and a list"),
        ("targets: 3", "expected `targets:` and a list"),
        ("targets: []", "has 0 targets; expected 1 to"),
        ("targets: [{name: a, point: [1, 1]}]\nother: 1", "nothing else"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_file_that_is_none_is_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        read_plans(write(tmp_path, content))


def test_too_many_targets_and_equal_names_are_refused(tmp_path):
    many = [{"name": f"a{n}", "box": BOX} for n in range(MOST_TARGETS + 1)]
    with pytest.raises(InputError, match=f"has {MOST_TARGETS + 1} targets"):
        read_plans(write(tmp_path, {"targets": many}))
    twice = [{"name": "a", "box": BOX}] * 2
    with pytest.raises(InputError, match="two targets are called a"):
        read_plans(write(tmp_path, {"targets": twice}))
    with pytest.raises(InputError, match="cannot be read"):
        read_plans(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read: it is a folder"):
        read_plans(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["name", "at", "box", "text", "point", "x"])


@given(targets=st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=3) | VALUES)
def test_any_file_gives_targets_or_one_sentence(tmp_path_factory, targets):
    path = write(tmp_path_factory.mktemp("any"), {"targets": targets})
    try:
        plans = read_plans(path)
    except InputError as error:
        plans = []
        assert_names(error, path)
    assert all(plan.box or plan.text or plan.point for plan in plans)


def assert_names(error, path):
    assert str(error).startswith(str(path))
