# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.geometry.boxes import CropWindow
from vt_ros.tracker.contact_sheet import RecordedFrame, chosen, describe, draw_sheet


def recorded(state: str, number: int, **fields: object) -> RecordedFrame:
    has_box = state in ("TRACKING", "UNCERTAIN", "COASTING")
    about = {
        "score": 0.9 if state == "TRACKING" else 0.0,
        "raw_score": 0.9 if state == "TRACKING" else 0.02,
        "reason": "" if state == "TRACKING" else "not seen",
        "box": (40.0, 40.0, 20.0, 20.0) if has_box else None,
        "window": CropWindow(0, 0, 100),
        "crop": np.full((96, 96, 3), number % 256, np.uint8),
        "scores": np.zeros((16, 16), np.float16),
    }
    return RecordedFrame(100.0 + number / 30.0, 3, state, **{**about, **fields})  # type: ignore[arg-type]


def a_loss() -> list[RecordedFrame]:
    states = ["TRACKING"] * 60 + ["COASTING"] * 15 + ["LOST"]
    return [recorded(state, number) for number, state in enumerate(states)]


def test_describe_says_what_happened_and_when() -> None:
    assert describe(a_loss()) == [
        "-2.50 s  TRACKING for 60 frames; score 0.90 to 0.90",
        "-0.50 s  COASTING for 15 frames: not seen; the best that the network saw was 0.02",
        "+0.00 s  LOST for 1 frame: not seen; the best that the network saw was 0.02",
    ]


def test_describe_joins_reasons_that_differ_in_numbers_and_shortens_long_ones() -> None:
    frames = [recorded("LOST", n, reason=f"dark: {n}.{n} of 5 {'x' * 200}") for n in range(9)]
    (line,) = describe(frames)
    assert line.startswith("-0.27 s  LOST for 9 frames: dark: 0.0 of 5 xxx")
    assert line.endswith("...")
    changing = [recorded("LOST", n, reason="ab"[n % 2]) for n in range(40)]
    assert len(describe(changing)) == 8


@given(st.integers(1, 300), st.integers(0, 300))
def test_chosen_are_in_order_and_hold_the_turn(count: int, measured: int) -> None:
    frames = [recorded("TRACKING" if n < measured else "LOST", n) for n in range(count)]
    shown = chosen(frames)
    numbers = [round((frame.seconds - 100.0) * 30) for frame in shown]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(count, 16)
    assert numbers[-1] == count - 1, "the last frame is shown"
    if 0 < measured <= count:
        assert measured - 1 in numbers, "so is the last measured one"


def test_draw_sheet_shows_every_kind_of_frame() -> None:
    frames = [*a_loss(), recorded("LOST", 77, scores=None, reason="dark")]
    sheet = draw_sheet(frames, "target 3 LOST: not seen", (0.1, 0.8))
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 4 * (2 * 160 + 4) + 4
    assert draw_sheet(frames[:1], "one frame", (0.1, 0.8)).shape[1] == sheet.shape[1]
    # The state's colour is on the plot: green while it was tracked, red at the end.
    greens = (sheet[..., 1].astype(int) - sheet[..., 0] > 40).sum(axis=0)
    assert greens[200] > 0
