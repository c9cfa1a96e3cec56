# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from benchmarks.longterm import _keep_rest, main
from vt_models.errors import InputError


def result(commit, clips, accuracy, **trackers):
    entries = {name: {"f_score": value} for name, value in trackers.items()}
    sets = {"composed": {"clips": clips, "trackers": entries}}
    return {"commit": commit, "sets": sets, "accuracy": accuracy}


def test_measuring_a_part_keeps_the_rest_with_its_commit() -> None:
    now = result("b", {"one": 9}, {}, long_term=0.8)
    _keep_rest(now, result("a", {"one": 9}, {"long_term": {"ao": 0.7}}, long_term=0.1, csrt=0.3))
    assert now["sets"]["composed"]["trackers"] == {
        "long_term": {"f_score": 0.8},
        "csrt": {"f_score": 0.3, "commit": "a"},
    }
    assert now["accuracy"] == {"long_term": {"ao": 0.7}}
    with pytest.raises(InputError, match="clips of 'composed' are others"):
        _keep_rest(now, result("a", {"two": 9}, None))


def test_an_unknown_tracker_or_set_is_named(capsys) -> None:
    assert main(["--baselines", "", "--only", "midterm"]) == 2
    assert "no midterm; there are long_term" in capsys.readouterr().err
    assert main(["--baselines", "", "--sets", "some"]) == 2
    assert "no some; there are sequences" in capsys.readouterr().err
