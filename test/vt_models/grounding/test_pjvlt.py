# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vt_models import create_miniature, create_tracker, get_spec
from vt_models.errors import InputError, WeightsError
from vt_models.grounding import (
    Grounder,
    GroundingCancelledError,
    GroundingSettings,
    create_grounder,
)
from vt_models.grounding.pjvlt import (
    MOST_WINDOWS,
    PjvltDetector,
    neutral_frame,
    pyramid,
    worth,
)
from vt_models.runtime.engine import Template
from vt_models.tracker.tracker import Estimate, Tracker

if TYPE_CHECKING:
    from pathlib import Path

SIZES = st.integers(1, 2000)


@given(SIZES, SIZES)
def test_windows_cover_the_frame_at_every_size(width: int, height: int) -> None:
    windows = pyramid((height, width))
    assert len(windows) <= MOST_WINDOWS
    assert windows[0][2] > windows[1][2] == max(width, height)
    for side in {window[2] for window in windows}:
        for length, axis in ((width, 0), (height, 1)):
            starts = sorted({window[axis] for window in windows if window[2] == side})
            assert starts[0] <= 0.0 + 1e-6
            assert starts[-1] + side >= length - 1e-6
            steps = np.diff(starts)
            assert (steps <= 0.65 * side + 1e-6).all(), "a target could fall between two windows"


def test_an_ordinary_frame_is_searched_in_several_sizes() -> None:
    sides = sorted({round(window[2]) for window in pyramid((480, 640))}, reverse=True)
    assert sides == [1024, 640, 400, 250, 156]


def test_a_box_that_its_window_cuts_is_worth_less() -> None:
    """Where the window ends inside the frame; where the frame ends nothing can be seen whole."""
    frame, window = (480, 640), (0.0, 100.0, 200.0, 200.0)
    whole = worth((50.0, 150.0, 60.0, 60.0), window, frame)

    assert worth((1.0, 150.0, 60.0, 60.0), window, frame) == whole
    for box in ((50.0, 105.0, 60.0, 60.0), (145.0, 150.0, 60.0, 60.0), (50.0, 250.0, 60.0, 60.0)):
        assert worth(box, window, frame) < 0.5 * whole


def test_a_smaller_window_counts_less() -> None:
    frame, box = (480, 640), (300.0, 200.0, 20.0, 20.0)
    sizes = [1024.0, 640.0, 250.0]

    values = [worth(box, (310.0 - s / 2, 210.0 - s / 2, s, s), frame) for s in sizes]

    assert 1.0 >= values[0] > values[1] > values[2] > 0.3


class BrightEngine:
    """A network that finds the brightest cell of its crop, and remembers what it was shown."""

    def __init__(self) -> None:
        self.templates: list[Any] = []
        self.texts: list[Any] = []

    def set_template(self, template: Template) -> None:
        self.templates.append(template.crops[0].copy())

    def set_text(self, ids: Any, mask: Any) -> None:
        self.texts.append((ids.copy(), mask.copy()))

    def search(self, crop: Any, _mask: Any = None) -> tuple[Any, ...]:
        scores = crop.reshape(16, 16, 16, 16, 3).mean((1, 3, 4)).astype(np.float32) / 255.0
        centres = (np.arange(16, dtype=np.float32) + 0.5) / 16
        boxes = np.empty((4, 16, 16), np.float32)
        boxes[0], boxes[1] = centres[None], centres[:, None]
        boxes[2:] = 0.125
        return scores[None], boxes[None]


def bright_detector() -> tuple[PjvltDetector, BrightEngine]:
    spec, engine = get_spec("pjvlt_tiny"), BrightEngine()

    def words(text: str) -> Any:
        ids = np.zeros(spec.text_length, np.int64)
        ids[: len(text)] = [ord(letter) for letter in text]
        return ids, ids > 0

    return PjvltDetector(Tracker(spec, engine, words)), engine


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (200, 200)])
def test_pjvlt_detector_finds_a_bright_spot(width: int, height: int) -> None:
    detector, engine = bright_detector()
    frame = np.full((height, width, 3), 60, np.uint8)
    x, y = width // 5, 3 * height // 5
    frame[y : y + 40, x : x + 40] = 255
    settings = GroundingSettings(threshold=0.3, ambiguity_margin=0.0)
    grounding = Grounder(detector, settings).find(frame, "lamp")
    assert grounding.chosen is not None
    bx, by, bw, bh = grounding.chosen.box
    assert x - 5 <= bx + bw / 2 <= x + 45
    assert y - 5 <= by + bh / 2 <= y + 45
    assert engine.texts[-1][0][:4].tolist() == [ord(letter) for letter in "lamp"]


def test_the_template_shows_the_mean_colour_and_nothing_else() -> None:
    detector, engine = bright_detector()
    Grounder(detector).find(np.zeros((100, 100, 3), np.uint8), "lamp")
    colour = np.rint(255 * np.array(get_spec("pjvlt_tiny").mean))
    assert (engine.templates[0] == colour).all()
    for name in ("pjvlt", "pjvlt_tiny"):
        spec = get_spec(name)
        normalised = (neutral_frame(spec)[0, 0] / 255.0 - spec.mean) / spec.std
        assert np.abs(normalised).max() < 0.01


def test_the_search_ends_when_it_is_cancelled() -> None:
    detector, _ = bright_detector()
    looks = iter([False] * 4 + [True] * 100)
    with pytest.raises(GroundingCancelledError):
        Grounder(detector).find(np.zeros((480, 640, 3), np.uint8), "lamp", lambda: next(looks))


def test_a_model_without_language_is_refused() -> None:
    tracker = Tracker(get_spec("asymtrack_t"), BrightEngine())
    with pytest.raises(InputError, match="asymtrack_t takes no text; one of pjvlt, pjvlt_tiny"):
        PjvltDetector(tracker)


def test_without_weights_it_says_what_trains_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path
) -> None:
    monkeypatch.setenv("VT_MODELS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("vt_models.runtime.installed_weights.bundled_directory", lambda spec: None)
    with pytest.raises(WeightsError, match="vt-models train") as caught:
        create_grounder("pjvlt")
    recipe = str(caught.value).split("vt-models train ")[1].split("`")[0]
    assert (repository / recipe).is_file()
    with pytest.raises(WeightsError, match="no weights are bundled for pjvlt_tiny"):
        create_grounder("pjvlt", "pjvlt_tiny")
    with pytest.raises(WeightsError, match="no export directory and names no model"):
        create_grounder("pjvlt", tmp_path / "nothing")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export directory of the miniature of pjvlt_tiny, with random weights."""
    torch = pytest.importorskip("torch")
    from vt_models.export.exporter import export_model  # noqa: PLC0415 - needs torch

    torch.manual_seed(0)
    spec = get_spec("pjvlt_tiny")
    folder = tmp_path_factory.mktemp("weights") / spec.name
    return export_model(create_miniature(spec.name), spec, folder, storage="float32")


@pytest.mark.train
def test_a_real_network_is_run_over_the_pyramid(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs of the miniature: candidates are what the tracker says of each window."""
    frame = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    settings = GroundingSettings(threshold=0.0, ambiguity_margin=0.0, max_candidates=100)
    grounding = create_grounder("pjvlt", exported, settings=settings).find(frame, "a car")
    assert grounding.backend == "pjvlt"

    tracker = create_tracker("pjvlt_tiny", exported)
    blank = neutral_frame(tracker.spec)
    side = blank.shape[0]
    tracker.init(blank, (side / 4, side / 4, side / 2, side / 2), "a car")
    best = Estimate((0.0, 0.0, 1.0, 1.0), 0.0)
    for x, y, w, h in pyramid(frame.shape):
        part = w / tracker.spec.search_factor
        around = (x + (w - part) / 2, y + (h - part) / 2, part, part)
        estimate = tracker.locate(frame, around, prior=False)
        score = estimate.score * worth(estimate.box, (x, y, w, h), frame.shape)
        best = max(best, Estimate(estimate.box, score), key=lambda item: item.score)
    assert grounding.chosen is not None
    assert grounding.chosen.score == pytest.approx(best.score, abs=1e-6)
    assert grounding.chosen.box == pytest.approx(best.box, abs=1e-3)

    monkeypatch.setenv("VT_MODELS_WEIGHTS", str(exported.parent))
    assert create_grounder("pjvlt", settings=settings).find(frame, "a car").chosen
    assert create_grounder("pjvlt", "pjvlt_tiny").name == "pjvlt"
    assert create_grounder("pjvlt", f"pjvlt_tiny:{exported}").name == "pjvlt"
