# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the node: its sums, and a short run of it. No time is asserted."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from benchmarks import node
from vt_models.errors import BackendError


def row(number, cpu_s, network_cpu_ms=4.0, overhead_ms=2.0):
    times = {"overhead_ms": overhead_ms, "network_ms": 5.0, "age_ms": 10.0 + number}
    times["thread_cpu_ms"] = 1.0 + number
    return {"stamp": number * 10**9, "cpu_s": cpu_s, "network_cpu_ms": network_cpu_ms, **times}


def block(stamps, case="raw_640x480", latency_ms=(12.0, 14.0)):
    numbers = {"latency_ms": list(latency_ms), "tracking": 1.0}
    return {"case": case, "reference_ms": 3.0, "stamps": [s * 10**9 for s in stamps], **numbers}


def test_processor_time_of_the_network_does_not_count() -> None:
    rows = {"raw": [row(0, 5.0), row(1, 5.007), row(2, 5.014), row(9, 9.0)]}
    found = node.summary([block((0, 1, 2, 3))], rows, {"raw_640x480": [40.0, 46.0, 100.0]})
    numbers = found["raw_640x480"]
    assert numbers["cpu_median_ms"] == pytest.approx(7.0 - 4.0)
    assert numbers["thread_cpu_ms"] == 2.5
    assert numbers["cpu_share"] == pytest.approx(0.007)
    assert numbers["drops"] == pytest.approx(0.25)
    assert (numbers["age_p50_ms"], numbers["latency_p50_ms"]) == (11.0, 13.0)
    assert numbers["peak_hz"] == 46.0
    assert numbers["repeats"][0]["reference_cpu_ms"] == 3.0


def test_cases_and_repeats_are_told_apart() -> None:
    rows = {"raw": [row(n, 1e-3 * n) for n in range(4)], "jpeg": [row(n, 0.1 * n) for n in (5, 6)]}
    blocks = [block((0, 1)), block((5, 6), "jpeg_640x480"), block((2, 3))]
    found = node.summary(blocks, rows, {})
    assert {case: len(one["repeats"]) for case, one in found.items()} == {
        "raw_640x480": 2,
        "jpeg_640x480": 1,
    }
    assert found["raw_640x480"]["peak_hz"] is None


def test_a_node_that_published_nothing_is_an_error() -> None:
    with pytest.raises(BackendError, match="raw_640x480: the node published 0 detections"):
        node.summary([block((0, 1))], {"raw": []}, {})


@pytest.mark.parametrize("limit", [0.0, 20.0, 33.0, 1e9])
def test_the_highest_rate_is_a_step_below_the_limit(limit: float) -> None:
    best = node.highest_rate(lambda rate: 0.0 if rate <= limit else 0.5)
    if limit < node.LOWEST_PEAK:
        assert best == 0.0
    else:
        assert best <= min(limit, node.HIGHEST_PEAK) < best * node.PEAK_STEP


def test_one_disturbed_step_does_not_end_the_search() -> None:
    answers = iter([0.0, 0.9, 0.05, 0.9, 0.9])
    best = node.highest_rate(lambda _: next(answers))
    assert best == pytest.approx(node.LOWEST_PEAK * node.PEAK_STEP**2)


def test_images_go_to_and_fro() -> None:
    shown = node._to_and_fro([b"a", b"b", b"c"])
    assert [next(shown) for _ in range(6)] == [b"a", b"b", b"c", b"b", b"a", b"b"]


@pytest.mark.ros
@pytest.mark.slow
def test_a_short_run_measures_every_case(monkeypatch) -> None:
    monkeypatch.setattr(node, "SIZES", {"640x480": (640, 480)})
    monkeypatch.setattr(node, "FRAMES", 15)
    # The lock by which the tests of nodes keep out of one another's domains.
    with (Path(tempfile.gettempdir()) / "vt_ros_test_domain_95.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cases = node.benchmark(repeats=1, peak_repeats=0, domain=95)["cases"]
    assert set(cases) == {"raw_640x480", "jpeg_640x480"}
    for numbers in cases.values():
        assert numbers["tracking"] > 0
        assert numbers["network_ms"] > 0
        assert numbers["overhead_ms"] > 0
        assert numbers["age_p50_ms"] <= numbers["age_p99_ms"]
