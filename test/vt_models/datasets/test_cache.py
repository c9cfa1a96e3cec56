# SPDX-License-Identifier: Apache-2.0
"""The index cache, and reading in several processes."""

from __future__ import annotations

import json
import multiprocessing
import operator
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from vt_models.datasets import DATASETS, open_dataset, reader
from vt_models.datasets.cache import IndexCache, user_cache

CACHED = sorted(kind for kind, dataset in DATASETS.items() if dataset.is_cached)


def same(one, other):
    arrays = ("boxes", "absent", "occluded")
    assert all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in arrays)
    for name in ("name", "frames", "language", "attributes", "category"):
        assert getattr(one, name) == getattr(other, name)
    assert {name: values.tolist() for name, values in one.labels.items()} == {
        name: values.tolist() for name, values in other.labels.items()
    }


@pytest.fixture
def loads(monkeypatch):
    """Counts how often annotations are read."""
    count = []
    for dataset in DATASETS.values():
        if "_load" not in vars(dataset):
            continue  # it is another one's
        original = dataset._load

        def load(self, entry, original=original):
            count.append(entry.name)
            return original(self, entry)

        monkeypatch.setattr(dataset, "_load", load)
    return count


@pytest.mark.parametrize("kind", CACHED)
def test_a_second_reading_comes_from_the_cache_and_is_the_same(build, tmp_path, loads, kind):
    tree = build(kind)
    cache = tmp_path / "index"
    fresh = open_dataset(kind, tree.root, cache=False)[0]
    first = open_dataset(kind, tree.root, cache=cache)[0]
    assert len(loads) == 2
    second = open_dataset(kind, tree.root, cache=cache)[0]
    assert len(loads) == 2
    same(fresh, first)
    same(first, second)
    assert not list(cache.glob("*.tmp"))


def test_it_is_in_the_users_cache_directory_unless_turned_off(build):
    tree = build("otb")
    open_dataset("otb", tree.root, cache=False)[0]
    assert not user_cache().exists()
    open_dataset("otb", tree.root)[0]
    assert len(list(user_cache().glob("*.json"))) == 1
    assert user_cache().parent.parent.name == "cache"


@pytest.mark.parametrize(
    "file", ["groundtruth.txt", "full_occlusion.txt", "nlp.txt", "img/00000002.jpg"]
)
def test_changed_data_are_noticed(build, loads, file):
    tree = build("lasot")
    open_dataset("lasot", tree.root)[0]
    path = tree.root / "cat/cat-2" / file
    if file == "groundtruth.txt":
        text = path.read_text().replace("2,2,3,4", "2,2,5,4").replace("4,2,3,4", "7,2,3,4")
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        assert open_dataset("lasot", tree.root)[0].boxes[3, 0] == 7
    elif file.startswith("img"):
        path.rename(path.with_name("00000005.jpg"))
        with pytest.raises(Exception, match=r"00000001\.jpg is followed by 00000003\.jpg"):
            open_dataset("lasot", tree.root)[0]
    else:
        path.unlink()
        if file == "nlp.txt":
            assert open_dataset("lasot", tree.root)[0].language is None
        else:
            with pytest.raises(Exception, match="cannot be read"):
                open_dataset("lasot", tree.root)[0]
    assert len(loads) == 2


@pytest.mark.parametrize("damage", ["cut", "text", "list", "content"])
def test_a_damaged_entry_is_ignored_and_replaced(build, loads, damage):
    tree = build("got10k")
    sequence = open_dataset("got10k", tree.root)[0]
    (entry,) = user_cache().glob("*.json")
    content = json.loads(entry.read_text())
    if damage == "content":
        content["value"]["boxes"].pop()
    text = {"cut": entry.read_text()[:40], "text": "x", "list": "[1]"}.get(damage)
    entry.write_text(text or json.dumps(content))
    same(open_dataset("got10k", tree.root)[0], sequence)
    assert len(loads) == 2
    same(open_dataset("got10k", tree.root)[0], sequence)
    assert len(loads) == 2


def test_a_cache_that_cannot_be_written_is_no_error(build, tmp_path, loads):
    tree = build("otb")
    blocked = tmp_path / "file"
    blocked.write_text("")
    for _ in range(2):
        assert len(open_dataset("otb", tree.root, cache=blocked)[0]) == 4
    assert len(loads) == 2


def test_entries_of_other_roots_and_splits_do_not_mix(build, tmp_path):
    tree = build("lasot")
    open_dataset("lasot", tree.root)[0]
    moved = tmp_path / "moved"
    tree.root.rename(moved)
    assert open_dataset("lasot", moved)[0].frames[0].is_relative_to(moved)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    assert IndexCache(tmp_path / "index").get("name", [], lambda: 3, int) == 3
    assert list((tmp_path / "index").iterdir()) == []


def test_reading_what_the_cache_packs_changes_nothing(build):
    sequence = open_dataset("got10k", build("got10k").root, cache=False)[0]
    root = sequence.frames[0].parent
    same(reader._unpacked(json.loads(json.dumps(reader._packed(sequence, root))), root), sequence)


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_two_processes_read_the_same(build, start):
    tree = build("trackingnet")
    dataset = open_dataset("trackingnet", tree.root, split="train")
    here = [dataset[index] for index in range(2)]
    frames = [sequence.read_frame(3) for sequence in here]
    for entry in user_cache().glob("*.json"):
        entry.unlink()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(2, context) as pool:
        there = list(pool.map(dataset.__getitem__, [0, 1, 0, 1]))
        seen = list(pool.map(operator.methodcaller("read_frame", 3), there))
    for index, (sequence, frame) in enumerate(zip(there, seen, strict=True)):
        same(sequence, here[index % 2])
        assert frame.tobytes() == frames[index % 2].tobytes()
    assert len(list(user_cache().glob("*.json"))) == 2


@pytest.mark.parametrize("kind", sorted(DATASETS))
def test_a_record_says_what_the_sequence_says(build, loads, kind):
    dataset = open_dataset(kind, build(kind).root)
    record, sequence = dataset.record(0), dataset[0]
    assert [dataset.root / name for name in record["frames"]] == list(sequence.frames)
    boxes = [[float("nan")] * 4 if box is None else box for box in record["boxes"]]
    assert np.array_equal(boxes, sequence.boxes, equal_nan=True)
    assert record["absent"] == np.flatnonzero(sequence.absent).tolist()
    assert (record["language"], tuple(record["classes"])) == (sequence.language, sequence.classes)
    assert len(loads) == (1 if dataset.is_cached else 2)
    if dataset.is_cached:
        (entry, *_) = user_cache().glob("*.json")
        entry.write_text(entry.read_text().replace('"boxes":[', '"boxes":[null,', 1))
        assert dataset.record(0) == record
