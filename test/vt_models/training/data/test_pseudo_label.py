# SPDX-License-Identifier: Apache-2.0
"""Labels from a teacher: kept where it comes back, written as an image pack."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from vt_models.cli.main import main
from vt_models.errors import InputError
from vt_models.tracker.tracker import Estimate
from vt_models.training.data.pseudo_label import (
    InsideFrame,
    PseudoSettings,
    cut_clips,
    find_videos,
    follow,
    propose,
    write_pseudo_pack,
)
from vt_models.training.data.targets import load_image_pack
from vt_models.video.sources import open_recorded


class Shifting:
    """A teacher that moves its box by a fixed step a frame, whatever it sees."""

    def __init__(self, step: float, score: float = 0.9) -> None:
        self.step, self.score = step, score

    def init(self, _frame, box):
        self.box = box

    def update(self, _frame):
        x, y, w, h = self.box
        self.box = (x + self.step, y, w, h)
        return Estimate(self.box, self.score)


class Marked(Shifting):
    """A teacher that follows a red mark, which `_frames` moves."""

    def init(self, frame, box):
        self.box, self.mark = box, self._find(frame)

    def update(self, frame):
        moved = self._find(frame) - self.mark
        x, y, w, h = self.box
        return Estimate((x + moved[0], y + moved[1], w, h), self.score)

    def _find(self, frame):
        return np.argwhere(frame[..., 0] == 255).mean(axis=0)[::-1]


def _frames(count: int, step: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 200, (12, 20, 3), dtype=np.uint8), (160, 96))
    frames = []
    for number in range(count):
        frame = np.minimum(np.roll(scene, step * number, axis=1), 200)
        frame[40:50, 20 + step * number : 30 + step * number] = (255, 0, 0)
        frames.append(frame)
    return frames


def _write_video(folder: Path, frames: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), image)


class Leaving(Marked):
    """A teacher that follows the mark until `end` frames after its start, and then lets it go."""

    def __init__(self, end: int) -> None:
        super().__init__(0)
        self.end = end

    def init(self, frame, box):
        super().init(frame, box)
        self.seen = 0

    def update(self, frame):
        self.seen += 1
        x, y, w, h = super().update(frame).box
        return Estimate((x, y if self.seen < self.end else y + 50, w, h), self.score)


BOX = (20.0, 40.0, 10.0, 10.0)


def test_follow_drifting_teacher_gives_none() -> None:
    frames = _frames(6)
    assert follow(Shifting(2.0), frames, BOX, PseudoSettings()) is None
    found = follow(Marked(0), frames, BOX, PseudoSettings())
    assert found.closure == pytest.approx(1)
    assert found.score == pytest.approx(0.9)
    assert [round(b[0]) for b in found.boxes] == [20, 23, 26, 29, 32, 35]


def test_follow_keeps_the_clip_as_far_as_there_is_a_way_back() -> None:
    frames = _frames(24)
    found = follow(Leaving(15), frames, BOX, PseudoSettings())
    assert [round(b[0]) for b in found.boxes] == [20 + 3 * n for n in range(12)]
    assert follow(Leaving(3), frames, BOX, PseudoSettings()) is None, "less than 6 frames"


def test_propose_regions_are_textured_apart_and_some_move() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((96, 160, 3), 90, np.uint8)] * 2
    assert propose(flat, 4, rng) == []
    noise = rng.integers(0, 255, (96, 80, 3), dtype=np.uint8)
    first, last = (np.full((96, 160, 3), 90, np.uint8) for _ in range(2))
    first[:, :80] = last[:, :80] = noise
    last[:, 60:80] = 255 - noise[:, 60:80]
    regions = propose([first, last], 4, rng)
    assert 2 <= len(regions) <= 4
    x, _, w, _ = regions[0]
    assert x < 80
    assert x + w > 60, "the first one holds what changed"
    for x, y, w, h in regions:
        assert min(x, y) >= 0
        assert x + w <= 160
        assert y + h <= 96


def test_cut_clips_are_spread_over_the_video(tmp_path: Path) -> None:
    _write_video(tmp_path / "v", _frames(24))
    source = open_recorded(tmp_path / "v")
    settings = PseudoSettings(clips=2, length=6, stride=2, max_side=80)
    clips = list(cut_clips(source, settings))
    assert [[number for number, _ in clip] for clip in clips] == [
        [0, 2, 4, 6, 8, 10],
        [12, 14, 16, 18, 20, 22],
    ]
    assert clips[0][0][1].shape == (48, 80, 3)
    few = list(cut_clips(source, PseudoSettings(clips=2, length=10, stride=1)))
    assert [len(clip) for clip in few] == [10, 10], "the rest between"


def test_write_pseudo_pack_holds_consistent_regions(tmp_path: Path) -> None:
    _write_video(tmp_path / "videos" / "one" / "img", _frames(12))
    _write_video(tmp_path / "videos" / "two", _frames(12))
    (tmp_path / "videos" / "notes.txt").write_text("nothing")
    videos = find_videos(tmp_path / "videos")
    assert [name for name, _ in videos] == ["one", "two"]
    settings = PseudoSettings(clips=2, length=6, regions=3)
    tally = write_pseudo_pack(Marked(0), videos, tmp_path / "pack", settings)
    assert (tally.videos, tally.clips, tally.frames) == (2, 4, 24)
    assert tally.kept == tally.regions > 0
    pack = load_image_pack(tmp_path / "pack", min_side=1)
    assert len(pack.images) == 24
    assert len(pack.tracks) == tally.kept
    assert {track.key.split("/")[0] for track in pack.tracks} == {"one", "two"}
    frames = sorted({frames for track in pack.tracks for frames in [tuple(track.frames)]})
    assert frames == [tuple(range(6)), tuple(range(6, 12))]
    track = pack.tracks[0]
    assert track.targets[5].box[0] - track.targets[0].box[0] == pytest.approx(15)
    with pytest.raises(InputError, match="exists already"):
        write_pseudo_pack(Marked(0), videos, tmp_path / "pack", settings)
    again = tmp_path / "again"
    write_pseudo_pack(Marked(0), videos, again, settings)
    texts = [(folder / "annotations.jsonl").read_text() for folder in (tmp_path / "pack", again)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("teacher", "words"),
    [(Shifting(5.0), "none of .* regions came back"), (Marked(0, 0.1), "mean score of 0.4")],
)
def test_write_pseudo_pack_leaves_out_drifted_regions(
    tmp_path: Path, teacher: Shifting, words: str
) -> None:
    _write_video(tmp_path / "videos" / "one", _frames(8))
    videos = find_videos(tmp_path / "videos")
    with pytest.raises(InputError, match=words):
        write_pseudo_pack(teacher, videos, tmp_path / "pack", PseudoSettings(clips=1, length=8))
    assert not (tmp_path / "pack" / "annotations.jsonl").exists()


def test_pseudo_label_impossible_settings_and_folders_are_refused(tmp_path: Path) -> None:
    for wrong in ({"clips": 0}, {"length": 1}, {"threshold": 1.5}, {"max_side": 10}, {"stride": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            PseudoSettings(**wrong)
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no video in it"):
        find_videos(tmp_path)
    (tmp_path / "a.mp4").touch()
    _write_video(tmp_path / "a", _frames(2))
    with pytest.raises(InputError, match="two videos called a"):
        find_videos(tmp_path)


@pytest.mark.integration
def test_pseudo_label_command_default_model_labels_real_clips(
    tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("davis_car-roundabout", "otb_Crossing"):
        images = sorted((shared_dir / "sequences" / name / "img").iterdir())[:10]
        folder = tmp_path / "videos" / name / "img"
        folder.mkdir(parents=True)
        for image in images:
            shutil.copy(image, folder)
    words = ["pseudo-label", "--videos", str(tmp_path / "videos"), "--clips", "1", "--json"]
    words += ["--length", "10", "--regions", "5", "--output", str(tmp_path / "pack")]
    assert main(words) == 0
    tally = json.loads(capsys.readouterr().out)
    assert (tally["videos"], tally["clips"]) == (2, 2)
    assert 1 <= tally["kept"] <= tally["regions"] <= 10
    pack = load_image_pack(tmp_path / "pack", min_side=1)
    assert len(pack.images) == tally["frames"]
    assert all(max(image.shape) <= 384 for image in pack.images)
    for track in pack.tracks:
        assert 6 <= len(track.targets) <= 10


def test_pseudo_label_command_baseline_labels_a_video(
    tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shared_dir / "peers"
    if not (weights / "nanotrack_v3_head.onnx").is_file():
        pytest.skip(f"no NanoTrack v3 in {weights}")
    rng = np.random.default_rng(4)
    scene = cv2.resize(rng.integers(0, 255, (30, 60, 3), dtype=np.uint8), (480, 240))
    pan = [np.ascontiguousarray(scene[:, 3 * step : 3 * step + 360]) for step in range(8)]
    _write_video(tmp_path / "videos" / "pan", pan)
    words = ["pseudo-label", "--videos", str(tmp_path / "videos"), "--clips", "1", "--json"]
    words += ["--teacher", "nanotrack_v3", "--weights", str(weights), "--length", "8"]
    assert main([*words, "--output", str(tmp_path / "pack")]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] >= 1
    for track in load_image_pack(tmp_path / "pack", min_side=1).tracks:
        boxes = np.array([target.box for target in track.targets])
        # The camera moves by 3 pixels a frame: so does, the other way, all that is seen.
        moved = boxes[-1, :2] + boxes[-1, 2:] / 2 - boxes[0, :2] - boxes[0, 2:] / 2
        assert moved == pytest.approx([-3 * (len(boxes) - 1), 0], abs=8)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= [360.01, 240.01]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher", "nowhere"], "no teacher called 'nowhere'; models: .*nanotrack_v3"),
        (["--teacher", "nanotrack_v3"], "nanotrack_v3_head.onnx: give their folder with --weights"),
        (["--teacher", "kcf", "--device", "cuda"], "kcf runs as published, on the CPU: leave out"),
        (["--teacher", "kcf", "--backend", "torch"], "kcf runs as published, on the CPU"),
        (["--teacher", "vit", "--weights", "nowhere"], "baseline vit: nowhere/vittrack.onnx does"),
    ],
)
def test_pseudo_label_impossible_teachers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    _write_video(tmp_path / "videos" / "a", _frames(6))
    words = ["pseudo-label", "--videos", str(tmp_path / "videos"), "--output", str(tmp_path)]
    assert main([*words, *options]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_inside_frame_boxes_end_where_the_frame_does() -> None:
    frame = _frames(1)[0]
    width = frame.shape[1]
    tracker = InsideFrame(Shifting(30))
    tracker.init(frame, (width - 70.0, -5.0, 30.0, 20.0))
    assert tracker.update(frame) == Estimate((width - 40.0, 0.0, 30.0, 15.0), 0.9)
    assert tracker.update(frame) == Estimate((width - 10.0, 0.0, 10.0, 15.0), 0.9)
    assert tracker.update(frame) == Estimate((width - 2.0, 0.0, 2.0, 15.0), 0.9)
