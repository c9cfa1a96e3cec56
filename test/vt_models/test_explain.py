# SPDX-License-Identifier: Apache-2.0
"""Maps over the search region: what they show is what the network used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vt_models import create_miniature, create_tracker, get_spec
from vt_models.cli.main import main
from vt_models.errors import BackendError, InputError
from vt_models.explain import PANEL_SIDE, explain, responses
from vt_models.geometry.boxes import CropWindow
from vt_models.nets.recording import record, recording
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.text import Tokenizer, vocabulary
from vt_models.tracker.tracker import Tracker
from vt_models.video.drawing import GREY, with_heat

BOX = (70.0, 50.0, 24.0, 20.0)
TEXT = "the grey unbelievability"


@pytest.fixture(scope="module")
def frames() -> list[Any]:
    """A bright square that moves over noise, 160x120."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 90, (120, 160, 3), dtype=np.uint8)
    found = []
    for step in range(4):
        frame = noise.copy()
        frame[50 : 50 + 20, 70 + 2 * step : 94 + 2 * step] = (230, 200, 40)
        found.append(frame)
    return found


def tracker_of(name: str, frames: list[Any]) -> Tracker:
    """A tracker of random weights, started."""
    torch.manual_seed(1)
    spec = get_spec(name)
    tokenizer = Tokenizer.from_bytes(vocabulary(), spec.text_length) if spec.language else None
    engine = TorchEngine(create_miniature(name), spec, "cpu")
    tracker = Tracker(spec, engine, tokenizer)
    tracker.init(frames[0], BOX, TEXT if spec.language else None)
    return tracker


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("asymtrack_lite0", ["score", "looks like", "looks like"]),
        (
            "asymtrack_t",
            ["top left", "bottom right", *["stage 2"] * 2, *["stage 3"] * 4, "attention block"],
        ),
        ("stark_st50", ["top left", "bottom right", "decoder layer 1", "decoder layer 2"]),
        ("procontext", ["score", "block 2", "block 3", "block 4"]),
        ("sbt_light", ["score", *(f"correlation block {index}" for index in (2, 4, 6))]),
        ("pjvlt_tiny", ["score", '"the"', '"grey"', '"unbelievability"']),
    ],
)
def test_each_family_shows_its_maps(name: str, titles: list[str], frames: list[Any]) -> None:
    found = explain(tracker_of(name, frames), frames[1], TEXT if name == "pjvlt_tiny" else None)
    assert len(found.panels) == len(titles)
    for panel, title in zip(found.panels, titles, strict=True):
        assert panel.title.startswith(title)
        assert panel.caption.endswith(".")
        assert panel.heat.ndim == 2
        assert 0 <= panel.heat.min() <= panel.heat.max() <= 1
    assert all(one.shape == (PANEL_SIDE, PANEL_SIDE, 3) for one in found.images())
    assert found.sheet().shape[0] >= PANEL_SIDE


@pytest.mark.parametrize("name", ["asymtrack_t", "sbt_light", "procontext", "pjvlt_tiny"])
def test_recording_changes_no_output(name: str, frames: list[Any]) -> None:
    plain, seen = tracker_of(name, frames), tracker_of(name, frames)
    assert explain(seen, frames[1]).estimate == plain.update(frames[1])


def test_the_box_is_in_pixels_of_the_crop_that_was_searched(frames: list[Any]) -> None:
    spec = dataclasses.replace(
        get_spec("asymtrack_lite0"), narrow_search_size=144, narrow_motion=10, narrow_score=0
    )
    torch.manual_seed(1)
    tracker = Tracker(spec, TorchEngine(create_miniature(spec.name), spec, "cpu"))
    tracker.init(frames[0], BOX)
    found = explain(tracker, frames[1])
    search = tracker.last_search
    assert search is not None
    assert found.crop.shape == (144, 144, 3)
    pixels = 144 / search.window.side
    assert found.box[2:] == pytest.approx([side * pixels for side in found.estimate.box[2:]])
    assert found.box[0] == pytest.approx((found.estimate.box[0] - search.window.x1) * pixels)


def test_nothing_is_computed_unless_somebody_records() -> None:
    record("attention", lambda: pytest.fail("computed"))
    with recording() as found:
        record("attention", lambda: torch.ones(2))
    assert found["attention"][0].tolist() == [1, 1]


def test_the_peak_of_the_score_map_is_the_decoder_s_cell(frames: list[Any]) -> None:
    tracker = create_tracker("asymtrack_lite0", threads=1)
    tracker.init(frames[0], BOX)
    tracker.update(frames[1])
    found = tracker.locate(frames[2], BOX, prior=False)  # no window: the highest score itself
    (panel,) = responses(tracker, {})
    search = tracker.last_search
    assert search is not None
    row, column = np.unravel_index(panel.heat.argmax(), panel.heat.shape)
    boxes = search.outputs[1][0]
    x, y, w, h = found.box
    centre = (x + w / 2 - search.window.x1, y + h / 2 - search.window.y1)
    np.testing.assert_allclose(centre, boxes[:2, row, column] * search.window.side, atol=0.01)


def test_with_heat_draws_a_cell_where_the_window_has_it() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[5, 2] = 1.0
    window = CropWindow(-10, 20, 80)
    drawn = with_heat(np.full((120, 160, 3), 100, np.uint8), heat, window)
    rows, columns = np.nonzero((drawn != 100).any(-1) & (drawn != np.array(GREY)).any(-1))
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((75, 15), abs=1)
    assert with_heat(drawn, heat, CropWindow(500, 500, 10)).tolist() == drawn.tolist()


def test_the_box_s_corners_are_the_means_of_the_corner_maps(frames: list[Any]) -> None:
    tracker = tracker_of("asymtrack_t", frames)
    with recording() as records:
        found = tracker.update(frames[1])
    maps = records["corners"][0][0].numpy()
    side, search = maps.shape[-1], tracker.last_search
    assert search is not None
    cells = np.arange(side)
    means = [[(one.sum(axis) * cells).sum() / side for axis in (0, 1)] for one in maps]
    np.testing.assert_allclose(search.outputs[0][0][:2], np.mean(means, axis=0), atol=1e-5)
    assert found.score == pytest.approx(float(search.outputs[1][0]))


def test_dark_cells_are_those_that_procontext_dropped(frames: list[Any]) -> None:
    tracker = tracker_of("procontext", frames)
    found = explain(tracker, frames[1])
    masks = [panel.dropped for panel in found.panels if panel.dropped is not None]
    assert [int((~mask).sum()) for mask in masks] == [404, 283, 199]
    assert not (masks[0] & ~masks[1]).any(), "what is dropped stays dropped"
    heat = found.panels[1].heat  # the first block still sees all: it keeps the most attended
    assert heat[~masks[0]].min() >= heat[masks[0]].max()


def test_words_are_put_together_from_their_pieces() -> None:
    tokenizer = Tokenizer.from_bytes(vocabulary(), 40)
    words = tokenizer.words(TEXT)
    assert [word for word, _ in words] == TEXT.split()
    assert [index for _, indices in words for index in indices] == list(
        range(1, tokenizer(TEXT)[1].sum() - 1)
    )
    assert len(words[-1][1]) > 1


def test_maps_of_corners_and_attention_need_torch(frames: list[Any]) -> None:
    tracker = create_tracker("asymtrack_t", threads=1)
    tracker.init(frames[0], BOX)
    with pytest.raises(InputError, match="nothing was searched"):
        responses(tracker_without_size_calibration(frames), {})
    tracker.update(frames[1])
    with pytest.raises(BackendError, match="--backend torch"):
        responses(tracker, {})
    with pytest.raises(BackendError, match="use backend 'torch'"):
        explain(tracker, frames[1])


def tracker_without_size_calibration(frames: list[Any]) -> Tracker:
    """One that has searched nothing after `init`."""
    return tracker_of("stark_s50", frames)


@pytest.fixture
def folder(tmp_path: Path, frames: list[Any]) -> Path:
    """The frames as images."""
    path = tmp_path / "img"
    path.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(path / f"{index:04d}.png"), frame[..., ::-1])
    return path


def test_explain_writes_pictures_and_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "seen"
    words = ["explain", str(folder), "--box", "70,50,24,20", "--output", str(output), "--json"]
    assert main([*words, "--frame", "2", "--threads", "1"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert len(summary["panels"]) == 3
    assert len(list(output.glob("*.png"))) == 5
    page = (output / "explain.html").read_text()
    assert page.count("<img ") == 5, "the first frame, this one and three maps"
    assert all(panel["caption"].replace("'", "&#39;") in page for panel in summary["panels"])
    assert main([*words, "--frame", "9"]) == 2
    assert "has 4 frames" in capsys.readouterr().err
    assert main([*words, "--text", "a square"]) == 2
    assert "reads no text" in capsys.readouterr().err


def test_explain_refuses_where_it_cannot_write_before_anything_runs(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vt_models.cli.explain.create_tracker", lambda *_, **__: pytest.fail("ran"))
    words = ["explain", str(folder), "--box", "70,50,24,20", "--output"]
    with pytest.raises(SystemExit) as stop:
        main([*words, ""])
    assert stop.value.code == 2
    assert "argument --output: expected a path, got an empty text" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert main([*words, str(tmp_path / "file")]) == 2
    assert "is a file; give a folder to write to" in capsys.readouterr().err
    assert main([*words, str(folder)]) == 2
    assert "is the video; give another folder" in capsys.readouterr().err


def test_cells_outside_the_frame_do_not_set_the_range(frames: list[Any]) -> None:
    """A network has values for padding, too; they would make what can be seen look alike."""
    tracker = tracker_of("sbt_light", frames)
    tracker.move_to((4.0, 4.0, 24.0, 20.0))
    found = explain(tracker, frames[1])
    search = tracker.last_search
    assert search is not None
    assert search.window.x1 < 0 > search.window.y1
    for panel in found.panels[1:]:
        count = panel.values.shape[0]
        outside = int(-search.window.x1 / search.window.side * count - 0.5)
        assert outside > 2
        assert (panel.heat[:, :outside] == 0).all()
        inside = panel.heat[outside + 1 :, outside + 1 :]
        assert (inside.min(), inside.max()) == pytest.approx((0, 1), abs=1e-3)


def test_words_have_one_range(frames: list[Any]) -> None:
    panels = explain(tracker_of("pjvlt_tiny", frames), frames[1], TEXT).panels[1:]
    assert len({(panel.low, panel.high) for panel in panels}) == 1
    assert max(panel.heat.max() for panel in panels) == 1
    assert sum(panel.heat.max() == 1 for panel in panels) == 1


def test_track_show_response_draws_the_map(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [tmp_path / "plain.mp4", tmp_path / "response.mp4"]
    words = ["track", str(folder), "--box", "70,50,24,20", "--threads", "1", "--output"]
    assert main([*words, str(outputs[0])]) == 0
    assert main([*words, str(outputs[1]), "--show-response"]) == 0
    plain, shown = (_frame(path, 3) for path in outputs)
    changed = np.abs(plain.astype(int) - shown).max(-1) > 60
    assert 0.01 < changed.mean() < 0.5, "around the target alone"
    capsys.readouterr()
    assert main([*words, str(tmp_path / "x.csv"), "--show-response"]) == 2
    assert "OUT.mp4" in capsys.readouterr().err
    assert main([*words, str(outputs[0]), "--show-response", "--model", "asymtrack_t"]) == 2
    assert "--backend torch" in capsys.readouterr().err


def _frame(video: Path, index: int) -> Any:
    capture = cv2.VideoCapture(str(video))
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    done, frame = capture.read()
    assert done
    return frame
