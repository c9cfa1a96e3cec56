# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark: what is timed, how often, and what the result file holds."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pytest

from vt_models.cli import bench as bench_command
from vt_models.cli.main import declare
from vt_models.datasets.folder import FolderDataset
from vt_models.errors import BackendError, InputError
from vt_models.evaluation import provenance, speed
from vt_models.evaluation.speed import measure, sequence_clip, synthetic_clip
from vt_models.tracker.tracker import Estimate


class SlowTracker:
    """Takes a known time, and counts its calls."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def init(self, _frame, box):
        self.box = box
        self.log.append(self.name)
        time.sleep(0.004)

    def update(self, _frame):
        time.sleep(0.002)
        return Estimate(self.box, 1.0)


def test_measures_init_and_update_without_the_burn_in():
    timing = measure(
        {"slow": SlowTracker("slow", [])}, synthetic_clip(8), repeats=3, burn_in=2, progress=False
    )["slow"]
    assert timing.init_ms.shape == (3,)
    assert timing.update_ms.shape == (3, 5)
    assert (timing.init_ms >= 4.0).all()
    assert (timing.update_ms >= 2.0).all()


def test_trackers_take_turns():
    log = []
    trackers = {name: SlowTracker(name, log) for name in ("a", "b")}
    measure(trackers, synthetic_clip(3), repeats=2, burn_in=0, progress=False)
    assert log == ["a", "b", "a", "b"]


def test_a_slow_tracker_gets_what_fits_and_the_same_in_every_repeat(monkeypatch):
    monkeypatch.setattr(speed, "RUN_SECONDS", 0.0)
    timing = measure(
        {"slow": SlowTracker("slow", [])}, synthetic_clip(20), repeats=3, burn_in=2, progress=False
    )["slow"]
    assert timing.update_ms.shape == (3, 2)


def test_timing_summary_is_median_and_percentile():
    cpu = np.array([[1.0, 1.0], [2.0, 4.0]])
    timing = speed.Timing(np.array([1.0, 3.0]), np.array([[1.0, 2.0], [3.0, 6.0]]), cpu)
    result = timing.to_dict()
    assert result["cpu_median_ms"] == 1.5
    assert [row["cpu_median_ms"] for row in result["repeats"]] == [1.0, 3.0]
    assert (result["median_ms"], result["mean_ms"], result["init_ms"]) == (2.5, 3.0, 2.0)
    assert result["p99_ms"] == pytest.approx(6 - 0.03 * 3)
    assert [row["median_ms"] for row in result["repeats"]] == [1.5, 4.5]


def test_processor_time_leaves_out_what_is_waited_for():
    timing = measure(
        {"slow": SlowTracker("slow", [])}, synthetic_clip(6), repeats=2, burn_in=1, progress=False
    )["slow"]
    assert timing.cpu_ms.shape == timing.update_ms.shape
    assert (timing.cpu_ms >= 0.0).all()
    assert np.median(timing.cpu_ms) < np.median(timing.update_ms)


def timed(*cpu_ms):
    return {"repeats": [{"cpu_median_ms": one} for one in cpu_ms]}


def test_the_ratio_is_the_median_of_the_repeats_ratios():
    assert speed.cpu_ratio(timed(10, 20, 90), timed(5, 10, 15)) == 2.0


def test_ratios_are_over_nanotrack_and_over_the_plain_torch_form():
    found = bench_command.ratios(
        {"a": timed(6, 6), "a_torch": timed(9, 9), "nanotrack": timed(3, 3)}
    )
    assert found["over_nanotrack"] == {"a": 2.0, "a_torch": 3.0, "nanotrack": 1.0}
    assert found["torch_over_onnxruntime"] == {"a": 1.5}
    assert bench_command.ratios({"a": timed(1)})["over_nanotrack"] == {}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("flags\t\t: fpu sse2 avx avx2 avx512f", "AVX-512"),
        ("flags\t\t: fpu sse2 avx avx2", "AVX2"),
        ("Features\t: fp asimd", "NEON"),
        ("flags\t\t: fpu", None),
        ("", None),
    ],
)
def test_the_widest_vector_instructions_are_named(line, name):
    assert provenance.vector_instructions(f"processor\t: 0\n{line}\nbugs\t: avx512f\n") == name


@pytest.mark.parametrize(("frames", "repeats", "burn_in"), [(5, 0, 0), (5, 1, 4), (5, 1, -1)])
def test_measure_invalid_protocols_are_refused(frames, repeats, burn_in):
    with pytest.raises(InputError, match="expected one or more"):
        measure({}, synthetic_clip(frames), repeats=repeats, burn_in=burn_in)


def test_the_synthetic_clip_is_reproducible_and_its_box_is_on_the_patch():
    clip = synthetic_clip(2, seed=3)
    assert np.array_equal(clip.frames[1], synthetic_clip(2, seed=3).frames[1])
    x, y, w, h = (int(value) for value in clip.box)
    inside = clip.frames[0][y : y + h, x : x + w].mean()
    assert inside > clip.frames[0][:100].mean() + 50


def test_a_clip_of_a_sequence(tmp_path, write_sequence):
    write_sequence("a", ["5,5,10,10", "5,6,10,10", "5,7,10,10"])
    clip = sequence_clip(FolderDataset(tmp_path)[0], 2)
    assert (clip.source, len(clip.frames), clip.box) == ("a", 2, (5.0, 5.0, 10.0, 10.0))


def test_bench_writes_what_a_reader_needs(monkeypatch, tmp_path, capsys):
    def make(name, device, threads, seed, backend):
        if name != "m":
            raise BackendError("no torch")
        return SlowTracker("m", []), "bundled"

    monkeypatch.setattr(bench_command, "model_tracker", make)
    parser = argparse.ArgumentParser()
    declare("bench", parser)
    file = tmp_path / "results" / "speed.json"
    options = ["--frames", "4", "--burn-in", "1", "--repeats", "2", "--output", str(file)]
    options += ["--model", "m,n", "--baselines", "vit", "--baseline-weights", str(tmp_path)]
    assert bench_command.run(parser.parse_args(options)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[0] == "m"
    assert "left out: n: no torch\nleft out: baseline vit" in err
    result = json.loads(file.read_text())
    assert {"command", "commit", "modified", "machine", "versions", "seed"} <= set(result)
    assert result["clip"]["source"] == "synthetic"
    assert list(result["trackers"]) == ["m"]
    assert result["trackers"]["m"]["weights"] == "bundled"
    assert len(result["trackers"]["m"]["repeats"]) == 2
    assert result["left_out"]["n"] == "n: no torch"
    assert "vittrack.onnx" in result["left_out"]["vit"]
    assert bench_command.run(parser.parse_args([*options, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "speed"
    options.append("--plain-torch")
    assert list(bench_command.bench(parser.parse_args(options))["trackers"]) == ["m", "m_torch"]
    options[options.index("m,n")] = "n"
    options.remove("--plain-torch")
    file.unlink()
    with pytest.raises(BackendError, match=r"nothing to measure: n: no torch; baseline vit.*onnx"):
        bench_command.run(parser.parse_args(options))
    assert not file.exists()


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["/some/bin/vt-models", "bench", "--root", "my videos"],
            "vt-models bench --root 'my videos'",
        ),
        (["/some/benchmarks/run.py", "--only", "speed"], "python -m benchmarks.run --only speed"),
        (["/some/vt_models/__main__.py", "bench"], "python -m vt_models bench"),
    ],
)
def test_the_command_is_what_one_would_type(monkeypatch, argv, command):
    monkeypatch.setattr("sys.argv", argv)
    assert provenance.command_line() == command


def test_provenance_outside_a_repository(monkeypatch):
    monkeypatch.setattr(provenance, "_git", lambda *_: None)
    about = provenance.provenance("command", 0)
    assert about["commit"] is None
    assert about["modified"] is None
    assert about["machine"]["cores"] >= 1
