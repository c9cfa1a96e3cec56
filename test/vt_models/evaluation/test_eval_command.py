# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval`, with a scripted tracker in place of a model."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

for package in ("jinja2", "matplotlib"):
    pytest.importorskip(package, reason="pages of results need the [report] extra")

from vt_models.cli import eval as command
from vt_models.cli.main import declare
from vt_models.errors import DatasetError, InputError, VtModelsError
from vt_models.evaluation.baselines import BASELINES, BaselineSpec, OpenCvTracker
from vt_models.evaluation.reports.tables import COLUMNS, LONG_TERM
from vt_models.evaluation.runs import trackers as evaluated
from vt_models.registry import UpdatePolicy
from vt_models.tracker.tracker import Estimate

MODEL = "asymtrack_lite0"
METRICS = ["ao", "sr50", "sr75", "auc", "precision", "norm_precision", "ms_per_frame"]


class StaticTracker:
    """Stays where it began."""

    def init(self, _frame, box):
        self.box = box

    def update(self, _frame):
        return Estimate(self.box, 1.0)


class FakeLongTerm:
    """What the long-term tracker's report would say."""

    model = MODEL
    summary = dict.fromkeys(LONG_TERM.values(), 0.5)
    rows = ({"confidence": 0.9, "right": 1.0, "frames": 2},)
    numbers: ClassVar = {
        "long_term": summary,
        "short_term": summary,
        "calibration": {"ece": 0.1, "frames": 2, "reliability": list(rows)},
    }

    def to_dict(self):
        return self.numbers

    def save(self, directory):
        pass


@pytest.fixture
def run(monkeypatch, tmp_path, write_sequence):
    """Run the command on a dataset of two sequences, where every model is a static tracker."""
    write_sequence("one", ["5,5,10,10", "5,5,10,10"])
    write_sequence("two", ["5,5,10,10", "40,5,10,10"])
    made = []

    def create_tracker(*args):
        made.append(args)
        return StaticTracker()

    monkeypatch.setattr(evaluated, "create_tracker", create_tracker)

    def run_command(*options: str) -> int:
        parser = argparse.ArgumentParser()
        declare("eval", parser)
        root = ["--model", MODEL, "--dataset", "folder", "--root", str(tmp_path)]
        return command.run(parser.parse_args([*root, *options]))

    run_command.made = made
    return run_command


@pytest.fixture
def static_baseline(monkeypatch):
    """Let the baseline csrt be a tracker that never finds anything, whatever OpenCV offers."""

    class Blind:
        def init(self, frame, box):
            pass

        def update(self, _frame):
            return False, (0, 0, 0, 0)

    spec = BaselineSpec(lambda *_: OpenCvTracker(Blind))
    monkeypatch.setitem(BASELINES, "csrt", spec)


@pytest.fixture
def jumping_baseline(monkeypatch):
    """Let the baseline csrt be a tracker that goes to where the target of "two" is."""

    class Jumping:
        def init(self, frame, box):
            pass

        def update(self, _frame):
            return True, (40, 5, 10, 10)

    spec = BaselineSpec(lambda *_: OpenCvTracker(Jumping))
    monkeypatch.setitem(BASELINES, "csrt", spec)


@pytest.fixture
def write_list(tmp_path, write_sequence):
    """Add a third and a fourth video to the dataset, and write a list of them."""
    write_sequence("walk.1", ["5,5,10,10", "5,5,10,10"])
    write_sequence("walk.2", ["5,5,10,10", "10,5,10,10"])
    write_sequence("other", ["5,5,10,10", "5,5,10,10"])

    def write(*rows: str) -> str:
        path = tmp_path / "list.tsv"
        path.write_text("\n".join(("kind\tuse\tvideo\tnote", *rows)) + "\n")
        return str(path)

    return write


ROWS = (
    "drone views\tvalidate\ttwo\t",
    "<people>\tvalidate\twalk\tboth targets",
    "# of the same scene as one",
    "drone views\twithhold\tother\t",
    "drone views\tvalidate\tone\t",
    "alone\tvalidate\twalk.2\tcounts by itself",
)


def test_prints_a_table_with_a_total(run, capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [MODEL, *" ".join(COLUMNS).split()]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["one", "1.000", "-"],
        ["two", "0.000", "-"],
    ]
    # two videos, 0 and 1: the means 0, 0.5 and 1 come up with 1/4, 1/2 and 1/4
    assert lines[3].split()[:4] == ["total", "0.500", "[0.000,", "1.000]"]


def test_prints_one_json_object(run, capsys):
    run("--json")
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["model", "total", "sequences"]
    assert report["model"] == MODEL
    assert list(report["total"]) == [*METRICS, "ao_interval"]
    assert report["total"]["ao"] == 0.5
    assert report["total"]["ao_interval"] == [0.0, 1.0]
    assert list(report["sequences"]) == ["one", "two"]
    assert all(list(numbers) == METRICS for numbers in report["sequences"].values())


def test_passes_the_options_on(run):
    run(
        *("--weights", "w", "--backend", "torch", "--device", "cpu", "--threads", "2"),
        *("--update", "25:0.5"),
    )
    policy = UpdatePolicy("25:0.5", 25, 0.5)
    assert run.made == [(MODEL, Path("w"), "torch", "cpu", 2, policy)]


def test_baselines_have_the_same_shape(run, capsys, static_baseline):
    run("--json", "--baselines", "csrt")
    report = json.loads(capsys.readouterr().out)
    assert list(report["baselines"]) == ["csrt"]
    assert report["peers"] == report["baselines"], "the earlier key, for one release"
    baseline = report["baselines"]["csrt"]
    assert baseline["model"] == "csrt"
    assert list(baseline["total"]) == [*METRICS, "ao_interval"]
    assert "ao_difference" not in report
    # the first tracker has 1 and 0, this one stays where it began too
    assert baseline["ao_difference"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert list(baseline["sequences"]) == ["one", "two"]


def test_baselines_are_compared_in_the_text(run, capsys, static_baseline):
    run("--baselines", "csrt")
    *_, totals, differences = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in totals.splitlines()] == ["total", MODEL, "csrt"]
    head, line = differences.splitlines()
    assert head.split() == f"difference AO less that of {MODEL} 95 % interval".split()
    assert line.split() == ["csrt", "0.000", "[0.000,", "0.000]"]


def test_a_baseline_that_cannot_run_is_left_out_with_a_message(run, capsys, caplog, tmp_path):
    assert run("--json", "--baselines", "vit", "--baseline-weights", str(tmp_path / "nowhere")) == 0
    assert "baselines" not in json.loads(capsys.readouterr().out)
    assert (
        f"left out: baseline vit: {tmp_path / 'nowhere' / 'vittrack.onnx'} does not exist"
        in caplog.text
    )


def test_an_unknown_baseline_is_an_error(run):
    with pytest.raises(InputError, match="unknown baseline 'mosse'"):
        run("--baselines", "mosse")


def test_only_the_named_sequences_run(run, capsys):
    run("--json", "--sequences", "two")
    assert list(json.loads(capsys.readouterr().out)["sequences"]) == ["two"]
    with pytest.raises(DatasetError, match="no sequence three"):
        run("--sequences", "three")


def test_writes_boxes_page_and_what_is_needed_to_go_on(run, tmp_path, capsys):
    out = tmp_path / "out"
    run("--output", str(out))
    assert f"report: {out / 'report.html'}" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [MODEL, "report.html", "report.json"]
    assert sorted(str(path.relative_to(out / MODEL)) for path in (out / MODEL).rglob("*.*")) == [
        "kept/one.npz",
        "kept/two.npz",
        "one.txt",
        "one_score.txt",
        "report.json",
        "two.txt",
        "two_score.txt",
    ]


def test_the_page_shows_the_numbers_of_the_command(run, tmp_path, capsys, static_baseline):
    run("--json", "--baselines", "csrt", "--output", str(tmp_path / "out"))
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    ours, baseline = written["trackers"]
    assert ours["total"] == printed["total"]
    assert ours["sequences"] == printed["sequences"]
    assert baseline["total"] == printed["baselines"]["csrt"]["total"]
    about = written["about"]
    assert about["dataset"] == "folder"
    assert about["protocol"] == "ope"
    assert list(about["weights sha256"]) == [MODEL]
    assert {"command", "commit", "machine", "versions", "date"} <= set(about)


def test_a_second_run_takes_what_is_there(run, tmp_path, capsys, caplog, monkeypatch):
    caplog.set_level("INFO")
    output = ("--json", "--output", str(tmp_path / "out"))
    run(*output)
    first = json.loads(capsys.readouterr().out)
    starts = []
    monkeypatch.setattr(StaticTracker, "init", lambda *_: starts.append(1))
    run(*output)
    assert json.loads(capsys.readouterr().out) == first
    assert "2 of 2 sequences are kept" in caplog.text
    assert not starts


def test_fresh_runs_again(run, tmp_path, caplog):
    caplog.set_level("INFO")
    run("--output", str(tmp_path / "out"))
    run("--fresh", "--output", str(tmp_path / "out"))
    assert "are kept" not in caplog.text


def test_other_options_run_again(run, tmp_path, caplog):
    caplog.set_level("INFO")
    run("--output", str(tmp_path / "out"))
    run("--output", str(tmp_path / "out"), "--stream", "10", "--latency", "5")
    assert "are kept" not in caplog.text


def test_several_models_stand_side_by_side(run, capsys):
    run("--json", "--model", f"{MODEL},asymtrack_t")
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == MODEL
    assert list(report["baselines"]) == ["asymtrack_t"]
    with pytest.raises(InputError, match="--weights and --update belong to one model"):
        run("--model", f"{MODEL},asymtrack_t", "--weights", "w")
    with pytest.raises(InputError, match="nothing to evaluate: give --model"):
        run("--model", ",")


def test_a_benchmark_scores_by_its_own_rules(run, capsys, tmp_path):
    run("--json", "--protocol", "trackingnet", "--output", str(tmp_path / "out"))
    out, err = capsys.readouterr()
    benchmark = json.loads(out)["benchmark"]
    assert benchmark["name"] == "trackingnet"
    # the first of two frames is given: areas by the trapezoidal rule
    assert benchmark["sequences"]["two"]["success"] == pytest.approx((19.5 / 20) / 2)
    archive = tmp_path / "out" / "trackingnet" / f"{MODEL}.zip"
    assert f"result files: {archive}" in err
    assert archive.exists()
    assert "By the rules of trackingnet" in (tmp_path / "out" / "report.html").read_text()
    run("--protocol", "trackingnet")
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert table[0].split()[:3] == ["trackingnet", "rules", "success"]


def test_a_dataset_brings_its_benchmark(run, capsys, tmp_path):
    root = tmp_path / "otb" / "Crossing"
    (root / "img").mkdir(parents=True)
    for number in (1, 2):
        shutil.copy(tmp_path / "one/img/000001.jpg", root / "img" / f"{number:04d}.jpg")
    (root / "groundtruth_rect.txt").write_text("5,5,10,10\n5,5,10,10\n")
    otb = ("--dataset", "otb", "--root", str(tmp_path / "otb"), "--sequences", "Crossing")
    run("--json", "--no-cache", *otb)
    assert json.loads(capsys.readouterr().out)["benchmark"]["name"] == "otb"
    run("--json", "--no-cache", "--protocol", "ope", *otb)
    assert "benchmark" not in json.loads(capsys.readouterr().out)


def test_a_secret_truth_gives_files_to_submit_and_no_score(run, capsys, tmp_path):
    folder = tmp_path / "got" / "test" / "GOT-10k_Test_000001"
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        shutil.copy(tmp_path / "one/img/000001.jpg", folder / f"{number:08d}.jpg")
    (folder / "groundtruth.txt").write_text("5,5,10,10\n")
    (folder.parent / "list.txt").write_text(folder.name + "\n")
    out = tmp_path / "out"
    got = ("--dataset", "got10k", "--root", str(tmp_path / "got"), "--split", "test")
    run("--json", "--no-cache", *got, "--output", str(out))
    printed, err = capsys.readouterr()
    assert list(json.loads(printed)["total"]) == ["ms_per_frame"]
    assert "benchmark" not in json.loads(printed)
    assert "no report: only the first boxes" in err
    assert not (out / "report.html").exists()
    with zipfile.ZipFile(out / "got10k" / f"{MODEL}.zip") as archive:
        name = f"{folder.name}/{folder.name}"
        assert archive.namelist() == [f"{name}_001.txt", f"{name}_time.txt"]
        assert archive.read(f"{name}_001.txt").decode().split() == ["5.000,5.000,10.000,10.000"] * 3
    run("--no-cache", *got)
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[:-1] == ["total", *"-------"]


def test_a_stream_is_scored_when_the_answer_is_known(run, capsys, tmp_path):
    options = ("--stream", "10", "--latency", "150", "--output", str(tmp_path / "out"))
    run("--json", *options)
    report = json.loads(capsys.readouterr().out)
    assert report["stream"] == {"fps": 10.0, "latency_ms": 150.0, "processed": 1.0}
    run(*options)
    assert "given latency 150 ms, 100.0% of frames processed" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "stream of 10 frames a second" in page
    assert "given latency 150 ms, 100.0% of frames processed" in page


def test_vot_runs_as_a_stream(run, capsys, tmp_path):
    words = ("--json", "--protocol", "vot", "--eao-range", "1:2", "--output", str(tmp_path))
    kept = []
    for stream in ((), ("--stream", "20", "--latency", "60")):
        run(*words, *stream)
        report = json.loads(capsys.readouterr().out)
        if stream:
            about = report["stream"]
            assert about.pop("ms_per_frame") > 0
            assert about == {"fps": 20.0, "latency_ms": 60.0, "grace": 3, "processed": 1.0}
            page = (tmp_path / "report.html").read_text()
            assert "experiment at 20 frames a second; the first 3 slow steps" in page
            assert "given latency 60 ms, 100.0% of frames processed" in page
        else:
            assert "stream" not in report
        kept.append({str(np.load(path)["key"]) for path in tmp_path.rglob("*.npz")})
    assert len(kept[0]) == 2
    assert not kept[0] & kept[1], "runs without a stream are not taken for runs with one"


def test_vot_has_runs_scores_files_and_a_page(run, capsys, caplog, tmp_path, static_baseline):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    options = ("--protocol", "vot", "--eao-range", "1:2", "--baselines", "csrt")
    run("--json", *options, "--output", str(out))
    printed, err = capsys.readouterr()
    report = json.loads(printed)
    assert report["protocol"] == "vot"
    assert report["eao_range"] == [1, 2]
    assert set(report["sequences"]) == {"one", "two"}
    assert 0.0 < report["total"]["eao"] < 1.0
    assert report["baselines"]["csrt"]["total"].keys() == report["total"].keys()
    assert f"result files: {out / 'vot' / MODEL}" in err
    files = [path.name for path in (out / "vot" / MODEL / "baseline" / "one").iterdir()]
    assert len(files) == 2 * 2
    written = json.loads((out / "report.json").read_text())
    assert [one["total"] for one in written["trackers"]] == [
        report["total"],
        report["baselines"]["csrt"]["total"],
    ]
    assert "Expected average overlap" in (out / "report.html").read_text()
    run(*options, "--output", str(out))
    text = capsys.readouterr().out
    assert "2 of 2 sequences are kept" in caplog.text
    assert text.split("\n\n")[-1].splitlines()[0].split()[:3] == ["vot,", "1:2", "eao"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latency", "5"], "--latency is for --stream"),
        (["--stream", "0"], "--stream is 0; expected frames a second"),
        (["--stream", "30", "--latency", "fast"], "expected MS or NAME=MS"),
        (["--stream", "30", "--latency", "-1"], "expected milliseconds, 0 or more"),
        (["--stream", "30", "--latency", "x=3"], "names x; expected asymtrack_lite0"),
        (["--stream", "30", "--jobs", "2"], "--jobs 2 falsifies a measured latency"),
        (["--eao-range", "1:2"], "--eao-range is for --protocol vot"),
        (["--protocol", "vot", "--eao-range", "9:2"], "'9:2'; expected LOW:HIGH"),
        (["--protocol", "vot"], "longest sequence has 2 frames; an EAO over 115 to 755"),
        (["--protocol", "vot", "--long-term"], "--long-term does not go with --protocol vot"),
        (["--protocol", "vot", "--init", "text"], "--init text does not go with --protocol vot"),
        (["--long-term", "--stream", "30"], "so --stream does not go with it"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(*options)


def test_a_split_is_chosen_and_the_index_can_be_left_out(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, box in (("TRAIN_0", "5,5,10,10"), ("TEST", "6,5,10,10")):
        (tmp_path / "tn" / split / "anno").mkdir(parents=True)
        frames = tmp_path / "tn" / split / "frames" / split
        frames.mkdir(parents=True)
        for number in (0, 1):
            shutil.copy(tmp_path / "one/img/000001.jpg", frames / f"{number}.jpg")
        (tmp_path / "tn" / split / "anno" / f"{split}.txt").write_text(f"{box}\n{box}\n")
    options = ("--json", "--dataset", "trackingnet", "--root", str(tmp_path / "tn"))
    run(*options, "--split", "train_0", "--no-cache")
    assert list(json.loads(capsys.readouterr().out)["sequences"]) == ["TRAIN_0"]
    assert not (tmp_path / "cache").exists()
    run(*options)
    assert list(json.loads(capsys.readouterr().out)["sequences"]) == ["TEST"]
    assert list((tmp_path / "cache").rglob("*.*"))
    with pytest.raises(DatasetError, match="no split 'val'"):
        run(*options, "--split", "val")


def test_a_start_that_was_found_is_measured(run, capsys, tmp_path, monkeypatch):
    def start(tracker, sequence):
        if sequence.name == "two":
            return None
        tracker.init(None, (5.0, 5.0, 10.0, 20.0))
        return 5.0, 5.0, 10.0, 20.0

    monkeypatch.setattr(command, "_start", lambda _: start)
    for name in ("one", "two"):
        (tmp_path / name / "language.txt").write_text("the grey square\n")
    run("--json", "--init", "text", "--output", str(tmp_path / "out"))
    report = json.loads(capsys.readouterr().out)
    assert report["start"] == {"iou": 0.25, "found": 0.5, "sequences": {"one": 0.5, "two": 0.0}}
    assert report["total"]["ao"] == 0.25
    said = "first box found in 50.0% of the sequences, mean IoU 0.250"
    assert said in (tmp_path / "out" / "report.html").read_text()
    run("--init", "text")
    assert said in capsys.readouterr().out


def test_an_output_that_cannot_be_is_refused_before_anything_runs(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--output .*file: File exists; give a folder"):
        run("--output", str(tmp_path / "file"))
    assert not run.made


def test_long_term_option_reports_both_trackers(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "long_term_report", lambda *_: FakeLongTerm())
    run("--json", "--long-term", "--output", str(tmp_path / "out"))
    assert json.loads(capsys.readouterr().out)["long_term"] == FakeLongTerm.numbers
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"Long term: {MODEL}" in page
    assert "expected calibration error 0.100 over 2 measured frames" in page
    assert f">{MODEL}, calibrated</text>" in page
    run("--long-term")
    *_, table, error = capsys.readouterr().out.split("\n\n")
    assert table.split()[:3] == ["long", "term", "F-score"]
    assert error == "expected calibration error 0.100 over 2 measured frames\n"


@pytest.mark.parametrize("option", ["--threads", "--jobs"])
def test_eval_counts_below_one_are_refused(run, option):
    with pytest.raises(InputError, match=r"is 0; expected 1 or more"):
        run(option, "0")


def test_a_list_says_what_runs_and_what_kind_it_is(run, capsys, write_list):
    run("--json", "--list", write_list(*ROWS))
    report = json.loads(capsys.readouterr().out)
    assert list(report["sequences"]) == ["two", "walk.1", "one", "walk.2"]
    assert report["total"]["ao"] == pytest.approx((0 + 1 + 1 + 1 / 3) / 4)
    assert report["kinds"] == {
        "drone views": {"videos": 2, "ao": 0.5, "ao_interval": [0.0, 1.0]},
        "<people>": {"videos": 1, "ao": 1.0, "ao_interval": None},
        "alone": {"videos": 1, "ao": pytest.approx(1 / 3), "ao_interval": None},
    }


def test_kinds_stand_side_by_side_for_all_trackers(
    run, capsys, write_list, jumping_baseline, tmp_path
):
    options = (
        "--list",
        write_list(*ROWS),
        "--baselines",
        "csrt",
        "--output",
        str(tmp_path / "out"),
    )
    run("--json", *options)
    report = json.loads(capsys.readouterr().out)
    baseline = report["baselines"]["csrt"]
    assert baseline["kinds"]["drone views"] == report["kinds"]["drone views"], "the other way round"
    assert baseline["kinds"]["<people>"] == {"videos": 1, "ao": 0.0, "ao_interval": None}
    # video by video 1, -1, -1, -1/3, a mean of four draws is between -1 and 1
    difference = baseline["ao_difference"]
    assert difference["value"] == pytest.approx(baseline["total"]["ao"] - report["total"]["ao"])
    low, high = difference["interval"]
    assert -1.0 <= low < difference["value"] < high <= 1.0
    assert "ao_difference" not in report

    written = json.loads((tmp_path / "out" / "report.json").read_text())
    ours, theirs = written["trackers"]
    assert written["kinds"] == {
        "drone views": ["two", "one"],
        "<people>": ["walk.1"],
        "alone": ["walk.2"],
    }
    assert ours["kinds"] == report["kinds"]
    assert (theirs["kinds"], theirs["ao_difference"]) == (baseline["kinds"], difference)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Kinds</h2>" in page
    for kind, count in (("drone views", 2), ("&lt;people&gt;", 1), ("alone", 1)):
        assert f"<td>{kind} ({count})</td>" in page
    assert "[0.000, 1.000]" in page

    run(*options)
    text = capsys.readouterr().out.split("\n\n")
    assert [part.split()[0] for part in text] == [MODEL, "csrt", "total", "difference", "AO"]
    head, *lines = text[-1].splitlines()
    columns = ["AO (videos)", MODEL, "95 % interval", "csrt", "95 % interval"]
    assert re.split(r"\s{2,}", head) == columns
    assert [re.split(r"\s{2,}", line) for line in lines] == [
        ["drone views (2)", "0.500", "[0.000, 1.000]", "0.500", "[0.000, 1.000]"],
        ["<people> (1)", "1.000", "-", "0.000", "-"],
        ["alone (1)", "0.333", "-", "0.000", "-"],
    ]


def test_without_a_list_there_are_no_kinds(run, capsys, tmp_path):
    run("--json", "--output", str(tmp_path / "out"))
    assert "kinds" not in json.loads(capsys.readouterr().out)
    assert "<h2>Kinds</h2>" not in (tmp_path / "out" / "report.html").read_text()


def test_a_single_video_has_no_interval(run, capsys, tmp_path):
    options = ("--sequences", "one", "--output", str(tmp_path / "out"))
    run("--json", *options)
    assert json.loads(capsys.readouterr().out)["total"]["ao_interval"] is None
    run(*options)
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[:3] == ["total", "1.000", "-"]
    assert "<td>1.000</td><td>–</td>" in (tmp_path / "out" / "report.html").read_text()


def test_a_list_goes_with_the_runs_of_vot(run, capsys, write_list):
    run("--json", "--protocol", "vot", "--eao-range", "1:2", "--list", write_list(*ROWS))
    report = json.loads(capsys.readouterr().out)
    assert set(report["sequences"]) == {"two", "walk.1", "one", "walk.2"}
    assert "kinds" not in report


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["x\tvalidate\tone\t", "x\tvalidate\tnowhere\t"], ":3: no sequence 'nowhere' in the"),
        (["x\tvalidate\tone\t", "x\tvalidate\tone\t"], ":3: video 'one' is listed already"),
        (["x\tmaybe\tone\t"], ":2: use 'maybe'; expected validate or withhold"),
        (["x\tvalidate\tone"], ":2: 3 cells; expected 4"),
        (["x\twithhold\tone\t"], ": no row to validate"),
        ([], ":2: no video; expected a header line"),
    ],
)
def test_a_bad_list_is_refused_before_anything_runs(run, write_list, tmp_path, rows, message):
    with pytest.raises(DatasetError, match=re.escape(f"list.tsv{message}")):
        run("--list", write_list(*rows), "--output", str(tmp_path / "out"))
    assert not run.made
    assert not (tmp_path / "out").exists()


def test_a_list_and_names_contradict_each_other(run, write_list):
    with pytest.raises(InputError, match="--list and --sequences both say what runs"):
        run("--list", write_list(*ROWS), "--sequences", "one")


@pytest.fixture
def failing_baseline(monkeypatch, write_sequence):
    """Let the baseline csrt be a tracker that OpenCV gives up in a third sequence."""
    write_sequence("three", ["7,7,10,10"] * 3)

    class Failing:
        mends = False

        def init(self, _frame, box):
            self.fails = box[0] == 7 and not Failing.mends

        def update(self, _frame):
            if self.fails:
                raise cv2.error("-215: assertion failed")
            return True, (5, 5, 10, 10)

    monkeypatch.setitem(BASELINES, "csrt", BaselineSpec(lambda *_: OpenCvTracker(Failing)))
    return Failing


def test_a_failure_is_said_when_it_happens(run, failing_baseline, write_sequence, caplog):
    """Not when the tracker has come through: that may take hours."""
    write_sequence("a_first", ["7,7,10,10"] * 3)
    seen = []

    class Watching(failing_baseline):
        def init(self, frame, box):
            super().init(frame, box)
            seen.append(len([one for one in caplog.records if "failed" in one.message]))

    BASELINES["csrt"] = BaselineSpec(lambda *_: OpenCvTracker(Watching))
    assert run("--baselines", "csrt", "--json") == 1
    assert seen[-4:] == [0, 1, 1, 2], "at the starts of a_first, one, three and two"


@pytest.mark.parametrize("protocol", ["ope", "lasot", "vot"])
def test_a_sequence_at_which_a_tracker_fails_costs_only_itself(
    run, capsys, tmp_path, failing_baseline, protocol
):
    out = tmp_path / "out"
    options = ["--protocol", protocol, "--baselines", "csrt", "--output", str(out)]
    options += ["--eao-range", "1:2"] if protocol == "vot" else []
    assert run("--json", *options) == 1
    report = json.loads(capsys.readouterr().out)
    (failed,) = report["errors"]
    assert (failed["tracker"], failed["sequence"]) == ("csrt", "three")
    assert re.match(r"three, frame \d: OpenCV .*-215: assertion failed", failed["reason"])
    assert set(report["sequences"]) == {"one", "two", "three"}, "the model goes on"
    assert set(report["baselines"]["csrt"]["sequences"]) == {"one", "two"}
    if protocol != "vot":
        assert report["baselines"]["csrt"]["ao_difference"]["value"] == 0.0
    assert json.loads((out / "report.json").read_text())["errors"] == report["errors"]
    assert "not in the numbers of csrt: three" in (out / "report.html").read_text()
    assert run(*options) == 1
    assert "not in the numbers of csrt: three" in capsys.readouterr().out
    failing_baseline.mends = True
    assert run(*options) == 0, "what is missing is tried again"


def test_a_tracker_that_fails_costs_only_itself(run, capsys, monkeypatch, caplog):
    monkeypatch.setattr(evaluated, "missing_reason", lambda *_: None)  # its file goes while we run
    assert run("--json", "--baselines", "vit") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["ao"] == 0.5
    (failed,) = report["errors"]
    assert (failed["tracker"], failed["sequence"]) == ("vit", None)
    assert "vit failed, the rest goes on: baseline vit: needs" in caplog.text
    run("--baselines", "vit")
    assert "vit failed and is not there: baseline vit: needs" in capsys.readouterr().out


def test_where_everything_fails_the_first_error_is_raised(run, monkeypatch):
    def failing(*_):
        raise InputError("no luck")

    monkeypatch.setattr(StaticTracker, "update", failing)
    with pytest.raises(VtModelsError, match="one, frame 2: no luck"):
        run()


def test_faults_of_annotations_are_all_named_before_anything_runs(run, write_sequence, capsys):
    write_sequence("fractions", ["0.2,0.2,0.1,0.1"] * 3)
    write_sequence("gone", ["5,5,10,10", "nan,nan,nan,nan"])
    write_sequence("odd", ["5,5,10,10", "500,5,10,10"])
    write_sequence("short", ["5,5,10,10"])
    (write_sequence("unreadable", ["5,5,10,10"] * 2) / "img/000001.jpg").write_bytes(b"no image")
    (write_sequence("wrong", ["5,5,10,10"] * 2) / "groundtruth.txt").write_text("5,5,ten,10\n")
    with pytest.raises(DatasetError, match="5 of 8 sequences cannot be run") as caught:
        run()
    assert not run.made
    for said in (
        "fractions: 3 of 3 boxes, the first in frame 1: 0.2,0.2,0.1,0.1 in an image of 64x48",
        "gone: the target is in no frame after the first",
        "short: 1 frames",
        "unreadable/img/000001.jpg",
        "wrong/groundtruth.txt:1",
    ):
        assert said in str(caught.value)
    assert "odd" not in str(caught.value), "a single wrong box is no reason to stop"
    assert "warning: odd: 1 of 2 boxes, the first in frame 2" in capsys.readouterr().err


def test_a_full_disk_does_not_cost_the_numbers(run, capsys, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for module in (
        "runs.resume.write_bytes",
        "runs.runner.write_text",
        "reports.report.write_text",
    ):
        monkeypatch.setattr(f"vt_models.evaluation.{module}", full)
    with pytest.raises(InputError, match="out cannot be written: No space left on device"):
        run("--json", "--output", str(tmp_path / "out"))
    assert json.loads(capsys.readouterr().out)["total"]["ao"] == 0.5
    assert "one.npz is not kept: No space left on device" in caplog.text


def test_help_says_what_a_list_is():
    parser = argparse.ArgumentParser()
    declare("eval", parser)
    text = " ".join(parser.format_help().split())
    assert "--list FILE" in text
    assert "with a header: video, kind and" in text
