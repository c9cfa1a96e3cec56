# SPDX-License-Identifier: Apache-2.0
"""Each dataset in its published layout: names, boxes, flags, frames, text."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vt_models.datasets import DATASETS, open_dataset
from vt_models.datasets.images import read_mask
from vt_models.errors import DatasetError

NAN = [None] * 4


def boxes_of(sequence):
    return [NAN if np.isnan(box).all() else box.tolist() for box in sequence.boxes]


def steps(*absent):
    """The box that most miniatures have: one pixel to the right in each of four frames."""
    return [NAN if i in absent else [i + 1.0, 2.0, 3.0, 4.0] for i in range(4)]


def numbers_of(sequence):
    """What the images say of their position in the folder."""
    frames = [sequence.read_frame(index) for index in range(len(sequence))]
    return [round(frame[..., 0].mean() / 10) for frame in frames]


@pytest.mark.parametrize("kind", sorted(DATASETS))
def test_every_kind_reads_its_miniature(build, kind):
    tree = build(kind)
    dataset = open_dataset(kind, tree.root)
    assert len(dataset) == len(dataset.names) == len(set(dataset.names)) > 0
    for sequence in dataset[:3]:
        assert len(sequence) == len(sequence.frames) >= 4
        assert sequence.boxes.shape == (len(sequence), 4)
        assert sequence.boxes.dtype == np.float64
        assert np.isfinite(sequence.boxes[0]).all()
        assert sequence.absent.dtype == sequence.occluded.dtype == np.bool_
        assert np.isnan(sequence.boxes[sequence.absent]).all()
        assert sequence.read_frame(len(sequence) - 1).shape == (24, 32, 3)
        with pytest.raises(ValueError, match="read-only"):
            sequence.boxes[0] = 0


def test_lasot_reads_boxes_flags_and_text(build):
    sequence = open_dataset("lasot", build("lasot").root)[0]
    assert sequence.name == "cat-2"
    assert boxes_of(sequence) == steps(1, 2)
    assert sequence.absent.tolist() == [False, True, True, False]
    assert sequence.occluded.tolist() == [False, True, False, False]
    assert (sequence.language, sequence.category) == ("a cat on a wall", "cat")
    assert numbers_of(sequence) == [0, 1, 2, 3]
    found = ("partial occlusion", "rotation", "scale variation", "low resolution")
    assert sequence.attributes == found
    assert open_dataset("lasot", build("lasot").root, split="train")[0].attributes == ()


def test_lasot_splits_come_from_its_lists(build):
    tree = build("lasot")
    assert open_dataset("lasot", tree.root).names == ["cat-2"]
    assert open_dataset("lasot", tree.root, split="train").names == ["cat-10"]
    assert open_dataset("lasot", tree.root, split="all").names == ["cat-2", "cat-10"]
    assert open_dataset("lasot_ext", tree.root).names == ["cat-2", "cat-10"]
    lists = tree.root / "sequence_evaluation_config"
    lists.mkdir()
    (tree.root / "testing_set.txt").rename(lists / "testing_set.txt")
    assert open_dataset("lasot", tree.root, split="test").names == ["cat-2"]
    (lists / "testing_set.txt").unlink()
    assert open_dataset("lasot", tree.root).names == ["cat-2", "cat-10"]
    with pytest.raises(DatasetError, match=r"testing_set\.txt: no such file; put"):
        open_dataset("lasot", tree.root, split="test")


def test_got10k_reads_flags_and_hides_the_truth_of_the_test(build):
    tree = build("got10k")
    sequence = open_dataset("got10k", tree.root)[0]
    assert boxes_of(sequence) == [[1.5, 2.0, 3.0, 4.0], NAN, NAN, [4.0, 2.0, 3.0, 4.0]]
    assert sequence.absent.tolist() == [False, True, True, False]
    assert sequence.occluded.tolist() == [False, False, True, True]
    assert sequence.labels["visible"].tolist() == [1.0, 1.0, 0.0, 0.5]
    assert sequence.labels["cut_by_image"].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert sequence.category == "goat"
    test = open_dataset("got10k", tree.root, split="test")[0]
    assert boxes_of(test) == [[1.5, 2.0, 3.0, 4.0], NAN, NAN, NAN]
    assert (test.is_annotated, sequence.is_annotated) == (False, True)
    assert not test.absent.any()
    assert open_dataset("got10k", tree.root / "val").names == ["GOT-10k_Val_000001"]


def test_trackingnet_reads_folders_and_archives(build):
    tree = build("trackingnet")
    test = open_dataset("trackingnet", tree.root)[0]
    assert (test.name, len(test), test.is_annotated) == ("abc_0", 4, False)
    train = open_dataset("trackingnet", tree.root, split="train")
    assert train.names == ["def_0", "ghi_1"]
    assert boxes_of(train[0]) == steps()
    assert numbers_of(train[0]) == [0, 1, 2, 3]
    assert numbers_of(train[1]) == list(range(12))
    assert open_dataset("trackingnet", tree.root, split="train_10").names == ["ghi_1"]


def test_tnl2k_sorts_frames_by_their_numbers(build):
    tree = build("tnl2k")
    sequence = open_dataset("tnl2k", tree.root, split="test")[0]
    assert [path.name for path in sequence.frames][1:3] == ["shot_9.png", "shot_10.png"]
    assert numbers_of(sequence) == [0, 1, 2, 3]
    assert boxes_of(sequence) == steps(2)
    assert sequence.language == "the ant that carries a leaf"
    assert open_dataset("tnl2k", tree.root, split="train").names == ["Bee_video_01"]
    assert open_dataset("tnl2k", tree.root).names == ["Ant_video_01", "Bee_video_01"]


def test_otb_reads_its_separators_targets_and_ranges(build):
    dataset = open_dataset("otb", build("otb").root)
    expected = ["Couple", "David", "Football1", "Human4-2", "Jogging-1", "Jogging-2"]
    assert dataset.names == expected
    sequences = dict(zip(expected, dataset, strict=True))
    assert boxes_of(sequences["Couple"]) == steps()
    assert sequences["Jogging-1"].boxes[0, 0] == 1
    assert sequences["Jogging-2"].boxes[0, 0] == 9
    david = sequences["David"].frames
    assert (david[0].name, david[-1].name) == ("0300.jpg", "0770.jpg")
    assert len(sequences["Football1"]) == 74
    assert sequences["David"].attributes == ("illumination variation", "scale variation")
    assert sequences["Jogging-1"].attributes == ("occlusion", "low resolution")
    assert sequences["Couple"].attributes == ()


@pytest.mark.parametrize(
    ("kind", "file"), [("otb", "anno/att/david.txt"), ("lasot", "annos/att/cat-2.txt")]
)
def test_attributes_of_another_number_are_refused(build, kind, file):
    tree = build(kind)
    tree.text(file, "1,0,2")
    name = "David" if kind == "otb" else "cat-2"
    with pytest.raises(DatasetError, match=rf"{Path(file).name}:1: '1,0,2'; expected 1\d flags"):
        open_dataset(kind, tree.root, [name])[0]


def test_tc128_takes_the_range_of_frames_and_the_new_ones(build):
    tree = build("tc128")
    ball, bolt = open_dataset("tc128", tree.root)
    assert (ball.name, bolt.name) == ("Ball_ce", "Bolt")
    assert [path.name for path in ball.frames] == [f"000{number}.jpg" for number in range(3, 7)]
    assert boxes_of(ball) == steps()
    assert open_dataset("tc128", tree.root, split="new").names == ["Ball_ce"]
    tree.text("Ball_ce/Ball_ce_frames.txt", "6,3")
    with pytest.raises(DatasetError, match=r"Ball_ce_frames\.txt:1: '6,3'; expected FIRST,LAST"):
        open_dataset("tc128", tree.root)[0]


def test_uav123_takes_ranges_from_its_configuration(build):
    tree = build("uav123")
    bird, car = open_dataset("uav123", tree.root)
    assert (bird.name, car.name) == ("bird1_2", "car1_s")
    assert numbers_of(bird) == [4, 5, 6, 7]
    assert boxes_of(bird) == steps(2)
    assert bird.absent.tolist() == [False, False, True, False]
    assert bird.attributes == ("scale variation", "fast motion", "similar object")
    assert (bird.category, car.category) == ("bird", "car")
    assert len(open_dataset("uav123", tree.root, split="uav20l")[0]) == 10
    (tree.root / "configSeqs.m").unlink()
    whole = open_dataset("uav123", tree.root)
    assert numbers_of(whole[1]) == [0, 1, 2, 3]
    with pytest.raises(DatasetError, match=r"bird1_2 is a part of another folder; put configSeqs"):
        whole[0]


@pytest.mark.parametrize(("rate", "count"), [("30", 4), ("240", 32)])
def test_nfs_reads_both_frame_rates(build, rate, count):
    sequence = open_dataset("nfs", build("nfs").root, split=rate)[0]
    step = 32 // count
    assert (len(sequence), sequence.category) == (count, "ball")
    assert boxes_of(sequence)[8 // step] == NAN
    assert boxes_of(sequence)[16 // step] == [16.0, 2.0, 3.0, 4.0]
    assert np.flatnonzero(sequence.absent).tolist() == [8 // step]
    assert np.flatnonzero(sequence.occluded).tolist() == [16 // step]


def test_vot_reads_rectangles_polygons_masks_and_tags(build):
    ants, old = open_dataset("vot", build("vot").root)
    mask = [4.0, 2.0, 3.0, 2.0]
    assert boxes_of(ants) == [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 4.0], mask, NAN]
    assert ants.absent.tolist() == [False, False, False, True]
    assert ants.occluded.tolist() == [False, True, False, False]
    assert ants.attributes == ("occlusion",)
    assert ants.labels["occlusion"].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert ants.labels["camera_motion"].sum() == 0
    assert numbers_of(ants) == numbers_of(old) == [0, 1, 2, 3]
    assert old.absent.tolist() == [False, False, False, True]


def test_davis_has_a_sequence_for_each_object(build):
    tree = build("davis")
    dataset = open_dataset("davis", tree.root)
    assert dataset.names == ["bear", "dogs-1", "dogs-2"]
    assert boxes_of(dataset[0]) == boxes_of(dataset[1]) == steps()
    still = [20.0, 10.0, 10.0, 10.0]
    assert boxes_of(dataset[2]) == [still, still, NAN, still]
    assert open_dataset("davis", tree.root, split="train").names == ["hike-1", "hike-2"]


def test_davis_2016_has_grey_masks_and_lists_files(build):
    tree = build("davis")
    for year, name in (("2017", "val"), ("2017", "train")):
        (tree.root / "ImageSets" / year / f"{name}.txt").unlink()
    for position in range(4):
        mask = np.zeros((24, 32), np.uint8)
        mask[3:5, 6:9] = 255
        path = tree.root / f"Annotations/480p/bear/{position:05d}.png"
        assert cv2.imwrite(str(path), mask)
    lines = [
        f"/JPEGImages/480p/bear/{i:05d}.jpg /Annotations/480p/bear/{i:05d}.png" for i in (0, 1)
    ]
    tree.text("ImageSets/2016/val.txt", *lines)
    dataset = open_dataset("davis", tree.root)
    assert dataset.names == ["bear"]
    assert boxes_of(dataset[0]) == [[6.0, 3.0, 3.0, 2.0]] * 4


def test_a_mask_of_colours_is_refused(tree):
    frame = np.zeros((24, 32, 3), np.uint8)
    frame[3:5] = (0, 0, 200)
    path = tree.root / "00000.png"
    assert cv2.imwrite(str(path), frame)
    with pytest.raises(DatasetError, match=r"00000\.png: colours"):
        read_mask(path)


def test_names_and_splits_that_do_not_exist_are_named(build):
    tree = build("lasot")
    with pytest.raises(DatasetError, match="no sequence dog-1; it has cat-2"):
        open_dataset("lasot", tree.root, ["dog-1"])
    with pytest.raises(DatasetError, match="lasot has no split 'dev'; expected test, train, all"):
        open_dataset("lasot", tree.root, split="dev")
    with pytest.raises(DatasetError, match=r"otb has no split 'otb50'.*none to be named"):
        open_dataset("otb", tree.root, split="otb50")
    with pytest.raises(DatasetError, match="single images: open_images"):
        open_dataset("coco", tree.root)
