# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval --tracker module:Class`: a class of the user's own."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vt_models.auto_model import choose_model
from vt_models.cli.main import main
from vt_models.errors import InputError
from vt_models.evaluation.baselines import missing_reason
from vt_models.evaluation.custom_tracker import CustomTracker, load_class

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SOURCE = """
import collections

Answer = collections.namedtuple("Answer", "box score")

class Static:
    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return self.box

class Shifted(Static):
    def update(self, frame):
        x, y, w, h = self.box
        return Answer((x + w / 2, y, w, h), 0.5)

class Silent(Static):
    def update(self, frame):
        return None

class Wrong(Static):
    def update(self, frame):
        return "nothing"

class NotANumber(Static):
    def update(self, frame):
        return (0, 0, float("nan"), 1)

class Broken(Static):
    def update(self, frame):
        raise KeyError("lost")

class Leaving(Static):
    def update(self, frame):
        raise SystemExit(0)

class Unbuilt(Static):
    def __init__(self, size):
        pass

class Half:
    def init(self, frame, box):
        pass

asymtrack_lite0 = csrt = Static
value = 3
"""
FRAME = np.zeros((48, 64, 3), np.uint8)
BOX = (10.0, 12.0, 20.0, 16.0)


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the user's module is the working directory."""
    (tmp_path / "own_tracker.py").write_text(SOURCE)
    (tmp_path / "other_tracker.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for module in ("own_tracker", "other_tracker"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def test_answers_may_be_a_box_an_object_or_none() -> None:
    for name, box, score in (
        ("Static", BOX, 1.0),
        ("Shifted", (20.0, 12.0, 20.0, 16.0), 0.5),
        ("Silent", BOX, 0.0),
    ):
        tracker = CustomTracker(f"own_tracker:{name}")
        tracker.init(FRAME, BOX)
        estimate = tracker.update(FRAME)
        assert (estimate.box, estimate.score) == (box, score)


@pytest.mark.parametrize("name", ["Wrong", "NotANumber"])
def test_an_answer_that_is_no_box_is_an_error(name: str) -> None:
    tracker = CustomTracker(f"own_tracker:{name}")
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match=r"own_tracker:.*update\(\) returned .*expected x, y, w"):
        tracker.update(FRAME)


@pytest.mark.parametrize("name", ["Broken", "Leaving"])
def test_whatever_the_class_raises_names_it_and_ends_nothing(name: str) -> None:
    tracker = CustomTracker(f"own_tracker:{name}")
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match=rf"own_tracker:{name}: update\(\) raised (Key|System)E"):
        tracker.update(FRAME)


def test_class_that_wants_arguments_is_named() -> None:
    with pytest.raises(InputError, match="own_tracker:Unbuilt: its constructor raised TypeError"):
        CustomTracker("own_tracker:Unbuilt")


def test_module_that_exits_is_named(tmp_path: Path) -> None:
    (tmp_path / "leaving_tracker.py").write_text("raise SystemExit(0)")
    with pytest.raises(InputError, match="importing leaving_tracker raised SystemExit: 0"):
        load_class("leaving_tracker:Any")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own_tracker", "expected module:Class"),
        (".own_tracker:Static", "expected module:Class"),
        ("sys:Static", "sys has no class Static"),
        (":Static", "expected module:Class"),
        ("no_such_module:Static", "No module named 'no_such_module'.*looked in"),
        ("own_tracker:Missing", "has no class Missing"),
        ("own_tracker:value", "has no class value"),
        ("own_tracker:Half", "has no update"),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_class(reference)


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    words = ["eval", "--dataset", "folder", "--root", str(tmp_path / "data"), "--no-cache"]
    status = main([*words, *options])
    return status, *capsys.readouterr()


@pytest.fixture
def data(tmp_path: Path, write_sequence: Callable[..., Path]) -> None:
    folder = write_sequence("a", ["10,12,20,16"] * 4)
    (tmp_path / "data").mkdir()
    folder.rename(tmp_path / "data" / "a")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_eval_scores_a_class_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    status, out, _ = run(
        tmp_path, capsys, "--tracker", "own_tracker:Static", "--json", "--jobs", jobs
    )
    assert status == 0
    report = json.loads(out)
    assert report["model"] == "Static"
    assert report["total"]["ao"] == 1.0


@pytest.mark.usefixtures("data")
def test_eval_runs_several_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "own_tracker:Static,own_tracker:Shifted"
    status, out, _ = run(tmp_path, capsys, "--tracker", words, "--json")
    assert status == 0
    assert '"Static"' in out
    assert '"Shifted"' in out
    assert "0.3333" in out  # half a width beside the target


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --model (see `vt-models models`) or --tracker"),
        (["--tracker", "own_tracker:Static", "--long-term"], "give --model too"),
        (["--tracker", "own_tracker:Half"], "has no update"),
        (
            ["--tracker", "own_tracker:Static,other_tracker:Static"],
            "2 trackers of this run are called Static (own_tracker:Static, other_tracker:Static",
        ),
        (
            ["--model", "asymtrack_lite0", "--tracker", "own_tracker:asymtrack_lite0"],
            "2 trackers of this run are called asymtrack_lite0 (own_tracker:asymtrack_lite0",
        ),
        pytest.param(
            ["--tracker", "own_tracker:csrt", "--baselines", "csrt"],
            "2 trackers of this run are called csrt (own_tracker:csrt among them)",
            marks=pytest.mark.skipif(
                missing_reason("csrt") is not None, reason="this OpenCV has no CSRT"
            ),
        ),
        (
            ["--model", f"auto,{choose_model().name}"],
            f"{choose_model().name} is asked for 2 times, once by another name",
        ),
    ],
)
def test_eval_refuses_what_cannot_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    status, out, err = run(tmp_path, capsys, *options)
    assert (status, out) == (2, "")
    assert message in err
