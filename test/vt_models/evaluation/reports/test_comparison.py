# SPDX-License-Identifier: Apache-2.0
"""AO by kind of video and paired differences, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models.evaluation.metrics.accuracy import Accuracy
from vt_models.evaluation.reports.comparison import ao_difference, compare, scores_by_kind
from vt_models.evaluation.runs.runner import Report, SequenceResult


def report_of(model, overlaps):
    """A report with the given AO of each sequence, None for one whose truth is secret."""
    return Report(
        model,
        tuple(
            SequenceResult(
                name,
                np.ones((2, 4)),
                np.ones(2),
                np.ones(1),
                None if ao is None else Accuracy(ao, 0, 0, 0, 0, 0),
            )
            for name, ao in overlaps.items()
        ),
    )


def test_a_difference_is_paired_by_name():
    first = report_of("first", {"a": 0.2, "b": 0.9, "c": 0.5})
    other = report_of("other", {"c": 0.6, "a": 0.3, "b": 1.0})
    found = ao_difference(other, first)
    assert found["value"] == pytest.approx(0.1)
    # the videos differ much, the differences do not: unpaired intervals would say nothing
    assert found["interval"] == pytest.approx([0.1, 0.1])
    assert np.diff(other.ao_interval) > 0.3
    assert ao_difference(first, other)["value"] == pytest.approx(-0.1)


def test_kinds_are_means_over_their_videos_with_public_truth():
    report = report_of("m", {"a": 0.0, "b": 1.0, "c": 0.5, "secret": None})
    kinds = {"one": ["c"], "two": ["a", "b"], "hidden": ["secret"]}
    assert scores_by_kind(report, kinds) == {
        "one": {"videos": 1, "ao": 0.5, "ao_interval": None},
        "two": {"videos": 2, "ao": 0.5, "ao_interval": [0.0, 1.0]},
        "hidden": {"videos": 1, "ao": None, "ao_interval": None},
    }


def test_without_public_truth_nothing_is_compared():
    first, other = (report_of(name, {"a": None}) for name in ("first", "other"))
    assert compare(other, first, {}) == {}
    assert first.ao_interval is None
    assert "ao_interval" not in first.to_dict()["total"]


@given(st.dictionaries(st.text("abcd", min_size=1), st.floats(0, 1), min_size=1))
def test_one_kind_of_all_videos_is_the_total(overlaps):
    report = report_of("m", overlaps)
    (kind,) = compare(report, report, {"all": list(overlaps)})["kinds"].values()
    total = report.to_dict()["total"]
    assert kind["videos"] == len(overlaps)
    assert kind["ao"] == pytest.approx(total["ao"])
    assert kind["ao_interval"] == total["ao_interval"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20))
def test_the_difference_is_that_of_the_totals(pairs):
    first = report_of("first", {str(index): pair[0] for index, pair in enumerate(pairs)})
    other = report_of("other", {str(index): pair[1] for index, pair in enumerate(pairs)})
    found = ao_difference(other, first)
    low, high = found["interval"]
    assert found["value"] == pytest.approx(other.total["ao"] - first.total["ao"], abs=1e-9)
    assert low - 1e-9 <= found["value"] <= high + 1e-9
