# SPDX-License-Identifier: Apache-2.0
"""`vt-models eval --text`: a language model is told at test what it was told in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vt_models.cli.main import main
from vt_models.tracker.tracker import Estimate, Tracker

CLASSES = ("object_class: goat", "motion_class: walking", "major_class: ruminant")
GOT10K, LASOT = "goat walking ruminant animal", "a cat on a wall"


def _write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _frames(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number:08d}.jpg"), np.full((64, 96, 3), 90, np.uint8))


@pytest.fixture
def got10k(tmp_path: Path) -> Path:
    """A split of one video of two frames."""
    name = "GOT-10k_Val_000001"
    folder = tmp_path / "got10k" / "val" / name
    _write(folder.parent / "list.txt", name)
    _write(folder / "groundtruth.txt", "10,10,20,20", "11,10,20,20")
    _write(folder / "meta_info.ini", "[METAINFO]", *CLASSES, "root_class: animal")
    for file, value in (("absence", "0"), ("cover", "8"), ("cut_by_image", "0")):
        _write(folder / f"{file}.label", value, value)
    _frames(folder)
    return tmp_path / "got10k"


@pytest.fixture
def lasot(tmp_path: Path) -> Path:
    """One video of two frames, with its sentence."""
    folder = tmp_path / "lasot" / "cat" / "cat-1"
    _write(folder / "groundtruth.txt", "10,10,20,20", "11,10,20,20")
    _write(folder / "full_occlusion.txt", "0,0")
    _write(folder / "out_of_view.txt", "0,0")
    _write(folder / "nlp.txt", LASOT)
    _frames(folder / "img")
    return tmp_path / "lasot"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What `pjvlt_tiny` is told at each start, in a tracker that stays where it began."""
    heard: list[str | None] = []

    def init(self: Any, _frame: Any, box: Any, text: str | None = None) -> None:
        heard.append(text)
        self.began = box

    monkeypatch.setattr(Tracker, "init", init)
    monkeypatch.setattr(Tracker, "update", lambda self, _frame: Estimate(self.began, 1.0))
    return heard


def _run(kind: str, root: Path, *options: str) -> int:
    where = ["--dataset", kind, "--root", str(root), "--no-cache", "--device", "cpu"]
    return main(["eval", "--model", "pjvlt_tiny", *where, *options])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (GOT10K, LASOT)),
        (("--text", "sentence"), (None, LASOT)),
        (("--text", "none"), (None, None)),
        (("--stream", "30", "--latency", "5"), (GOT10K, LASOT)),
        (("--protocol", "vot", "--eao-range", "1:2"), (GOT10K, LASOT)),
    ],
)
def test_a_language_model_is_told_the_sentence_or_the_classes(
    got10k: Path,
    lasot: Path,
    told: list[str | None],
    options: tuple[str, ...],
    expected: tuple[str | None, ...],
) -> None:
    assert _run("got10k", got10k, "--split", "val", *options) == 0
    assert _run("lasot", lasot, *options) == 0
    assert list(dict.fromkeys(told)) == list(dict.fromkeys(expected))


def test_models_without_language_are_told_nothing(got10k: Path, told: list[str | None]) -> None:
    where = ["--dataset", "got10k", "--root", str(got10k), "--split", "val", "--no-cache"]
    assert main(["eval", "--model", "asymtrack_lite0", *where, "--device", "cpu"]) == 0
    assert told == [None]


def test_the_choice_is_in_the_report_and_decides_what_is_kept(
    got10k: Path, told: list[str | None], tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "out")]
    for choice in ("auto", "none", "none"):
        assert _run("got10k", got10k, "--split", "val", "--text", choice, *output) == 0
    assert told == [GOT10K, None], "the third run takes what the second one kept"
    assert json.loads((tmp_path / "out" / "report.json").read_text())["about"]["text"] == "none"
    meta = got10k / "val" / "GOT-10k_Val_000001" / "meta_info.ini"
    meta.write_text(meta.read_text().replace("goat", "sheep"))
    assert _run("got10k", got10k, "--split", "val", *output) == 0
    assert told[-1] == GOT10K.replace("goat", "sheep")


def test_training_tells_the_same(got10k: Path, lasot: Path) -> None:
    sources = pytest.importorskip("vt_models.training.data.sources", reason="[train] extra")
    settings = pytest.importorskip("vt_models.training.recipe.settings")
    recipe = settings.Recipe(
        "pjvlt",
        sources=(
            settings.SourceConfig("got10k", split="val"),
            settings.SourceConfig("lasot", split="all"),
        ),
        sampling=settings.SamplingConfig(min_side=1, max_cover=1),
    )
    found = sources.open_sources(recipe, {"got10k": got10k, "lasot": lasot}).sources
    assert [one.tracks[0].targets[0].sentence for one in found] == [GOT10K, LASOT]
