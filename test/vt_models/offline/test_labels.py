# SPDX-License-Identifier: Apache-2.0
"""Labels of tracked bags: image packs, sequences, and what is refused. No network runs here."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the extra bags is not installed")

from vt_models.cli.main import main
from vt_models.datasets.folder import FolderDataset
from vt_models.datasets.image_pack import read_image_pack
from vt_models.video.bags.messages import DETECTIONS, STATUS, Messages
from vt_models.video.image_messages import MessageHeader

IMAGE = "sensor_msgs/msg/Image"
TRACKING, COASTING = 1, 3
# By image: state, confidence and box of the target; None: no detection.
TRACK = [
    (TRACKING, 1.0, (10.0, 8.0, 12.0, 12.0)),
    (TRACKING, 0.9, (12.0, 8.0, 12.0, 12.0)),
    (TRACKING, 0.3, (14.0, 8.0, 12.0, 12.0)),
    (COASTING, 0.9, (16.0, 8.0, 12.0, 12.0)),
    None,
    (TRACKING, 0.95, (56.0, 8.0, 12.0, 12.0)),
    None,
]


@pytest.fixture(scope="module")
def messages():
    return Messages()


@pytest.fixture(autouse=True)
def _types_of_the_tracker(bags, messages, monkeypatch):
    monkeypatch.setattr(bags, "store", messages.types)


def detections(messages, track):
    found = []
    for number, one in enumerate(track):
        sec, tenth = divmod(number, 10)
        header = MessageHeader(100 + sec, tenth * 100_000_000, "optical")
        state, score, box = one or (0, 0.0, None)
        found.append(messages.detections(header, state, score, box, None, 1))
    return found


@pytest.fixture
def recorded(bags, messages, tmp_path):
    """A bag of 7 images 64 x 48 with the detections of one target."""
    images = [bags.raw(number, np.full((48, 64, 3), 30 * number, np.uint8)) for number in range(7)]
    topics = {
        "/camera/image_raw": (IMAGE, images),
        "/car/detections": (DETECTIONS, detections(messages, TRACK)),
        "/car/status": (STATUS, []),
    }
    return bags.write(tmp_path / "flight", topics)


def dataset(*words):
    return main(["dataset", *map(str, words)])


def test_pack_has_the_measured_boxes_alone(recorded, tmp_path, capsys):
    out = tmp_path / "pack"
    assert dataset(recorded, "--output", out, "--object-class", "car") == 0
    assert "3 images with 3 boxes in 1 sequences" in capsys.readouterr().out
    images = read_image_pack(out)
    assert [image.frame for image in images] == [0, 1, 5]
    assert {(image.source, image.clip) for image in images} == {("flight", "flight")}
    assert [image.objects[0].box for image in images] == [
        (10.0, 8.0, 12.0, 12.0),
        (12.0, 8.0, 12.0, 12.0),
        (56.0, 8.0, 8.0, 12.0),  # what lies in the image
    ]
    assert {image.objects[0].name for image in images} == {"car"}
    for image in images:
        pixels = cv2.imread(str(out / image.image))
        assert pixels.shape == (48, 64, 3)
        assert abs(float(pixels.mean()) - 30 * image.frame) < 2


def test_confidence_and_stride_choose(recorded, tmp_path):
    assert dataset(recorded, "--output", tmp_path / "a", "--score", "0.2", "--stride", "2") == 0
    assert [image.frame for image in read_image_pack(tmp_path / "a")] == [0, 2]


def test_crops_are_cut_round_the_target_and_scaled(recorded, tmp_path):
    out = tmp_path / "pack"
    assert dataset(recorded, "--output", out, "--crop", "3", "--max-side", "32") == 0
    first, *_, last = read_image_pack(out)
    assert (first.clip, first.width, first.height) == ("flight_car", 32, 30)
    # 36 x 36 pixels round (16, 14), of which (0, 0) to (34, 32) are there; 34 become 32.
    x, y, w, h = first.objects[0].box
    assert (x, y, w, h) == pytest.approx((9.41, 7.53, 11.29, 11.29), abs=0.02)
    assert last.width < 32
    assert cv2.imread(str(out / last.image)).shape[:2] == (last.height, last.width)


def test_sequences_go_from_the_first_label_to_the_last(recorded, tmp_path, capsys):
    out = tmp_path / "sequences"
    assert dataset(recorded, "--output", out, "--format", "folder", "--json") == 0
    tally = json.loads(capsys.readouterr().out)
    assert (tally["images"], tally["boxes"], tally["sequences"]) == (6, 3, 1)
    (sequence,) = FolderDataset(out)
    assert (sequence.name, len(sequence.frames)) == ("flight_car", 6)
    assert np.isnan(sequence.boxes[2:5]).all()
    assert sequence.boxes[[0, 1]].tolist() == [[10.0, 8.0, 12.0, 12.0], [12.0, 8.0, 12.0, 12.0]]


def test_labels_may_be_in_a_bag_of_their_own(bags, messages, recorded, tmp_path):
    alone = bags.write(
        tmp_path / "labels", {"/van/detections": (DETECTIONS, detections(messages, TRACK))}
    )
    out = tmp_path / "pack"
    assert dataset(recorded, "--labels", alone, "--output", out) == 0
    assert len(read_image_pack(out)) == 3
    again = tmp_path / "again"
    assert dataset(recorded, "--labels", alone, "--names", "car", "--output", again) == 2
    assert not again.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--names", "bus"], "has no target bus; its tracked targets: car"),
        (["--score", "2"], "--score is 2.0; expected 0 to 1"),
        (["--stride", "0"], "--stride is 0; expected 1 or more"),
        (["--crop", "0.5"], "--crop is 0.5; expected 1 to 100"),
        (["--max-side", "3"], "--max-side is 3; expected 32 pixels or more"),
        (["--format", "folder", "--crop", "3"], "--crop and --stride are for --format pack"),
        (["--topic", "/b"], "has no topic /b"),
        (["--labels", "/nowhere.mcap"], "--labels /nowhere.mcap does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    recorded, tmp_path, capsys, words, said
):
    out = tmp_path / "out"
    assert dataset(recorded, "--output", out, *words) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_folder_that_has_something_in_it_is_kept(recorded, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert dataset(recorded, "--output", tmp_path / "out") == 2
    assert "is there already; give a new folder" in capsys.readouterr().err
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_bag_without_labels_says_what_it_has(bags, messages, tmp_path, capsys):
    source = bags.of_frames(tmp_path / "plain", [np.zeros((12, 16, 3), np.uint8)])
    assert dataset(source, "--output", tmp_path / "out") == 2
    assert "has no topic that ends in /detections" in capsys.readouterr().err
    unsure = bags.write(
        tmp_path / "unsure", {"/a/detections": (DETECTIONS, detections(messages, TRACK[2:5]))}
    )
    assert dataset(source, "--labels", unsure, "--output", tmp_path / "out") == 2
    assert "no target was measured with a confidence of 0.8 or more" in capsys.readouterr().err


def test_bag_is_called_by_its_folder(recorded, tmp_path, monkeypatch):
    """Also where that is the folder one is in, or has dots in it, as `ros2 bag record` makes it."""
    runs = [recorded.rename(tmp_path / "run.1"), tmp_path / "run.2"]
    shutil.copytree(*runs)
    assert dataset(*runs, "--output", tmp_path / "out") == 0
    assert {one.name for one in (tmp_path / "out").iterdir() if one.is_dir()} == {"run.1", "run.2"}
    monkeypatch.chdir(runs[0])
    assert dataset(".", "--output", "../here", "--format", "folder") == 0
    assert [one.name for one in FolderDataset(tmp_path / "here")] == ["run.1_car"]


def test_image_of_another_camera_with_the_same_stamp_has_no_label(bags, messages, tmp_path, capsys):
    frame = np.zeros((48, 64, 3), np.uint8)
    images = {}
    for side in ("optical", "right"):
        message = bags.store.deserialize_cdr(bags.raw(0, frame), IMAGE)
        message.header.frame_id = side
        data = bytes(bags.store.serialize_cdr(message, IMAGE))
        images[f"/{side}/image"] = (IMAGE, [data])
    topics = {**images, "/car/detections": (DETECTIONS, detections(messages, TRACK[:1]))}
    source = bags.write(tmp_path / "stereo", topics)
    assert dataset(source, "--topic", "/right/image", "--output", tmp_path / "wrong") == 2
    assert "belongs, by stamp and frame_id" in capsys.readouterr().err
    assert dataset(source, "--topic", "/optical/image", "--output", tmp_path / "out") == 0


def test_two_nodes_of_one_name_are_two_targets(bags, messages, tmp_path, capsys):
    images = [bags.raw(0, np.zeros((48, 64, 3), np.uint8))]
    other = [(TRACKING, 1.0, (30.0, 20.0, 12.0, 12.0))]
    topics = {
        "/image": (IMAGE, images),
        "/a/tracker/detections": (DETECTIONS, detections(messages, TRACK[:1])),
        "/b/tracker/detections": (DETECTIONS, detections(messages, other)),
    }
    source = bags.write(tmp_path / "two", topics)
    assert dataset(source, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("1 images with 2 boxes")
    named = tmp_path / "named"
    assert dataset(source, "--names", "b__tracker", "--output", named, "--format", "folder") == 0
    (sequence,) = FolderDataset(named)
    assert sequence.boxes.tolist() == [[30.0, 20.0, 12.0, 12.0]]


def test_name_of_a_stranger_s_topic_leaves_the_folder_never(bags, messages, tmp_path):
    images = [bags.raw(0, np.zeros((48, 64, 3), np.uint8))]
    topics = {
        "/image": (IMAGE, images),
        "/../detections": (DETECTIONS, detections(messages, TRACK[:1])),
    }
    source = bags.write(tmp_path / "odd", topics)
    before = {one.name for one in tmp_path.iterdir()}
    assert dataset(source, "--output", tmp_path / "out", "--crop", "3") == 0
    assert {one.name for one in tmp_path.iterdir()} == {*before, "out"}
    (image,) = read_image_pack(tmp_path / "out")
    assert (tmp_path / "out" / image.image).resolve().is_relative_to(tmp_path / "out")
