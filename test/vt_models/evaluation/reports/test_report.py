# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: its numbers, and a page that needs nothing else."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

for package in ("jinja2", "matplotlib"):
    pytest.importorskip(package, reason="needs the [report] extra")

from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.sequence import VideoSequence
from vt_models.errors import InputError
from vt_models.evaluation.calibration import expected_calibration_error
from vt_models.evaluation.reports.plots import (
    COLOURS,
    bar_chart,
    check_chart_path,
    line_chart,
    reliability_chart,
    save_reliability,
)
from vt_models.evaluation.reports.report import SHOWN_FAILURES, collect, write_report
from vt_models.evaluation.reports.tables import COLUMNS, INTERVAL, errors_section
from vt_models.evaluation.runs.runner import Report, SequenceResult, accuracy_of, evaluate
from vt_models.geometry.boxes import iou
from vt_models.tracker.tracker import Estimate

ABSENT = "nan,nan,nan,nan"
KINDS = {"<drones> & views": ["goes"], "both": ["goes", "leaves"]}


class Drifting:
    """Slides to the right and is less sure with every frame."""

    def init(self, _frame, box):
        self.box, self.score = box, 1.0

    def update(self, _frame):
        x, y, w, h = self.box
        self.box, self.score = (x + 3, y, w, h), self.score - 0.1
        return Estimate(self.box, self.score)


class Static(Drifting):
    """Stays, and is always sure."""

    def update(self, _frame):
        return Estimate(self.box, 1.0)


@pytest.fixture
def sequences(tmp_path, write_sequence):
    write_sequence("data/goes", [f"{x},5,10,10" for x in (5, 8, 11, 14, 17, 20)])
    write_sequence("data/leaves", ["5,5,10,10", "5,5,10,10", ABSENT, "5,5,10,10", "30,5,10,10"])
    return FolderDataset(tmp_path / "data")


@pytest.fixture
def reports(sequences):
    trackers = {"drifting": Drifting, "static": Static}
    return [
        evaluate(tracker, sequences, model=name, progress=False)
        for name, tracker in trackers.items()
    ]


class Page(HTMLParser):
    """Collects tags, texts and tables of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.tables, self.headings, self._open = [], [], [], [], []
        self.feed(text)
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name == "xlink:href"]

    def handle_data(self, data):
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1].append(data)
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def written(tmp_path, reports, sequences, kinds=None, **more):
    path = write_report(tmp_path / "out", reports, sequences, more, kinds)
    return path.read_text(), json.loads((tmp_path / "out" / "report.json").read_text())


SVG = "{http://www.w3.org/2000/svg}"


def texts_of(drawing):
    """The texts of a chart, which is well-formed."""
    root = ElementTree.fromstring(drawing)  # noqa: S314 - our own
    return ["".join(one.itertext()).strip() for one in root.iter(f"{SVG}text")]


def lines_of(drawing):
    """Colour and points of the paths that are drawn with a colour of ours."""
    root = ElementTree.fromstring(drawing)  # noqa: S314 - our own
    found = []
    for path in root.iter(f"{SVG}path"):
        colour = re.search(r"stroke: (#\w+)", path.get("style", ""))
        if colour and colour[1] in COLOURS[:2]:
            points = re.findall(r"[ML] (\S+) (\S+)", path.get("d"))
            found.append((colour[1], [(float(x), float(y)) for x, y in points]))
    return found


def test_the_json_has_the_numbers_of_the_reports(tmp_path, reports, sequences):
    _, data = written(tmp_path, reports, sequences, about={"commit": "c0ffee"})
    assert data["about"] == {"commit": "c0ffee"}
    assert data["frames"] == {"goes": 6, "leaves": 5}
    for tracker, report in zip(data["trackers"], reports, strict=True):
        assert tracker["model"] == report.model
        assert tracker["total"] == {**report.total, "ao_interval": report.ao_interval}
        assert tracker["sequences"] == report.to_dict()["sequences"]


def test_areas_of_the_curves_are_the_metrics(tmp_path, reports, sequences):
    _, data = written(tmp_path, reports, sequences)
    for tracker in data["trackers"]:
        curves, total = tracker["curves"], tracker["total"]
        assert np.mean(curves["success"]) == pytest.approx(total["auc"])
        assert curves["precision"][20] == pytest.approx(total["precision"])
        assert np.mean(curves["norm_precision"]) == pytest.approx(total["norm_precision"])


def test_attributes_are_means_over_those_that_have_them(reports, sequences):
    data = collect(reports, list(sequences))
    assert data["attributes"] == {
        "absent": ["leaves"],
        "fast motion": ["leaves"],
        "low resolution": ["goes", "leaves"],
    }
    for tracker in data["trackers"]:
        own = tracker["attributes"]
        assert own["absent"]["auc"] == tracker["sequences"]["leaves"]["auc"]
        assert own["low resolution"]["auc"] == pytest.approx(tracker["total"]["auc"])


def test_failures_are_those_of_the_boxes(reports, sequences):
    drifting, static = collect(reports, list(sequences))["trackers"]
    # 3 px a frame: the boxes of 10 px part after 4 frames
    assert static["failures"] == [
        {"sequence": "goes", "frame": 4, "frames": 2, "returned": False},
        {"sequence": "leaves", "frame": 4, "frames": 1, "returned": False},
    ]
    assert [one["sequence"] for one in drifting["failures"]] == ["leaves"]


def test_reliability_counts_absent_frames_as_wrong(reports, sequences):
    data = collect(reports, list(sequences))
    assert list(data["reliability"]) == ["drifting"], "a constant score has none"
    scores, right = [], []
    for sequence, result in zip(sequences, reports[0].results, strict=True):
        scores.append(result.scores[1:])
        right.append(np.asarray(iou(result.boxes, sequence.boxes))[1:] >= 0.5)
    scores, right = np.concatenate(scores), np.concatenate(right).astype(float)
    found = data["reliability"]["drifting"]
    assert found["ece"] == pytest.approx(expected_calibration_error(scores, right))
    assert sum(row["frames"] for row in found["rows"]) == 5 + 4


def test_the_page_has_every_part(tmp_path, reports, sequences):
    rows = [{"confidence": 0.9, "right": 0.8, "frames": 7}]
    calibration = {"ece": 0.03, "frames": 7, "reliability": rows}
    kept = dict.fromkeys(
        ("f_score", "precision", "recall", "ao", "false_tracking", "wrong_tracking"), 0.5
    )
    kept |= {"found": None, "seconds_to_lost": None, "seconds_to_found": 0.25}
    text, _ = written(
        tmp_path,
        reports,
        sequences,
        KINDS,
        about={"command": "vt-models eval", "versions": {"numpy": "2"}},
        benchmark={"name": "otb", "totals": {"drifting": {"success": 0.123}}},
        stream={"drifting": {"fps": 30.0, "latency_ms": None, "processed": 0.5}},
        start={"drifting": {"iou": 0.25, "found": 0.5}},
        long_term={
            "model": "drifting",
            "long_term": kept,
            "short_term": kept,
            "calibration": calibration,
        },
    )
    page = Page(text)
    assert page.headings == [
        "Evaluation of drifting, static",
        "Total",
        "Kinds",
        "By the rules of otb",
        "As a stream",
        "Started by text",
        "Long term: drifting",
        "Curves",
        "Time",
        "Attributes",
        "Sequences",
        "Reliability of the score",
        "Failures",
        "drifting: 1 failure",
        "static: 2 failures",
        "About",
    ]
    total, difference, kinds, benchmark, long_term, attributes, per_sequence = page.tables
    ours, other = (report.total["ao"] for report in reports)
    interval = f"[{', '.join(f'{end:.3f}' for end in reports[0].ao_interval)}]"
    assert total[0][:4] == ["total", "AO", INTERVAL, "SR0.50"]
    assert total[1][:3] == ["drifting", f"{ours:.3f}", interval]
    assert difference[0] == ["difference", "AO less that of drifting", INTERVAL]
    assert difference[1][:2] == ["static", f"{other - ours:.3f}"]
    assert kinds[0] == ["AO (videos)", "drifting", INTERVAL, "static", INTERVAL]
    assert [row[0] for row in kinds[1:]] == ["<drones> & views (1)", "both (2)"]
    goes = [f"{report.results[0].accuracy.ao:.3f}" for report in reports]
    assert kinds[1][1:] == [goes[0], "–", goes[1], "–"]
    assert kinds[2][1:3] == [f"{ours:.3f}", interval]
    assert benchmark[1] == ["drifting", "0.123"]
    assert attributes[0] == ["AUC (sequences)", "drifting", "static"]
    assert [row[0] for row in attributes[1:]] == [
        "absent (1)",
        "fast motion (1)",
        "low resolution (2)",
    ]
    assert [row[0] for row in per_sequence[1:]] == ["goes (6)", "leaves (5)"]
    assert per_sequence[1][1] == f"{reports[0].results[0].accuracy.ao:.3f}"
    assert long_term[1][-3:] == ["–", "–", "0.250"]
    # three curves, times, the raw score's diagram and the calibrated one's
    assert page.tags.count("svg") == 6
    diagrams = [texts_of(drawing) for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL)[4:]]
    assert "drifting, calibrated" in diagrams[0]
    assert "confidence (expected calibration error 0.030)" in diagrams[0]
    assert "drifting" in diagrams[1]
    assert "expected calibration error 0.030 over 7 measured frames" in text
    latency = reports[0].total["ms_per_frame"]
    assert f"measured latency {latency:.1f} ms, 50.0% of frames processed" in text
    assert "first box found in 50.0% of the sequences, mean IoU 0.250" in text
    assert page.tags.count("img") == 3


def test_page_marks_the_best_numbers(tmp_path, reports, sequences):
    text, data = written(tmp_path, reports, sequences)
    tables = re.findall(r"<tbody>(.*?)</tbody>", text)
    rows = [re.findall(r'<td( class="best")?>([^<]*)', row) for row in tables[0].split("</tr>")]
    drifting, static = (tracker["total"] for tracker in data["trackers"])
    for place, key in enumerate(COLUMNS.values(), start=1):
        if key == "ao_interval":
            assert not rows[0][place][0], "an interval is no number to rank by"
            continue
        order = -1 if key == "ms_per_frame" else 1
        for row, own, other in ((rows[0], drifting, static), (rows[1], static, drifting)):
            assert bool(row[place][0]) == (order * own[key] >= order * other[key]), key
    goes = re.findall(r'<td( class="best")?>', tables[3].split("</tr>")[0])
    assert goes == ["", ' class="best"', ""], "the target goes as the drifting tracker does"


def test_the_page_needs_no_other_file(tmp_path, reports, sequences):
    text, _ = written(tmp_path, reports, sequences)
    page = Page(text)
    assert page.addresses
    assert all(one.startswith(("data:image/jpeg;base64,", "#")) for one in page.addresses)
    assert not re.search(r"@import|url\((?!#)|<script|<link", text)
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"]*", text)) == names


def test_page_escapes_names(tmp_path, reports, sequences):
    evil = '<b>&"x'
    first = sequences[0]
    sequence = VideoSequence(evil, first.frames, first.boxes, attributes=(evil,))
    results = [
        SequenceResult(evil, one.boxes, one.scores, one.seconds, accuracy_of(one.boxes, sequence))
        for one in (report.results[0] for report in reports)
    ]
    renamed = [Report(evil + str(index), (one,)) for index, one in enumerate(results)]
    text, data = written(tmp_path, renamed, [sequence], about={evil: evil})
    assert "<b>&" not in text
    assert data["trackers"][0]["model"] == evil + "0"
    tables = Page(text).tables
    assert tables[1][1][0] == f"{evil}1"
    assert tables[3][1][0] == f"{evil} (6)"
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL)[:3]:
        assert any(name.startswith(f"{evil}0  ") for name in texts_of(drawing))


def test_sequences_without_public_truth_are_left_out(tmp_path, reports, sequences):
    first = sequences[0]
    boxes = np.full((6, 4), np.nan)
    boxes[0] = first.boxes[0]
    secret = VideoSequence("secret", first.frames, boxes, absent=np.zeros(6, bool))
    report = evaluate(Static, [secret, first], model="static", progress=False)
    _, data = written(tmp_path, [report], [secret, first])
    assert list(data["frames"]) == ["goes"]
    assert data["trackers"][0]["total"] == {**report.total, "ao_interval": None}


def test_many_failures_show_the_longest(tmp_path, write_sequence):
    lines = ["5,5,10,10"]
    for length in range(1, SHOWN_FAILURES + 4):
        lines += ["30,30,10,10"] * length + ["5,5,10,10"]
    write_sequence("data/s", lines)
    sequences = FolderDataset(tmp_path / "data")
    reports = [evaluate(Static, sequences, model="static", progress=False)]
    text, data = written(tmp_path, reports, sequences)
    count = SHOWN_FAILURES + 3
    assert len(data["trackers"][0]["failures"]) == count
    assert f"static: {count} failures, {SHOWN_FAILURES} shown" in Page(text).headings
    captions = re.findall(r"<figcaption>s, frame \d+: lost for (\d+) frames?,", text)
    assert [int(one) for one in captions] == list(range(count, count - SHOWN_FAILURES, -1))


def test_a_chart_puts_points_where_they_belong():
    svg = line_chart("t", ("x", 2.0), "y", [("_a$1$", 0.5, (1.0, 0.5, 0.0))])
    (_, ((x0, y0), (x1, y1), (x2, y2))), (_, legend) = lines_of(svg)
    assert x1 == pytest.approx((x0 + x2) / 2)
    assert y1 == pytest.approx((y0 + y2) / 2)
    assert y0 < y2, "1 is at the top"
    assert min(y for _, y in legend) > y2, "the legend is below"
    assert texts_of(svg)[-1] == "_a$1$  0.500"
    assert svg == line_chart("t", ("x", 2.0), "y", [("_a$1$", 0.5, (1.0, 0.5, 0.0))])


def test_bars_have_their_numbers_and_a_legend_where_there_are_several():
    svg = bar_chart("t", "ms", {"one": {"a": 1.5, "b": 2.0}, "two": {"a": 3.25}}, ".2f")
    found = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"one", "two", "1.50", "2.00", "3.25", "a", "b", "ms", "t"} <= set(found)
    assert svg == bar_chart("t", "ms", {"one": {"a": 1.5, "b": 2.0}, "two": {"a": 3.25}}, ".2f")
    alone = bar_chart("t", "ms", {"one": {"a": 1.5}})
    assert "a" not in re.findall(r"<text[^>]*>([^<]*)</text>", alone)


def test_stacked_bars_begin_where_the_previous_one_ends():
    svg = bar_chart("t", "%", {"one": {"a": 60.0, "b": 40.0}}, stacked=True)
    corners = re.findall(r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+)', svg)
    bars = [(float(left), float(right)) for left, right in corners if left != right]
    follow = [(a, b) for a in bars for b in bars if a != b and abs(a[1] - b[0]) < 0.01]
    assert any((b[1] - b[0]) / (a[1] - a[0]) == pytest.approx(40 / 60, rel=0.01) for a, b in follow)


def test_a_tracker_has_one_colour_in_all_charts(tmp_path, reports, sequences):
    text, data = written(tmp_path, reports, sequences)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)[:3]
    for chart, key in zip(charts, ("auc", "precision", "norm_precision"), strict=True):
        totals = [tracker["total"][key] for tracker in data["trackers"]]
        ranked = sorted(zip(totals, ("drifting", "static"), COLOURS, strict=False), reverse=True)
        assert texts_of(chart)[-2:] == [f"{name}  {number:.3f}" for number, name, _ in ranked]
        drawn = [colour for colour, _ in lines_of(chart)]
        assert drawn == [*COLOURS[:2], *(colour for _, _, colour in ranked)]


def test_a_diagram_has_a_bar_a_bin(tmp_path):
    rows = [
        {"confidence": 0.05, "right": 0.0, "frames": 2},
        {"confidence": 1.0, "right": 1.0, "frames": 6},
    ]
    (axes,) = reliability_chart("t", 0.25, rows).axes
    first, second = axes.patches
    assert (first.get_x(), first.get_height()) == (0.0, 0.0)
    assert (second.get_x(), second.get_height()) == (0.9, 1.0)
    assert first.get_alpha() < second.get_alpha(), "it holds fewer frames"
    save_reliability(tmp_path / "new" / "r.png", "t", 0.25, rows)
    assert cv2.imread(str(tmp_path / "new" / "r.png")).min() < 100
    with pytest.raises(InputError, match=r"r\.odd cannot be written: .*ends in \.png"):
        save_reliability(tmp_path / "r.odd", "t", 0.25, rows)


@pytest.mark.parametrize("state", ["missing", "broken"])
@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_write_report_without_the_extra_writes_the_numbers_and_says_what_to_install(
    tmp_path, reports, sequences, monkeypatch, caplog, package, state
):
    for module in ("page", "plots", "templates"):
        monkeypatch.delitem(sys.modules, f"vt_models.evaluation.reports.{module}", raising=False)
        monkeypatch.delattr(f"vt_models.evaluation.reports.{module}", raising=False)
    what = package
    if state == "missing":
        monkeypatch.setitem(sys.modules, package, None)
    else:
        monkeypatch.delitem(sys.modules, package)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('of another numpy')")
        monkeypatch.syspath_prepend(tmp_path)
        what = f"{package}, which is broken (RuntimeError: of another numpy)"
    path = write_report(tmp_path / "out", reports, sequences)
    assert path == tmp_path / "out" / "report.json"
    assert len(json.loads(path.read_text())["trackers"]) == 2
    assert [one.name for one in path.parent.iterdir()] == ["report.json"]
    (record,) = caplog.records
    assert f"no report.html: it needs {what}; run pip install '.[report]'" in record.getMessage()


@pytest.mark.parametrize("key", ["errors", "failed"])
def test_errors_section_reads_the_key_of_previous_versions_too(key):
    found = [{"tracker": "csrt", "sequence": "one", "reason": "one, frame 2: no luck"}]
    assert errors_section({key: found}) == {
        "Errors": ["not in the numbers of csrt: one, frame 2: no luck"]
    }
    assert errors_section({}) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chart", "has no ending of an image"),
        ("chart.pngg", "has no ending of an image"),
        ("folder.png", "is a folder"),
        ("file/chart.png", "file is no folder to write to"),
    ],
)
def test_check_chart_path_refuses_what_no_chart_can_be_written_to(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=message):
        check_chart_path(tmp_path / name)
    check_chart_path(tmp_path / "new" / "chart.svg")
