# SPDX-License-Identifier: Apache-2.0
"""The chart of `make demo-robot`: bearing, rates, directions and states over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vt_models.errors import InputError
from vt_models.video.drawing import STATE_COLOURS
from vt_ros.common.convert import Pixels
from vt_ros.demo.gimbal_node import NARROW, WIDE
from vt_ros.demo.robot_recording import Moment, Rates

CHART = "robot.png"

_SHADE = 0.3
_PAN, _TILT, _CAR = "#0072b2", "#d55e00", "#000000"
_FRAMES = 4


@matplotlib.rc_context({"font.size": 9})
def draw_chart(
    path: Path,
    moments: Sequence[Moment],
    rates: Sequence[Rates],
    frames: Sequence[tuple[Moment, Pixels]],
) -> None:
    """Write the chart.

    Args:
        path: a .png.
        moments: of the images, in order.
        rates: that were commanded.
        frames: some images; a few that tell most are shown.

    Raises:
        InputError: there is nothing to draw, or it cannot be written.
    """
    tracked = [moment for moment in moments if moment.state != "IDLE"]
    if not tracked or not rates:
        raise InputError("nothing was tracked or nothing commanded, so there is nothing to draw")
    begin, end = tracked[0].time, tracked[-1].time
    figure = Figure(figsize=(11.0, 9.0), layout="constrained")
    grid = figure.add_gridspec(4, _FRAMES, height_ratios=(1.25, 1.0, 1.0, 1.3))
    for column, (title, (moment, frame)) in enumerate(_telling(frames)):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(frame)
        axes.set_title(f"{moment.time - begin:.1f} s: {title}", fontsize=9)
        axes.set_axis_off()
    times = np.array([moment.time for moment in tracked]) - begin
    bearing = np.degrees([moment.bearing for moment in tracked])
    camera = np.degrees([moment.camera for moment in tracked])
    car = np.degrees([moment.car for moment in tracked])
    panels = [figure.add_subplot(grid[row, :]) for row in (1, 2, 3)]
    panels[0].plot(times, bearing[:, 0], color=_PAN, label="azimuth, to the right")
    panels[0].plot(times, bearing[:, 1], color=_TILT, label="elevation, downwards")
    panels[0].set_ylabel("bearing, degrees")
    commanded = [one for one in rates if begin <= one.time <= end]
    for name, colour, values in (
        ("pan", _PAN, [one.pan for one in commanded]),
        ("tilt", _TILT, [one.tilt for one in commanded]),
    ):
        panels[1].plot(
            [one.time - begin for one in commanded],
            np.degrees(values),
            color=colour,
            label=f"{name} rate, commanded",
        )
    panels[1].set_ylabel("rate, degrees a second")
    panels[2].plot(times, car[:, 0], "--", color=_CAR, label="car, true")
    panels[2].plot(times, camera[:, 0], color=_PAN, label="camera, true")
    for pillar in (NARROW, WIDE):
        panels[2].axhspan(*np.degrees((pillar.left, pillar.right)), color="#808080", alpha=0.35)
    panels[2].annotate("pillars", (times[-1], np.degrees(WIDE.left) + 2.0), ha="right")
    panels[2].set_ylabel("pan, degrees")
    panels[2].set_xlabel("seconds since the target was given")
    for axes in panels:
        axes.set_xlim(0.0, times[-1])
        axes.grid(alpha=0.3)
        for state, span in groupby(tracked, key=lambda moment: moment.state):
            span_times = [moment.time - begin for moment in span]
            until = span_times[-1] + times[-1] / len(times)
            axes.axvspan(span_times[0], until, color=_shade(state), alpha=_SHADE, linewidth=0)
        axes.legend(loc="upper left", ncols=2)
    seen = dict.fromkeys(moment.state for moment in tracked)
    shades = [Patch(color=_shade(state), alpha=_SHADE) for state in seen]
    figure.legend(shades, list(seen), loc="outside upper center", ncols=len(seen), frameon=False)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _shade(state: str) -> tuple[float, ...]:
    return tuple(value / 255.0 for value in STATE_COLOURS[state])


def _telling(frames: Sequence[tuple[Moment, Pixels]]) -> list[tuple[str, tuple[Moment, Pixels]]]:
    """Return frames to show: first and last, and the middle of coasting and of the loss."""
    tracked = [one for one in frames if one[0].state != "IDLE"]
    found = [("the target is given", tracked[0])] if tracked else []
    for state, title in (("COASTING", "hidden, coasting"), ("LOST", "lost, holding")):
        of_state = [one for one in tracked if one[0].state == state]
        if of_state:
            found.append((title, of_state[len(of_state) // 2]))
    if tracked:
        found.append(("followed again", tracked[-1]))
    return found
