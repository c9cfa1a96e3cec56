# SPDX-License-Identifier: Apache-2.0
"""`make bench` and `make bench-check`: what is counted, compared and written; nothing is timed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import alternatives, check, operators, run
from benchmarks.check import Comparison, compare
from vt_models.errors import BackendError

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / check.COMMITTED


def tracker(*cpu_ms, weights="bundled"):
    repeats = [{"cpu_median_ms": ms, "median_ms": 9 * ms} for ms in cpu_ms]
    return {"weights": weights, "cpu_median_ms": sorted(cpu_ms)[len(cpu_ms) // 2]} | {
        "repeats": repeats
    }


def speed(vector="AVX2", left_out=(), **trackers):
    machine = {"vector": vector}
    return {"machine": machine, "trackers": trackers, "left_out": dict(left_out)}


def nanotrack(*cpu_ms):
    return tracker(*cpu_ms, weights="baseline")


def compared(part, before, now):
    found = Comparison()
    compare(part, before, now, found)
    return found


def test_what_is_more_than_ten_per_cent_slower_is_named():
    before = speed(a=tracker(10, 10, 10), b=tracker(10, 10, 10), nanotrack=nanotrack(5, 5, 5))
    now = speed(a=tracker(11.1, 11.1, 11.1), b=tracker(10.9, 10.9, 10.9))
    now["trackers"]["nanotrack"] = nanotrack(5, 5, 5)
    found = compared("speed", before, now)
    assert found.slower == ["speed a: 2.220 of nanotrack, was 2.000 (+11%)"]
    assert found.same == ["speed b: 2.180 of nanotrack, was 2.000 (+9%)"]
    assert not found.skipped


def test_ratios_count_and_not_milliseconds():
    before = speed(a=tracker(10, 10, 10), nanotrack=nanotrack(5, 5, 5))
    now = speed(a=tracker(20, 30, 40), nanotrack=nanotrack(10, 15, 20))
    assert compared("speed", before, now).same == ["speed a: 2.000 of nanotrack, was 2.000 (+0%)"]


def test_one_disturbed_repeat_does_not_count():
    before = speed(a=tracker(10, 10, 10), nanotrack=nanotrack(5, 5, 5))
    now = speed(a=tracker(10, 90, 10), nanotrack=nanotrack(5, 5, 5))
    assert not compared("speed", before, now).slower


def test_baselines_and_plain_torch_are_not_compared():
    both = speed(a=tracker(1), a_torch=tracker(2), csrt=nanotrack(5))
    found = compared("speed", both, both)
    assert found.same == ["speed a: 0.200 of csrt, was 0.200 (+0%)"]


def test_another_vector_width_is_skipped_with_the_reason():
    found = compared("speed", speed("AVX-512"), speed("AVX2"))
    assert "a machine with AVX-512, this one has AVX2" in found.skipped[0]


def test_what_this_machine_cannot_do_is_skipped_with_the_reason():
    before = speed(a=tracker(1), b=tracker(1), nanotrack=nanotrack(1))
    now = speed(a=tracker(1), nanotrack=nanotrack(1), left_out={"b": "b: needs torch"})
    found = compared("speed", before, now)
    assert (found.skipped, len(found.same)) == (["speed b: b: needs torch"], 1)
    found = compared("speed", speed(a=tracker(1)), speed(a=tracker(1)))
    assert found.skipped == ["speed: neither nanotrack nor csrt is in both results"]


def node(cpu_ms, reference_ms, drops=0.0):
    repeat = {"thread_cpu_ms": cpu_ms, "cpu_median_ms": cpu_ms, "reference_cpu_ms": reference_ms}
    case = {"repeats": [repeat, repeat], "drops": drops}
    return {"machine": {"vector": "AVX2"}, "cases": {"raw_640x480": case}}


def test_the_node_is_compared_by_the_fixed_work():
    found = compared("node", node(3, 3), node(8, 4))
    assert found.slower[0] == "node raw_640x480: 2.000 of the fixed work, was 1.000 (+100%)"
    assert found.slower[1].startswith("node raw_640x480, all threads: 2.000")
    found = compared("node", node(3, 3), node(8, 4, drops=0.2))
    assert len(found.slower) == 1
    assert "all threads: 20% of the images were dropped" in found.skipped[0]
    assert not compared("node", node(3, 3, drops=0.2), node(3, 3, drops=0.2)).slower


def test_scaling_is_compared_by_group():
    def result(ms):
        return {
            "machine": {"vector": "AVX2"},
            "groups": {"targets": {"reference": tracker(2), "4": tracker(ms)}},
        }

    assert compared("scaling", result(4), result(5)).slower[0].startswith("scaling targets 4: 2.5")


@pytest.mark.parametrize(("slower", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_something_is_slower(tmp_path, capsys, slower, code):
    for folder, ms in (("before", 10), ("now", 20 if slower else 10)):
        (tmp_path / folder).mkdir()
        result = speed(a=tracker(ms), nanotrack=nanotrack(5))
        (tmp_path / folder / "speed.json").write_text(json.dumps(result))
    folders = ["--against", str(tmp_path / "before"), "--fresh", str(tmp_path / "now")]
    assert check.main([*folders, "--only", "speed,node"]) == code
    out = capsys.readouterr().out
    assert ("slower: speed a" in out) == slower
    assert "skipped: node: there is no" in out


def test_a_part_that_cannot_be_measured_is_skipped_with_the_reason(tmp_path, capsys, monkeypatch):
    (tmp_path / "node.json").write_text(json.dumps(node(1, 1)))

    def impossible(_args):
        raise BackendError("the node needs ROS 2")

    monkeypatch.setitem(run.PARTS, "node", impossible)
    assert check.main(["--against", str(tmp_path), "--only", "node"]) == 0
    assert capsys.readouterr().out == "skipped: node: the node needs ROS 2\nnothing was compared\n"


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--only", "speed,colour"])
    assert "colour; expected some of speed,accuracy,node" in capsys.readouterr().err


def event(name, operator, inputs, outputs, us):
    shapes = {"input_type_shape": inputs, "output_type_shape": outputs}
    typed = {key: [{"float": shape} for shape in value] for key, value in shapes.items()}
    return {"name": name, "dur": us, "args": {"op_name": operator, **typed}}


DENSE = event("c", "Conv", [[1, 3, 8, 8], [16, 3, 3, 3], [16]], [[1, 16, 8, 8]], 100)
DEPTHWISE = event("d", "FusedConv", [[1, 16, 8, 8], [16, 1, 5, 5]], [[1, 16, 4, 4]], 300)


@pytest.mark.parametrize(
    ("node_event", "expected"),
    [
        (DENSE, (2 * 16 * 64 * 27, False)),
        (DEPTHWISE, (2 * 16 * 16 * 25, True)),
        (
            event("m", "MatMul", [[2, 4, 10, 6], [2, 4, 6, 7]], [[2, 4, 10, 7]], 1),
            (2 * 560 * 6, False),
        ),
        (event("m", "FusedMatMul", [[5, 6, 10], [5, 6, 7]], [[5, 10, 7]], 1), (2 * 350 * 6, False)),
        (event("m", "MatMul", [[2, 10, 6]], [[2, 10, 7]], 1), (2 * 140 * 6, False)),
        (event("g", "Gemm", [[10, 6], [7]], [[10, 7]], 1), (2 * 70 * 6, False)),
        (event("a", "Add", [[10, 6], [6]], [[10, 6]], 1), (0, False)),
    ],
)
def test_operations_are_counted_from_shapes(node_event, expected):
    assert operators.operations(node_event) == expected


def test_a_profile_is_summed_up_without_the_runs_that_another_program_disturbed():
    events = [DENSE, {**DENSE, "dur": 90000}, {**DENSE, "dur": 400}, {**DENSE, "dur": 100}]
    events += [DEPTHWISE]
    events += [event("n", "LayerNormalization", [[4]], [[4]], 60)]
    events += [event("t", "Transpose", [[4]], [[4]], 40), event("r", "Relu", [[4]], [[4]], 0)]
    found = operators.summary(events, run_ms=0.6, sgemm=2.0)
    assert found["nodes"] == 5
    assert list(found["kinds"]) == list(operators.KINDS)
    shares = {kind: one["share"] for kind, one in found["kinds"].items()}
    assert shares == pytest.approx(
        dict(zip(operators.KINDS, (0.2, 0.6, 0, 0.12, 0.08), strict=True))
    )
    assert found["overhead_ms"] == pytest.approx(0.1)
    gflop = 2e-9 * (16 * 64 * 27 + 16 * 16 * 25)
    assert found["share_of_sgemm"] == pytest.approx(gflop / 0.6e-3 / 2.0)
    assert next(iter(found["operators"])) == "DepthwiseFusedConv"
    assert found["operators"]["Conv"]["gflops_per_s"] == pytest.approx(2e-9 * 16 * 64 * 27 / 1e-4)


def test_operators_need_no_sgemm():
    found = operators.summary([DENSE], run_ms=0.2, sgemm=None)
    assert found["share_of_sgemm"] is None


def test_models_that_cannot_be_profiled_are_named():
    result = operators.benchmark(["pjvlt_tiny"])
    assert result["models"] == {}
    assert "takes more than a template" in result["left_out"]["pjvlt_tiny"]


def test_alternatives_are_ratios_of_turns(monkeypatch):
    monkeypatch.setattr(alternatives, "RUNS", 3)
    monkeypatch.setattr(alternatives, "BURN_IN", 1)
    turns = []

    def program(name, value):
        def run_once():
            turns.append(name)
            return np.full((1, 2, 2), value, np.float32)

        return run_once

    programs = {alternatives.BASE: program("a", 0.5), "other": program("b", 0.25)}
    found = alternatives._measure(programs)
    assert turns[3:] == ["a", "b"] * 4
    assert found["other"]["difference"] == 0.25
    assert len(found["other"]["repeats"]) == 3


def test_an_alternative_that_fails_is_left_out_with_the_reason(monkeypatch):
    def broken(_exported, _feed):
        raise ValueError("no such\noperator")

    makers = {alternatives.BASE: alternatives._onnxruntime, "broken": broken}
    monkeypatch.setattr(alternatives, "MAKERS", makers)
    monkeypatch.setattr(alternatives, "RUNS", 1)
    monkeypatch.setattr(alternatives, "BURN_IN", 0)
    result = alternatives.benchmark(["asymtrack_lite0", "pjvlt_tiny"])
    assert list(result["models"]["asymtrack_lite0"]) == [alternatives.BASE]
    assert result["left_out"]["asymtrack_lite0 broken"] == "no such operator"
    assert "takes more than a template" in result["left_out"]["pjvlt_tiny"]


@pytest.mark.parametrize(
    "part", ["speed", "speed_others", "node", "scaling", "operators", "alternatives"]
)
def test_the_committed_result_says_what_made_it(part):
    result = json.loads((COMMITTED / f"{part}.json").read_text(encoding="utf-8"))
    assert result["benchmark"] == part.removesuffix("_others")
    assert result["command"].startswith("python -m benchmarks.run ")
    assert len(result["commit"]) == 40
    assert result["seed"] == 0
    assert {"cpu", "vector", "cores", "load_average", "load_average_at_end"} <= set(
        result["machine"]
    )
    assert result["machine"]["vector"]


def committed(part):
    return json.loads((COMMITTED / f"{part}.json").read_text(encoding="utf-8"))


def test_committed_times_have_their_repeats():
    groups = [committed("speed")["trackers"], *committed("scaling")["groups"].values()]
    for group in groups:
        assert len({len(one["repeats"]) for one in group.values()}) == 1
        for one in group.values():
            assert len(one["repeats"]) >= 3
            for numbers in (one, *one["repeats"]):
                assert numbers["cpu_median_ms"] > 0
                assert 0 < numbers["median_ms"] <= numbers["p99_ms"]


@pytest.mark.parametrize(
    ("part", "models"),
    [("speed", {"asymtrack_lite0"}), ("speed_others", {"asymtrack_t", "asymtrack_t_torch"})],
)
def test_the_committed_speed_has_all_that_is_compared(part, models):
    result = committed(part)
    over = result["cpu_ratio"]["over_nanotrack"]
    assert set(over) == set(result["trackers"])
    assert {*models, "nanotrack", "nanotrack_v3", "vit", "csrt"} <= set(over)
    assert over["nanotrack"] == 1.0


def test_the_committed_node_result_has_all_cases():
    cases = committed("node")["cases"]
    sizes = ("640x480", "1280x720", "1920x1080")
    assert set(cases) == {f"{kind}_{size}" for kind in ("raw", "jpeg") for size in sizes}
    for numbers in cases.values():
        assert numbers["tracking"] > 0.9, "the target was lost: something else was measured"
        assert numbers["thread_cpu_ms"] > 0
        assert 0 < numbers["age_p50_ms"] <= numbers["age_p99_ms"]
        assert 0 < numbers["latency_p50_ms"] <= numbers["latency_p99_ms"]
        assert len(numbers["repeats"]) >= 3
        assert 0 < numbers["cpu_share"] < 2


def test_nothing_is_slower_than_itself():
    for part in check.PARTS:
        found = compared(part, committed(part), committed(part))
        assert found.same
        assert not found.slower


@pytest.mark.parametrize("name", ["speed", "operators", "node", "image_size"])
def test_charts_of_the_documentation_are_those_of_the_results(name):
    plots = pytest.importorskip("benchmarks.charts", reason="needs the extra report")
    chart = plots.charts(plots.read(COMMITTED))[name]
    image = (ROOT / "docs/images" / f"performance_{name}.svg").read_text(encoding="utf-8")
    assert texts(image) == texts(chart)


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_page_shows_what_was_measured(tmp_path):
    charts = pytest.importorskip("benchmarks.charts", reason="needs the extra report")
    charts.write_page(tmp_path)
    assert not list(tmp_path.iterdir())
    about = {"command": "c", "commit": "0a1b2c", "date": "d", "machine": {"cpu": "<M&N>"}}
    result = {**about, "cpu_ratio": {"over_nanotrack": {"a": 0.512, "a_torch": 3.0, "b": 1.0}}}
    (tmp_path / "speed.json").write_text(json.dumps(result), encoding="utf-8")
    kinds = {kind: {"share": 0.2} for kind in operators.KINDS}
    result = {**about, "models": {"a": {"kinds": kinds}}}
    (tmp_path / "operators.json").write_text(json.dumps(result), encoding="utf-8")
    charts.write_page(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert {"0.51", "a"} <= set(texts(page))
    assert "a_torch" not in page
    assert "0a1b2c" in page
    assert "cpu &lt;M&amp;N&gt;" in page
