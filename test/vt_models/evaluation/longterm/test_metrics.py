# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from vt_models import create_long_term_tracker, create_tracker, get_spec, list_models
from vt_models.cli import calibrate as calibrate_command
from vt_models.errors import DatasetError, InputError
from vt_models.evaluation import calibration as calibrate
from vt_models.evaluation.longterm.compose import HARD_NEGATIVE_KINDS, KINDS, compose, source_clips
from vt_models.evaluation.longterm.metrics import (
    Run,
    ShortTermAdapter,
    best_f_score,
    departures,
    precision_recall,
    run_clip,
    summary,
)
from vt_models.evaluation.longterm.report import LongTermReport
from vt_models.longterm.calibration import read_calibration
from vt_models.longterm.state_machine import State
from vt_models.longterm.tracker import LongTermEstimate
from vt_models.runtime.export_directory import read_export
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.tracker.tracker import Estimate

T, U, C, L = State.TRACKING, State.UNCERTAIN, State.COASTING, State.LOST
NAN = np.nan
BUNDLED = [name for name in list_models() if bundled_directory(get_spec(name)) is not None]


def a_run(overlaps, scores, states, present, period=0.5, name="clip") -> Run:
    return Run(
        name,
        period,
        np.array(overlaps, float),
        np.array(scores, float),
        np.array(states),
        np.array(present, bool),
    )


HALF_GONE = a_run(
    overlaps=[1.0, 0.8, 0.6, 0.0, 0.0, 0.0, 0.0, 0.2, 0.7, 0.9],
    scores=[1.0, 0.9, 0.8, 0.7, NAN, NAN, NAN, 0.3, 0.6, 0.9],
    states=[T, T, T, T, C, L, L, U, T, T],
    present=[1, 1, 1, 0, 0, 0, 0, 1, 1, 1],
)


def test_precision_and_recall_by_hand() -> None:
    precision, recall = precision_recall([HALF_GONE], np.array([0.0, 0.75, 0.95]))
    assert precision[0] == pytest.approx((0.8 + 0.6 + 0.0 + 0.2 + 0.7 + 0.9) / 6)
    assert recall[0] == pytest.approx((0.8 + 0.6 + 0.2 + 0.7 + 0.9) / 5)
    assert precision[1] == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert recall[1] == pytest.approx((0.8 + 0.6 + 0.9) / 5)
    assert (precision[2], recall[2]) == (1.0, 0.0)
    gone = a_run([1.0, 0.0], [1.0, 0.5], [T, T], [1, 0])
    precision, recall = precision_recall([gone, HALF_GONE], np.array([0.75]))
    assert precision == pytest.approx([(1.0 + (0.8 + 0.6 + 0.9) / 3) / 2])
    assert recall == pytest.approx([(0.8 + 0.6 + 0.9) / 5]), "without the target there is none"


def test_the_best_threshold_is_found() -> None:
    best = best_f_score([HALF_GONE])
    precision, recall = precision_recall([HALF_GONE], np.array([0.3, 0.6, 0.7, 0.8, 0.9]))
    assert best["f_score"] == pytest.approx(max(2 * precision * recall / (precision + recall)))
    with pytest.raises(InputError, match="no run"):
        best_f_score([])


def test_one_departure_by_hand() -> None:
    (departure,) = departures(HALF_GONE)
    assert (departure.frame, departure.absent_seconds) == (3, 2.0)
    assert (departure.unsure_after, departure.lost_after) == (0.5, 1.0)
    assert (departure.present_seconds, departure.found_after) == (1.5, 0.5)


def test_departures_without_end_or_answer() -> None:
    gone = a_run([1, 0, 0, 0], [1, 1, 1, 1], [T, T, T, T], [1, 0, 0, 0])
    (departure,) = departures(gone)
    assert departure.unsure_after is departure.lost_after is departure.found_after is None
    assert departure.present_seconds == 0.0
    short = a_run([1, 0, 0, 1], [1, 1, 1, 1], [T, T, T, T], [1, 0, 0, 1])
    assert departures(short) == []


def test_summary_rates() -> None:
    numbers = summary([HALF_GONE])
    assert numbers["false_tracking"] == pytest.approx(1 / 4)
    assert numbers["tracking"] == pytest.approx(4 / 5)
    assert numbers["wrong_tracking"] == 0.0
    assert (numbers["departures"], numbers["returns"], numbers["found"]) == (1, 1, 1.0)
    never = a_run([1, 0, 0, 0, 0, 0, 0, 0, 0], [1] * 9, [T] * 9, [1, 0, 0, 0, 1, 1, 1, 1, 1])
    numbers = summary([HALF_GONE, never])
    assert numbers["found"] == 0.5
    assert numbers["missed"] == ["clip:1"]
    assert json.dumps(numbers)


class Still:
    """Answers with the first box, and with the scores it was given."""

    def __init__(self, scores=()):
        self.scores = list(scores)

    def init(self, frame, box):  # noqa: ARG002
        self.box, self.left = box, iter(self.scores)

    def update(self, frame):  # noqa: ARG002
        return Estimate(self.box, next(self.left, 0.9))


class Clip:
    name, period = "still", 0.1
    boxes = np.array([(10.0, 10.0, 20.0, 20.0)] * 3 + [(NAN,) * 4] * 2)

    def read_frame(self, index):  # noqa: ARG002
        return np.zeros((64, 64, 3), np.uint8)


def test_a_bare_tracker_says_tracking_to_the_end() -> None:
    run = run_clip(ShortTermAdapter(Still()), Clip())
    assert list(run.states) == [T] * 5
    assert list(run.overlaps) == [1, 1, 1, 0, 0]


def test_a_bare_tracker_with_a_rule_or_a_failure_says_lost() -> None:
    run = run_clip(ShortTermAdapter(Still([0.1, 0.9, 0.1, 0.1]), 0.2, 2), Clip())
    assert list(run.states) == [T, T, T, T, L]
    assert np.isnan(run.scores[4])
    assert list(run_clip(ShortTermAdapter(Still([0.9, 0.0])), Clip()).states) == [T, T, L, T, T]


def test_run_without_a_box_has_no_overlap() -> None:
    class Lost(Still):
        def init(self, frame, box, text=None, stamp=None):  # noqa: ARG002
            self.stamps = []

        def update(self, frame, stamp=None):  # noqa: ARG002
            self.stamps.append(stamp)
            return LongTermEstimate(None, 0.0, L)

    tracker = Lost()
    run = run_clip(tracker, Clip())
    assert list(run.overlaps[1:]) == [0] * 4
    assert np.isnan(run.scores[1:]).all()
    assert tracker.stamps == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """A pack of three videos of 20 frames, each with a bright square that moves."""
    root = tmp_path_factory.mktemp("pack")
    lines = []
    for video in range(3):
        rng = np.random.default_rng(video)
        background = rng.integers(0, 100, (120, 160, 3), dtype=np.uint8)
        for number in range(20):
            box = (30 + 2 * number, 40, 24, 24)
            frame = background.copy()
            frame[40:64, box[0] : box[0] + 24] = (40, 220, 60 * video)
            name = f"v{video}_{number}.png"
            assert cv2.imwrite(str(root / name), frame)
            boxes = [{"bbox": box, "name": "square"}]
            lines.append({"image": name, "source": f"s{video}", "boxes": boxes})
            lines[-1] |= {"width": 160, "height": 120}
            lines[-1] |= {"video": f"v{video}", "frame": number, "orig_frame": 2 * number}
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def test_composing_is_repeatable_and_of_every_kind(pack) -> None:
    one, other = compose(pack, 3, 2), compose(pack, 3, 2)
    assert [clip.name for clip in one] == [clip.name for clip in other]
    assert {clip.name.split("-")[0] for clip in one} == set(KINDS)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        middle = len(a) // 2
        np.testing.assert_array_equal(a.read_frame(middle), b.read_frame(middle))
    names = {clip.name for seed in range(3) for clip in compose(pack, seed, 2)}
    assert len(names) > len(one)


ABSENT_KINDS = (*KINDS, "wiped", "slow_pan")


def first_of(kind, pack):
    return compose(pack, 0, 1, kinds=[kind])[0]


@pytest.mark.parametrize("kind", ABSENT_KINDS)
def test_a_target_leaves_once_and_returns(kind, pack) -> None:
    clip = first_of(kind, pack)
    present = np.isfinite(clip.boxes).all(axis=1)
    assert present[:15].all()
    assert present[-15:].all()
    edges = np.flatnonzero(np.diff(present.astype(int)))
    assert len(edges) == 2
    assert (~present).sum() >= 15
    assert clip.period == pytest.approx(2 / 30)
    assert all(clip.read_frame(i).shape == (120, 160, 3) for i in range(0, len(clip), 7))


@pytest.mark.parametrize("kind", ABSENT_KINDS)
def test_what_the_truth_calls_absent_cannot_be_seen(kind, pack) -> None:
    """In the middle of the absence nothing as green as the target is in its place."""
    clip = first_of(kind, pack)
    present = np.isfinite(clip.boxes).all(axis=1)
    index = int(np.flatnonzero(~present)[len(np.flatnonzero(~present)) // 2])
    x, y, w, h = (int(v) for v in clip._recipe.clip.boxes[clip._source_index(index)])
    original = cv2.imread(str(clip._recipe.clip.frames[clip._source_index(index)]))[..., ::-1]
    now = clip.read_frame(index)
    difference = np.abs(now[y : y + h, x : x + w].astype(int) - original[y : y + h, x : x + w])
    assert difference.mean() > 25


def test_a_copy_passes_over_a_target_that_stays_on_a_still_scene(pack) -> None:
    assert set(HARD_NEGATIVE_KINDS) == {"wiped", "copy", "slow_pan"}
    clip = first_of("copy", pack)
    assert np.isfinite(clip.boxes).all()
    still = clip._still
    assert len(np.unique(clip.boxes[still.start - 1 : still.stop], axis=0)) == 1
    greens = [
        int((clip.read_frame(index).astype(int)[..., 1] > 180).sum())
        for index in (still.start - 1, still.start + len(still) // 3, still.start + len(still) // 2)
    ]
    assert greens[1] > 1.2 * greens[0], "two of them"
    assert greens[2] == pytest.approx(greens[0], rel=0.3), "one before the other"


def test_a_copy_crosses_a_target_that_moves(pack) -> None:
    clip = first_of("crossing", pack)
    assert np.isfinite(clip.boxes).all()
    passing = clip._passing
    assert len(np.unique(clip.boxes[passing.start : passing.stop], axis=0)) > 1
    before, beside = (
        int((clip.read_frame(index).astype(int)[..., 1] > 180).sum())
        for index in (passing.start - 1, passing.start + len(passing) // 3)
    )
    assert beside > 1.2 * before, "two of them"


def test_halves_share_no_target_video(pack) -> None:
    fitted = {clip._recipe.clip.source for clip in compose(pack, 0, 4, "fit")}
    assert fitted == {"s0", "s2"}
    with pytest.raises(DatasetError, match="expected 2 or more"):
        compose(pack, 0, 1, "report")


def test_a_pack_without_clips_is_named(tmp_path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        source_clips(tmp_path)
    (tmp_path / "annotations.jsonl").write_text("{broken\n")
    with pytest.raises(DatasetError, match="jsonl:1: not JSON"):
        source_clips(tmp_path)


def samples(count=4000, seed=0, weight=1.5, likeness=2.0, bias=-0.5) -> calibrate.Samples:
    """Frames whose chance to be right is known."""
    rng = np.random.default_rng(seed)
    scores, alike = rng.uniform(0.02, 0.98, count), rng.uniform(-0.2, 1.0, count)
    value = weight * np.log(scores / (1 - scores)) + likeness * alike + bias
    right = rng.uniform(size=count) < 1 / (1 + np.exp(-value))
    boxes = np.tile((0.0, 0.0, 20.0, 5.0), (count, 1))
    errors = rng.normal(0, (0.6, 0.6, 1.2, 1.2), (count, 4))
    overlaps = np.where(right, 0.8, 0.1)
    return calibrate.Samples("s", scores, alike, overlaps, boxes, errors, np.zeros((count, 4, 4)))


def test_the_fit_recovers_a_known_calibration() -> None:
    found = calibrate.fit([samples(seed=1), samples(seed=2)])
    assert (found.weight, found.similarity, found.bias) == pytest.approx((1.5, 2.0, -0.5), abs=0.2)
    held = samples(seed=3)
    confidence = calibrate.confidences(found, held)
    assert calibrate.expected_calibration_error(confidence, held.right) < 0.03
    assert calibrate.normalised_errors(found, held).mean() == pytest.approx(4.0, rel=0.1)
    assert found.covariance_scale == 0.0


def test_leaving_out_uses_only_the_others() -> None:
    odd = samples(seed=5, bias=4.0)
    (_, _, held) = calibrate.leave_one_out([samples(seed=1), samples(seed=2), odd])
    alone = calibrate.confidences(calibrate.fit([samples(seed=1), samples(seed=2)]), odd)
    np.testing.assert_allclose(held, alone)


def test_a_clip_is_left_out_only_where_the_rest_can_be_fitted() -> None:
    mixed, perfect = samples(seed=1), samples(seed=2)
    perfect = calibrate.Samples(**{**vars(perfect), "overlaps": np.ones(len(perfect.scores))})
    assert calibrate.can_leave_out([mixed, samples(seed=3)])
    assert not calibrate.can_leave_out([mixed, perfect])
    assert calibrate.can_leave_out([mixed, perfect], [samples(seed=3)])
    assert not calibrate.can_leave_out([mixed])


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.95, 0.95, 0.15, 0.15]), np.array([1.0, 0.0, 0.0, 0.0])
    expected = 0.5 * 0.45 + 0.5 * 0.15
    assert calibrate.expected_calibration_error(confidence, right) == pytest.approx(expected)
    rows = calibrate.reliability(confidence, right)
    assert [(row["right"], row["frames"]) for row in rows] == [(0.0, 2), (0.5, 2)]


def test_a_fit_needs_right_and_wrong_frames() -> None:
    some = samples()
    perfect = calibrate.Samples(**{**vars(some), "overlaps": np.ones(len(some.scores))})
    with pytest.raises(InputError, match="needs both"):
        calibrate.fit([perfect])


def test_the_entry_is_written_beside_what_is_there(tmp_path) -> None:
    (tmp_path / "model.json").write_text(
        json.dumps({"model": "m", "files": {"a": {"sha256": "1"}}})
    )
    calibrate_command.write_calibration(tmp_path, {"version": 1})
    calibrate_command.write_calibration(tmp_path, {"version": 1, "weight": 2.0})
    found = json.loads((tmp_path / "model.json").read_text())
    assert found["files"] == {"a": {"sha256": "1"}}
    assert found["calibration"] == {"version": 1, "weight": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_calibrate_asks_for_an_export_directory(tmp_path, capsys) -> None:
    from vt_models.cli.main import main  # noqa: PLC0415

    options = ["--sequences", str(tmp_path), "--weights", str(tmp_path)]
    assert main(["calibrate", "--model", "asymtrack_s", *options]) == 2
    assert "vt-models export asymtrack_s" in capsys.readouterr().err


@pytest.mark.integration
def test_the_command_fits_and_writes_what_a_target_then_uses(tmp_path, shared_dir, capsys) -> None:
    from vt_models.cli.main import main  # noqa: PLC0415

    bundled = bundled_directory(get_spec("asymtrack_lite0"))
    before = json.loads((bundled / "model.json").read_text())
    directory = shutil.copytree(bundled, tmp_path / "export")
    options = ["--sequences", str(shared_dir / "sequences"), "--weights", str(directory)]
    options += ["--names", "uav123_group2_2,otb_Football1", "--diagram", str(tmp_path / "r.png")]
    arguments = ["calibrate", "--model", "asymtrack_lite0", *options, "--json"]
    assert main([*arguments, "--dry-run"]) == 0
    capsys.readouterr()
    assert json.loads((directory / "model.json").read_text()) == before
    assert main(arguments) == 0
    entry = json.loads(capsys.readouterr().out)
    after = json.loads((directory / "model.json").read_text())
    assert after.pop("calibration") == entry
    before.pop("calibration")
    assert after == before, "every other entry stays"
    assert 0.0 <= entry["fitted"]["ece"] <= 0.3
    assert not entry["fitted"]["left_out_in_turn"], "without one of them all boxes are right"
    assert cv2.imread(str(tmp_path / "r.png")) is not None
    calibration = create_long_term_tracker(create_tracker("asymtrack_lite0", directory)).calibration
    assert calibration.is_fitted
    assert calibration.weight == entry["weight"]


@pytest.mark.parametrize("name", BUNDLED)
def test_all_bundled_weights_are_calibrated(name) -> None:
    entry = read_export(bundled_directory(get_spec(name))).calibration
    assert read_calibration(entry).is_fitted
    assert entry["fitted"]["ece"] < 0.1


@pytest.mark.integration
def test_eval_reports_loss_and_return(tmp_path, shared_dir, capsys) -> None:
    from vt_models.cli.main import main  # noqa: PLC0415

    options = ["--dataset", "folder", "--root", str(shared_dir / "sequences"), "--long-term"]
    options += ["--sequences", "uav123_group2_2", "--output", str(tmp_path), "--json"]
    assert main(["eval", "--model", "asymtrack_lite0", "--device", "cpu", *options]) == 0
    about = json.loads(capsys.readouterr().out)["long_term"]
    assert about["long_term"]["departures"] == about["long_term"]["returns"] == 1
    assert about["long_term"]["false_tracking"] < about["short_term"]["false_tracking"] == 1.0
    assert about["calibration"]["frames"] > 100
    assert (tmp_path / "asymtrack_lite0" / "reliability.png").is_file()


def test_a_return_that_is_too_short_to_be_found_counts() -> None:
    brief = a_run([1, 0, 0, 0, 0], [1] * 5, [T, L, L, L, L], [1, 0, 0, 0, 1])
    assert (summary([brief])["returns"], summary([brief])["found"]) == (1, 0.0)


def test_the_long_term_report_of_a_command(tmp_path, scripted_report) -> None:
    pytest.importorskip("matplotlib", reason="diagrams need the [report] extra")
    report = scripted_report
    about = report.to_dict()
    assert about["long_term"]["false_tracking"] == 0.25
    assert about["calibration"]["frames"] == 6, "COASTING and LOST are no measurements"
    report.save(tmp_path)
    assert json.loads((tmp_path / "longterm.json").read_text()) == about
    assert cv2.imread(str(tmp_path / "reliability.png")) is not None


@pytest.fixture
def scripted_report():
    return LongTermReport("some", [HALF_GONE], [HALF_GONE])
