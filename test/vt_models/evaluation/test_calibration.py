# SPDX-License-Identifier: Apache-2.0
"""What a calibration that cannot be fitted says; fits are in longterm/test_metrics.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vt_models.api import create_tracker
from vt_models.cli.main import main
from vt_models.errors import InputError
from vt_models.evaluation.calibration import Samples, collect, fit_confidence


@pytest.mark.parametrize(("overlap", "said"), [(0.0, "annotations"), (1.0, "target disappears")])
def test_fit_confidence_without_right_or_wrong_boxes_says_what_is_likely(overlap, said):
    count = 9
    ones, boxes = np.ones(count), np.ones((count, 4))
    samples = Samples("s", ones, ones, overlap * ones, boxes, boxes, np.zeros((count, 4, 4)))
    with pytest.raises(InputError, match=f"right in {9 * overlap:g} of 9 frames.*{said}"):
        fit_confidence([samples])


def test_calibrate_names_faults_of_annotations_before_it_runs(tmp_path, write_sequence, capsys):
    write_sequence("fractions", ["0.2,0.2,0.1,0.1"] * 3)
    words = ["--model", "asymtrack_lite0", "--sequences", str(tmp_path), "--dry-run"]
    assert main(["calibrate", *words]) == 2
    assert "are these fractions of the image?" in capsys.readouterr().err


class SparseTruth:
    """A still square whose box is known in some frames; in one of them it is absent."""

    name, period = "sparse", 0.04

    def __init__(self):
        self.boxes = np.full((8, 4), np.nan)
        self.boxes[[0, 2, 5]] = 60.0, 40.0, 40.0, 40.0
        self.is_known = np.isfinite(self.boxes[:, 0])
        self.is_known[6] = True

    def read_frame(self, index):  # noqa: ARG002
        frame = np.random.default_rng(3).integers(90, 120, (120, 160, 3), np.uint8)
        frame[40:80, 60:100] = 230, 200, 40
        return frame


def test_frames_without_a_known_truth_do_not_count():
    (samples,) = collect(create_tracker("asymtrack_lite0"), [SparseTruth()], progress=False)
    assert list(samples.right) == [1, 1, 0]
    for values in (samples.scores, samples.similarities, samples.boxes, samples.errors):
        assert len(values) == 3
    assert len(samples.spreads) == 3


def test_calibrate_takes_a_list_of_videos(tmp_path, shared_dir, capsys):
    videos = tmp_path / "list.tsv"
    videos.write_text("video\tkind\tuse\nvot14_fish1\tanimals\tvalidate\nnone\tanimals\twithhold\n")
    words = ["--model", "asymtrack_lite0", "--dataset", "videos", "--dry-run", "--json"]
    words += ["--sequences", str(shared_dir / "train_videos"), "--list", str(videos)]
    assert main(["calibrate", *words]) == 0
    assert json.loads(capsys.readouterr().out)["fitted"]["sequences"] == ["vot14_fish1"]
