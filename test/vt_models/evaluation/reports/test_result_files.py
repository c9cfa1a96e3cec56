# SPDX-License-Identifier: Apache-2.0
"""Result files in the benchmarks' formats."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from vt_models.errors import InputError
from vt_models.evaluation.reports.result_files import write_anchored, write_results
from vt_models.evaluation.runs.runner import Report, SequenceResult
from vt_models.evaluation.runs.vot_runs import AnchorRun, AnchorRuns

BOXES = np.array([[1.5, 2.0, 30.25, 40.0], [2.0, -3.1234, 30.0, 41.0], [3.0, 4.0, 5.0, 6.0]])


@pytest.fixture
def report():
    def result(name):
        return SequenceResult(name, BOXES, np.ones(3), np.array([0.01, 0.02]), None)

    return Report("mine", (result("a"), result("b-1")))


def files_below(directory):
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


def test_write_results_otb_has_boxes_and_times(report, tmp_path):
    assert write_results("otb", report, tmp_path) == tmp_path / "mine"
    names = ["mine/a.txt", "mine/b-1.txt", "mine/times/a_time.txt", "mine/times/b-1_time.txt"]
    assert files_below(tmp_path) == names
    lines = (tmp_path / "mine" / "a.txt").read_text().splitlines()
    assert lines[0] == "1.500,2.000,30.250,40.000"
    assert lines[1] == "2.000,-3.123,30.000,41.000"


def test_write_results_lasot_has_one_file_a_sequence(report, tmp_path):
    folder = write_results("lasot", report, tmp_path)
    assert folder.name == "mine_tracking_result"
    assert files_below(folder) == ["a.txt", "b-1.txt"]
    np.testing.assert_allclose(np.loadtxt(folder / "a.txt", delimiter=","), BOXES, atol=1e-4)


def test_write_results_trackingnet_is_a_flat_zip(report, tmp_path):
    path = write_results("trackingnet", report, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.txt", "b-1.txt"]
        boxes = np.loadtxt(io.BytesIO(archive.read("a.txt")), delimiter=",")
    np.testing.assert_allclose(boxes, BOXES, atol=1e-3)
    before = path.read_bytes()
    assert write_results("trackingnet", report, tmp_path).read_bytes() == before


def test_write_results_got10k_has_times_and_a_zip_of_the_same(report, tmp_path):
    path = write_results("got10k", report, tmp_path)
    names = ["a/a_001.txt", "a/a_time.txt", "b-1/b-1_001.txt", "b-1/b-1_time.txt"]
    assert files_below(tmp_path / "mine") == names
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == names
    times = np.loadtxt(tmp_path / "mine" / "a" / "a_time.txt")
    assert times.tolist() == [0.0, 0.01, 0.02]


def test_write_anchored_has_a_file_an_anchor(tmp_path):
    run = AnchorRun(5, False, BOXES, np.array([0.5, 0.25, 0.125]))
    folder = write_anchored([AnchorRuns("a", BOXES, (64, 48), (run,))], "mine", tmp_path)
    assert files_below(folder) == [
        "baseline/a/a_00000005.txt",
        "baseline/a/a_00000005_time.value",
    ]
    lines = (folder / "baseline/a/a_00000005.txt").read_text().splitlines()
    assert lines == ["1", "2.0000,-3.1234,30.0000,41.0000", "3.0000,4.0000,5.0000,6.0000"]
    assert len((folder / "baseline/a/a_00000005_time.value").read_text().split()) == 3


def test_write_results_votlt_has_confidences_and_unknown_regions(tmp_path):
    boxes = BOXES.copy()
    boxes[2] = np.nan
    scores = np.array([1.0, 0.75, 0.0])
    result = SequenceResult("a", boxes, scores, np.array([0.01, 0.02]), None)
    folder = write_results("vot-lt", Report("mine", (result,)), tmp_path)
    names = ["a_001.txt", "a_001_confidence.value", "a_001_time.value"]
    assert files_below(folder) == [f"longterm/a/{name}" for name in names]
    regions, confidences, times = (
        (folder / "longterm" / "a" / name).read_text().splitlines() for name in names
    )
    assert regions == ["1", "2.0000,-3.1234,30.0000,41.0000", "0"]
    assert confidences == ["nan", "0.750000", "0.000000"]
    assert times == ["0.000000", "0.010000", "0.020000"]


def test_an_unknown_benchmark_is_named(report, tmp_path):
    with pytest.raises(InputError, match="'kitti'; expected one of otb, lasot"):
        write_results("kitti", report, tmp_path)
