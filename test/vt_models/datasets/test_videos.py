# SPDX-License-Identifier: Apache-2.0
"""Annotated video files: what is read, what is refused by file and line, the cache of frames."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from vt_models.datasets import open_dataset
from vt_models.datasets.frame_cache import CachedVideo, frame_cache_directory
from vt_models.datasets.videos import VideosDataset, read_annotated_videos
from vt_models.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FRAMES, WIDTH, HEIGHT = 12, 64, 48
BOX = [4.0, 5.0, 20.0, 10.0]


def write_video(path: Path, frames: int = FRAMES, first: int = 0) -> None:
    """A video whose frame n is grey with the value 10 * (first + n)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for number in range(first, first + frames):
        writer.write(np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))
    writer.release()


def line(name: str, **changes: Any) -> dict[str, Any]:
    boxes = [None, None, *[BOX] * 4, None, *[BOX] * 4, None]
    track = {"id": 1, "name": "car", "boxes": boxes}
    size = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "fps": 25}
    return {"video": f"videos/{name}.mp4", **size, "source": "test", "tracks": [track], **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes `annotations.jsonl` beside the two videos a and b."""
    for number, name in enumerate("ab"):
        write_video(tmp_path / "videos" / f"{name}.mp4", first=number)

    def write(*lines: dict[str, Any] | str) -> Path:
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        (tmp_path / "annotations.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
        return tmp_path

    return write


def grey(frame: np.ndarray) -> int:
    """The number that a frame shows."""
    return round(float(frame.mean()) / 10)


def test_sequence_begins_and_ends_with_a_box(folder: Callable[..., Path]) -> None:
    (sequence,) = open_dataset("videos", folder(line("a")))
    assert (sequence.name, sequence.category, len(sequence)) == ("a", "car", 9)
    assert np.flatnonzero(np.isnan(sequence.boxes[:, 0])).tolist() == [4]
    assert not sequence.absent.any()  # null does not say that the object is hidden
    assert [grey(sequence.read_frame(index)) for index in range(9)] == list(range(2, 11))


def test_frames_can_be_read_in_any_order_and_after_pickling(folder: Callable[..., Path]) -> None:
    dataset = open_dataset("videos", folder(line("a")))
    sequence = dataset[0]
    assert [grey(sequence.read_frame(index)) for index in (3, 0, 8, 8, -1, 1)] == [
        5,
        2,
        10,
        10,
        10,
        3,
    ]
    copy = pickle.loads(pickle.dumps(sequence))
    assert grey(copy.read_frame(4)) == 6
    assert len(pickle.loads(pickle.dumps(dataset))[0]) == 9


def test_several_tracks_become_sequences_of_their_own(folder: Callable[..., Path]) -> None:
    tracks = [
        {"id": "x", "name": "car", "boxes": [BOX] * FRAMES},
        {"id": 7, "name": "dog", "boxes": [None] * 8 + [BOX] * 4, "sentence": "the dog"},
        {"id": 8, "name": "cat", "boxes": [None] * FRAMES},
    ]
    dataset = open_dataset("videos", folder(line("a", tracks=tracks), line("b")))
    assert dataset.names == ["a.x", "a.7", "b"]
    assert (len(dataset[1]), dataset[1].language) == (4, "the dog")
    assert grey(dataset[1].read_frame(0)) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": "videos/none.mp4"}, "none.mp4 does not exist"),
        ({"video": "../outside.mp4"}, "leads out of the folder"),
        ({"video": 3}, '"video" is 3'),
        ({"width": 0}, '"width" is 0; expected a whole number above 0'),
        ({"frames": 2.5}, '"frames" is 2.5'),
        ({"frames": 5}, "track 1 has 12 boxes for 5 frames"),
        ({"tracks": None}, '"tracks" is None'),
        ({"tracks": [{"id": 1}]}, 'track 0 has no "boxes"'),
        ({"cuts": [0]}, '"cuts" is [0]'),
        ({"cuts": [5]}, "track 1 goes on across the cut at frame 5"),
        ({"tracks": [{"id": 1, "boxes": [[1, 2, 3]] * FRAMES}]}, "frame 0: box [1, 2, 3]"),
        ({"tracks": [{"id": 1, "boxes": [[1, True, 2, 3]] * FRAMES}]}, "frame 0: box [1, True"),
        ({"tracks": [{"id": 1, "boxes": [[1, 2, 0, 3]] * FRAMES}]}, "both sizes above 0"),
        ({"tracks": [{"id": 1, "boxes": [[64, 2, 9, 9]] * FRAMES}]}, "shows nothing of a frame"),
        ({"tracks": [{"id": 1, "boxes": [[1, 2, 1e300, 3]] * FRAMES}]}, "shows nothing"),
        ({"tracks": [{"id": 1, "boxes": [[10**400, 2, 3, 3]] * FRAMES}]}, "cannot be used"),
        ({"tracks": [{"id": "/../x", "boxes": [None] * FRAMES}]}, "track id '/../x'; expected"),
        ({"tracks": [{"id": "1.2", "boxes": [None] * FRAMES}]}, "track id '1.2'; expected"),
        ({"tracks": [{"id": "a" * 65, "boxes": [None] * FRAMES}]}, "1 to 64 letters"),
        ({"video": "annotations.jsonl"}, "is no video file; expected .avi, .m4v"),
        ({"video": f"{'a' * 300}.mp4"}, "File name too long"),
        ({"tracks": [{"id": 1, "boxes": [None] * FRAMES}] * 2}, "two tracks have the id 1"),
    ],
)
def test_wrong_line_is_named_with_file_and_line(
    folder: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    root = folder(line("a"), line("b", **changes))
    with pytest.raises(
        DatasetError, match=re.escape("annotations.jsonl:2: ") + ".*" + re.escape(message)
    ):
        read_annotated_videos(root)


def test_deeply_nested_line_is_named(folder: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match=r"jsonl:2: nested too deeply"):
        read_annotated_videos(folder(line("a"), "[" * 100_000))


def test_long_wrong_value_is_cut(folder: Callable[..., Path]) -> None:
    root = folder(line("a", cuts=[-1] * 100_000))
    with pytest.raises(DatasetError) as found:
        read_annotated_videos(root)
    assert len(str(found.value)) < 500


def test_sequences_of_one_name_are_refused(folder: Callable[..., Path], tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "a.1.mp4")
    tracks = [{"id": number, "boxes": [BOX] * FRAMES} for number in (1, 2)]
    root = folder(line("a", tracks=tracks), line("a.1"))
    with pytest.raises(DatasetError, match=r"jsonl:2: a sequence 'a.1' is at .*jsonl:1 already"):
        VideosDataset(root)


def test_track_of_one_box_is_no_sequence(folder: Callable[..., Path]) -> None:
    tracks = [
        {"id": 1, "boxes": [BOX] + [None] * (FRAMES - 1)},
        {"id": 2, "boxes": [BOX] * FRAMES},
    ]
    dataset = VideosDataset(folder(line("a", tracks=tracks)))
    assert dataset.names == ["a.2"]
    assert dataset.video_names == {"a"}


def test_all_wrong_lines_are_named_at_once(folder: Callable[..., Path]) -> None:
    root = folder("{", line("a"), line("a"), "[]", line("b", width=-1))
    with pytest.raises(DatasetError) as found:
        read_annotated_videos(root)
    lines = str(found.value).splitlines()
    assert [re.search(r"jsonl:(\d+): ", one)[1] for one in lines] == ["1", "3", "4", "5"]


def test_missing_and_empty_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"annotations.jsonl does not exist"):
        VideosDataset(tmp_path)
    (tmp_path / "annotations.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match="is empty"):
        VideosDataset(tmp_path)
    (tmp_path / "annotations.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="cannot be read"):
        VideosDataset(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "size", "count"])
@pytest.mark.parametrize("way", ["sequence", "cache"])
def test_damaged_or_mismatched_video_is_named(
    folder: Callable[..., Path], tmp_path: Path, damage: str, way: str
) -> None:
    path = tmp_path / "videos" / "a.mp4"
    changes: dict[str, Any] = {}
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:600])
    elif damage == "text":
        path.write_text("no video\n" * 100)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "size":
        changes = {"width": WIDTH + 2}
    else:
        write_video(path, FRAMES - 3)
    root = folder(line("a", **changes))
    read = {
        "cache": lambda: CachedVideo(read_annotated_videos(root)[0]),
        "sequence": lambda: open_dataset("videos", root)[0].reader.read(FRAMES),
    }
    with pytest.raises(DatasetError, match=r"annotations.jsonl:1: .*a\.mp4"):
        read[way]()
    assert not list(frame_cache_directory().glob("*")), "nothing is left half written"


def test_cached_frames_are_those_of_the_video(folder: Callable[..., Path]) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    frames = CachedVideo(video)
    assert len(frames) == FRAMES
    assert [grey(frames[number]) for number in (7, 0, 11, -1)] == [7, 0, 11, 11]
    assert [grey(frame) for frame in pickle.loads(pickle.dumps(frames))] == list(range(FRAMES))
    with pytest.raises(IndexError):
        frames[FRAMES]


def test_changed_video_is_decoded_again_and_its_old_frames_are_dropped(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    CachedVideo(video)
    (before,) = frame_cache_directory().iterdir()
    write_video(video.path, first=5)
    os.utime(video.path, ns=(1, 1))
    assert grey(CachedVideo(video)[0]) == 5
    (after,) = frame_cache_directory().iterdir()
    assert after != before


def test_unchanged_video_is_not_decoded_again(folder: Callable[..., Path]) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    CachedVideo(video)
    (file,) = frame_cache_directory().iterdir()
    state = file.stat().st_mtime_ns
    CachedVideo(video)
    assert file.stat().st_mtime_ns == state


@pytest.mark.parametrize("cut", [0, 10, -1, -300])
def test_damaged_cache_is_made_again(folder: Callable[..., Path], cut: int) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    CachedVideo(video)
    (file,) = frame_cache_directory().iterdir()
    file.write_bytes(file.read_bytes()[:cut])
    assert grey(CachedVideo(video)[6]) == 6


def test_cache_that_cannot_be_written_is_an_error_with_a_remedy(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="XDG_CACHE_HOME"):
        CachedVideo(video, tmp_path / "file" / "frames")


def test_linked_videos_are_decoded_by_two_threads_at_once(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Both names lead to one cache file; each thread writes a draft of its own."""
    (tmp_path / "videos" / "c.mp4").symlink_to(tmp_path / "videos" / "a.mp4")
    videos = read_annotated_videos(folder(line("a"), line("c")))
    for _ in range(5):
        for file in frame_cache_directory().glob("*"):
            file.unlink()
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(CachedVideo, videos)
        assert grey(first[3]) == grey(second[3]) == 3


def test_any_number_of_videos_can_be_open(folder: Callable[..., Path]) -> None:
    (video,) = read_annotated_videos(folder(line("a")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = [CachedVideo(video) for _ in range(200)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        assert {grey(one[2]) for one in many} == {2}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _decode(root: Path) -> list[int]:
    return [grey(frame) for frame in CachedVideo(read_annotated_videos(root)[0])]


def test_many_processes_share_the_cache(folder: Callable[..., Path]) -> None:
    root = folder(line("a"))
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_decode, [root] * 8)) == [list(range(FRAMES))] * 8
    assert len(list(frame_cache_directory().iterdir())) == 1


def test_shared_videos_are_complete(shared_dir: Path) -> None:
    videos = read_annotated_videos(shared_dir / "train_videos")
    assert (len(videos), sum(len(video.tracks) for video in videos)) == (309, 365)
