# SPDX-License-Identifier: Apache-2.0
"""Datasets as sources of pairs: what is read, when, how often, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from vt_models.datasets.video_list import read_video_list
from vt_models.datasets.videos import read_annotated_videos
from vt_models.errors import DatasetError
from vt_models.training.data import image_store as store
from vt_models.training.data.sampling import PairSampler
from vt_models.training.data.sources import open_sources, open_validation, parse_roots
from vt_models.training.data.targets import Mixture
from vt_models.training.recipe.loader import load_recipe
from vt_models.training.recipe.settings import Recipe, SamplingConfig, SourceConfig

HIDDEN = (3, 6)


@pytest.fixture(autouse=True)
def _cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _recipe(*sources: SourceConfig, **sampling: object) -> Recipe:
    return Recipe("asymtrack_lite0", sources=sources, sampling=SamplingConfig(**sampling))


def _open(roots: dict[str, Path], *sources: SourceConfig, **sampling: object) -> Mixture:
    recipe = _recipe(*sources, **sampling)
    return open_sources(recipe, {source.called: roots[source.kind] for source in sources})


@pytest.fixture
def mixture(mini_sets: dict[str, Path], mini_pack: Path) -> Mixture:
    kinds = ("lasot", "coco", "pack")
    return _open(mini_sets | {"pack": mini_pack}, *(SourceConfig(kind) for kind in kinds))


def test_videos_give_tracks_of_the_frames_that_show_the_target(
    mini_sets: dict[str, Path],
) -> None:
    data = _open(mini_sets, SourceConfig("lasot"))
    (source,) = data.sources
    assert [track.key for track in source.tracks] == ["lasot/cat-1/0", "lasot/dog-1/0"]
    assert len(data.images) == 16
    track = source.tracks[1]
    assert list(track.frames) == [0, 1, 2, 4, 5, 7]
    assert [target.image for target in track.targets] == [8, 9, 10, 12, 13, 15]
    assert track.targets[3].box == (60.0, 48.0, 24.0, 30.0)
    assert (track.targets[0].name, track.targets[0].sentence) == ("dog", "the dog-1")
    assert [(t.image, t.box[0]) for t in track.hidden] == [(11, 40.0), (14, 70.0)]


def test_a_video_may_begin_without_its_target(mini_sets: dict[str, Path]) -> None:
    first, second = _open(mini_sets, SourceConfig("got10k")).sources[0].tracks
    assert list(second.frames) == [2, 3, 4, 5, 6, 7]
    assert len(second.hidden) == 0
    assert first.targets[0].name == "goat"
    assert first.targets[0].sentence == "goat walking even-toed ungulate animal"


def test_archives_and_classes_of_trackingnet(mini_sets: dict[str, Path]) -> None:
    data = _open(mini_sets, SourceConfig("trackingnet"))
    tracks = data.sources[0].tracks
    assert [(t.targets[0].name, t.targets[0].sentence) for t in tracks] == [
        ("bus", "bus"),
        ("boat", "boat"),
    ]
    assert data.images[8].shape == data.images[15].shape == (120, 160, 3)
    assert not np.array_equal(data.images[8], data.images[15])


def test_annotated_images_give_their_usable_objects(mini_sets: dict[str, Path]) -> None:
    stills = _open(mini_sets, SourceConfig("coco")).sources[0].stills
    assert [(t.image, t.name) for t in stills] == [
        (0, "car"),
        (0, "dog"),
        *((number, "car") for number in range(1, 6)),
    ], "neither the one that fills its image nor the one of 3 pixels"
    everything = _open(mini_sets, SourceConfig("coco"), min_side=1, max_cover=1).sources[0].stills
    assert len(everything) == 9


def test_images_are_read_when_they_are_drawn(
    mini_sets: dict[str, Path], mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter()
    original = store.read_image

    def count(path: Path) -> np.ndarray:
        read[path.name] += 1
        return original(path)

    monkeypatch.setattr(store, "read_image", count)
    sources = (SourceConfig("lasot"), SourceConfig("coco"), SourceConfig("pack", in_memory=False))
    data = _open(mini_sets | {"pack": mini_pack}, *sources)
    assert not read
    assert data.images.nbytes == 0
    again = data.images[17]
    assert data.images[17] is again
    assert sum(read.values()) == 1
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0


def test_the_cache_of_images_is_bounded(mini_sets: dict[str, Path]) -> None:
    files = _open(mini_sets, SourceConfig("lasot")).images
    small = store.ImageStore(cache_bytes=3 * 160 * 120 * 3)
    small.add(files)
    for number in (*range(16), 15, 2):
        assert np.array_equal(small[number], files[number])
        assert sum(image.nbytes for image in small._cache.values()) <= 3 * 160 * 120 * 3
    assert len(small._cache) == 3
    assert not pickle.loads(pickle.dumps(small))._cache
    with pytest.raises(IndexError):
        small[16]


def test_pairs_depend_on_seed_and_number_only(mixture: Mixture) -> None:
    config = SamplingConfig(0.4, 0.4, 0.2, 0.3, lookalike_share=0.5)
    one = PairSampler(mixture, config, 1, dynamic=True)
    drawn = [one.draw(one.rng(n)) for n in range(60)]
    copy = pickle.loads(pickle.dumps(mixture))
    two = PairSampler(copy, config, 1, dynamic=True)
    assert [two.draw(two.rng(n)) for n in reversed(range(60))] == drawn[::-1]
    assert len({pair.template.scene for pair in drawn}) > 10


def test_sources_are_drawn_by_their_weights(mini_sets: dict[str, Path], mini_pack: Path) -> None:
    sources = [SourceConfig("lasot", weight=2), SourceConfig("coco"), SourceConfig("pack")]
    data = _open(mini_sets | {"pack": mini_pack}, *sources)
    sampler = PairSampler(data, SamplingConfig(), 0)
    ranges = [source.images for source in data.sources]
    drawn = [sampler.draw(sampler.rng(n)).template.image for n in range(2000)]
    shares = [sum(image in numbers for image in drawn) / 2000 for numbers in ranges]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)


def test_a_source_may_have_its_own_gap(mini_sets: dict[str, Path]) -> None:
    data = _open(mini_sets, SourceConfig("lasot", max_gap=1), SourceConfig("got10k"))
    sampler = PairSampler(data, SamplingConfig(max_gap=3, order="causal"), 0)
    gaps: dict[str, set[int]] = {"lasot": set(), "got10k": set()}
    for number in range(400):
        pair = sampler.draw(sampler.rng(number))
        gap = pair.search.image - pair.template.image
        gaps[pair.template.scene.split("/")[0]].add(gap)
    assert gaps == {"lasot": {1, 2}, "got10k": {1, 2, 3}}, "2 where the next frame is hidden"


def test_negatives_may_be_frames_that_hide_the_target(mini_sets: dict[str, Path]) -> None:
    data = _open(mini_sets, SourceConfig("lasot"), SourceConfig("coco"))
    config = SamplingConfig(negative_share=0.5, hidden_share=1.0)
    sampler = PairSampler(data, config, 0)
    pairs = [sampler.draw(sampler.rng(number)) for number in range(400)]
    gone = [pair for pair in pairs if not pair.present]
    assert len(gone) == pytest.approx(200, abs=40)
    for pair in gone:
        if pair.template.image < 16:
            assert pair.search.image % 8 in HIDDEN
            assert pair.search.scene == pair.template.scene
        else:
            assert pair.search.scene != pair.template.scene


def test_lookalikes_come_from_all_sources(mixture: Mixture) -> None:
    sampler = PairSampler(mixture, SamplingConfig(), 0)
    target = dataclasses.replace(mixture.sources[0].tracks[0].targets[0], name="car")
    rng = np.random.default_rng(0)
    others = [sampler.lookalike(target, rng) for _ in range(30)]
    assert {other.name for other in others} == {"car"}
    assert len({other.image for other in others}) > 3


def test_a_folder_of_images_gives_regions(mini_sets: dict[str, Path]) -> None:
    folder = mini_sets["coco"] / "train2017"
    data = _open({"images": folder}, SourceConfig("images"), region_share=0.0)
    sampler = PairSampler(data, SamplingConfig(), 0)
    pairs = [sampler.draw(sampler.rng(number)) for number in range(20)]
    assert all(pair.template.scene.startswith("region") for pair in pairs)
    with pytest.raises(DatasetError, match="no image in it"):
        _open({"images": mini_sets["coco"] / "annotations"}, SourceConfig("images"))


def test_a_pack_that_is_read_late_gives_the_same(mini_pack: Path) -> None:
    at_once = _open({"pack": mini_pack}, SourceConfig("pack"))
    late = _open({"pack": mini_pack}, SourceConfig("pack", in_memory=False))
    assert at_once.sources == late.sources
    assert at_once.images.nbytes == 20 * 120 * 160 * 3
    for number in range(20):
        assert np.array_equal(at_once.images[number], late.images[number])


def test_boxes_of_which_none_can_be_a_target_are_refused(
    mini_pack: Path, mini_sets: dict[str, Path], tmp_path: Path
) -> None:
    """Fractions of the image, say: training would go on with random regions alone."""
    root = tmp_path / "fractions"
    shutil.copytree(mini_pack, root)
    path = root / "annotations.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        for item in record["boxes"]:
            item["bbox"] = [value * 1e-3 for value in item["bbox"]]
    path.write_text("\n".join(map(json.dumps, records)))
    count = sum(len(record["boxes"]) for record in records)
    said = rf"none of {count} boxes can be a target: {count} have a side below 6 pixels"
    with pytest.raises(DatasetError, match=said):
        _open({"pack": root}, SourceConfig("pack"))
    with pytest.raises(DatasetError, match=r"\(coco\): none of \d+ boxes can be a target"):
        _open(mini_sets, SourceConfig("coco"), min_side=5000.0)


def test_two_packs_are_two_sources(mini_pack: Path) -> None:
    recipe = _recipe(SourceConfig(), SourceConfig(name="pseudo", weight=0.25, max_gap=10))
    roots = parse_roots([f"pack={mini_pack}", f"pseudo={mini_pack}"], recipe)
    own, pseudo = open_sources(recipe, roots).sources
    assert (own.images, pseudo.images) == (range(20), range(20, 40))
    assert [target.image for target in pseudo.stills] == list(range(20, 28))
    assert [t.image for t in pseudo.tracks[1].targets] == list(range(34, 40))
    assert (own.max_gap, pseudo.max_gap, pseudo.weight) == (None, 10, 0.25)


def test_only_the_videos_of_a_list(mini_sets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "got10k"
    shutil.copytree(mini_sets["got10k"], root)
    for text in ("GOT-10k_Train_000002\n", "1\n"):
        (root / "chosen.txt").write_text(text)
        data = _open({"got10k": root}, SourceConfig("got10k", only="chosen.txt"))
        assert [t.key for t in data.sources[0].tracks] == ["got10k/GOT-10k_Train_000002/0"]
    (root / "chosen.txt").write_text("0\n2\n")
    with pytest.raises(DatasetError, match=r"chosen\.txt:2: '2'; .* number from 0 to 1"):
        _open({"got10k": root}, SourceConfig("got10k", only="chosen.txt"))
    with pytest.raises(DatasetError, match=r"nowhere\.txt"):
        _open({"got10k": root}, SourceConfig("got10k", only="nowhere.txt"))


def test_videos_are_held_out(mini_sets: dict[str, Path], mini_pack: Path) -> None:
    roots = mini_sets | {"pack": mini_pack}
    both = (SourceConfig("lasot"), SourceConfig("pack"))
    data = _open(roots, *both, hold_out=("dog-1", "clip1"))
    keys = [track.key for source in data.sources for track in source.tracks]
    assert keys == ["lasot/cat-1/0", "clip0/0"]
    with pytest.raises(DatasetError, match=r"hold_out.*dog-9\. Did you mean dog-1"):
        _open(roots, *both, hold_out=("dog-9", "clip1"))


def test_damage_is_named_before_the_first_batch(mini_sets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "lasot"
    shutil.copytree(mini_sets["lasot"], root)
    truth = root / "dog" / "dog-1" / "groundtruth.txt"
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join([*lines[:4], "1,2,three,4", *lines[5:]]))
    with pytest.raises(DatasetError, match=r"dog-1/groundtruth\.txt:5: '1,2,three,4'"):
        _open({"lasot": root}, SourceConfig("lasot"))
    truth.write_text("\n".join(lines[:-1]))
    with pytest.raises(DatasetError, match=r"groundtruth\.txt: 7 lines for 8 images"):
        _open({"lasot": root}, SourceConfig("lasot"))


def test_an_unreadable_image_is_named_when_it_is_drawn(
    mini_sets: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "coco"
    shutil.copytree(mini_sets["coco"], root)
    image = root / "train2017" / "000000000002.jpg"
    image.write_bytes(image.read_bytes()[:-99])
    data = _open({"coco": root}, SourceConfig("coco"))
    with pytest.raises(DatasetError, match=r"000000000002\.jpg: truncated JPEG"):
        data.images[1]
    shutil.copy(mini_sets["lasot"] / "cat/cat-1/img/00000001.jpg", image)
    content = (root / "annotations/instances_train2017.json").read_text()
    (root / "annotations/instances_train2017.json").write_text(
        content.replace('"width": 160', '"width": 161')
    )
    with pytest.raises(DatasetError, match="is 160x120 but its annotation says 161x120"):
        _open({"coco": root}, SourceConfig("coco")).images[1]


def test_splits_without_truth_or_targets_are_refused(mini_sets: dict[str, Path]) -> None:
    with pytest.raises(DatasetError, match="at least 25 pixels"):
        _open(mini_sets, SourceConfig("lasot"), min_side=25)
    data = _open(mini_sets, SourceConfig("lasot"))
    with pytest.raises(DatasetError, match="clip_share 0"):
        PairSampler(data, SamplingConfig(clip_share=0), 0)


def test_roots_come_from_the_command_line_or_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one=1", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    pack = _recipe(SourceConfig())
    assert parse_roots([str(two)], pack) == {"pack": two}
    assert parse_roots([f"pack={one}"], pack) == {"pack": one}
    assert parse_roots([str(one)], pack) == {"pack": one}
    monkeypatch.setenv("MY_LASOT", str(one))
    both = _recipe(SourceConfig("lasot", root="$MY_LASOT"), SourceConfig("coco", name="photos"))
    assert parse_roots([f"photos={two}"], both) == {"lasot": one, "photos": two}
    monkeypatch.delenv("MY_LASOT")
    wrong = {
        (str(two),): "several sources; give --data NAME=DIR for lasot, photos",
        (f"coco={two}",): "no source 'coco'; it has lasot, photos",
        (f"photos={two}",): "folder of lasot is not known: give --data lasot=DIR",
        (f"photos={two}", "lasot=/nowhere"): r"no such folder: /nowhere \(lasot\)",
    }
    for words, message in wrong.items():
        with pytest.raises(DatasetError, match=message):
            parse_roots(words, both)


def test_the_authors_recipes_read_their_data_sets(
    mini_sets: dict[str, Path], repository: Path
) -> None:
    pytest.importorskip("torch", reason="a recipe checks its network")
    recipe = load_recipe(repository / "recipes" / "stark_st50_stage2.yaml")
    roots = parse_roots([f"{kind}={root}" for kind, root in mini_sets.items()], recipe)
    data = open_sources(recipe, roots)
    assert [source.name for source in data.sources] == ["lasot", "got10k", "coco", "trackingnet"]
    sampler = PairSampler(data, recipe.sampling, recipe.seed, dynamic=True)
    pairs = [sampler.draw(sampler.rng(number)) for number in range(200)]
    assert sum(pair.present for pair in pairs) == pytest.approx(100, abs=25)


def _write_videos(root: Path, *names: str) -> Path:
    """Annotated video files of 8 frames with a target that moves to the right."""
    lines = []
    for seed, name in enumerate(names):
        image = np.random.default_rng(seed).integers(0, 255, (96, 128, 3)).astype(np.uint8)
        path = root / f"{name}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (128, 96))
        for _ in range(8):
            writer.write(cv2.blur(image, (5, 5)))
        writer.release()
        boxes = [[10.0 + 4 * n, 20.0, 24.0, 30.0] if n != 5 else None for n in range(8)]
        tracks = [{"id": 1, "name": "car", "boxes": boxes}]
        size = {"width": 128, "height": 96, "frames": 8}
        lines.append(json.dumps({"video": path.name, **size, "tracks": tracks}))
    (root / "annotations.jsonl").write_text("\n".join(lines) + "\n")
    return root


def _listing(path: Path, *rows: tuple[str, str]) -> str:
    lines = ["video\tuse\tkind", *(f"{name}\t{use}\tdrone views" for name, use in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_video_files_give_tracks_with_gaps(tmp_path: Path) -> None:
    root = _write_videos(tmp_path, "a", "b")
    data = _open({"videos": root}, SourceConfig("videos"))
    (source,) = data.sources
    assert [track.key for track in source.tracks] == ["videos/a/1", "videos/b/1"]
    assert list(source.tracks[1].frames) == [0, 1, 2, 3, 4, 6, 7]
    assert source.tracks[1].targets[5].image == 8 + 6
    assert source.tracks[1].targets[5].box == (34.0, 20.0, 24.0, 30.0)
    assert len(source.tracks[1].hidden) == 0  # a frame without a box may show the target
    assert data.images[14].shape == (96, 128, 3)
    sampler = PairSampler(data, SamplingConfig(clip_share=1, still_share=0), seed=0)
    assert sampler.draw(sampler.rng(0)) == sampler.draw(sampler.rng(0))


def test_patterns_choose_the_videos_of_a_source(tmp_path: Path, mini_pack: Path) -> None:
    root = _write_videos(tmp_path, "drone_1", "drone_2", "street")
    data = open_sources(
        _recipe(
            SourceConfig("videos", name="flying", match=("drone_*",)),
            SourceConfig("videos", name="scenes", skip=("drone_*",)),
            SourceConfig("pack", skip=("*",)),
        ),
        {"flying": root, "scenes": root, "pack": mini_pack},
    )
    drawn = {source.name: sorted(source.videos) for source in data.sources}
    assert drawn == {
        "flying": ["drone_1", "drone_2"],
        "scenes": ["street"],
        "pack": ["still images"],
    }
    assert len(data.sources[2].stills) == 8


def test_listed_videos_are_left_out_of_every_source(tmp_path: Path, mini_pack: Path) -> None:
    root = _write_videos(tmp_path, "a", "b", "c", "clip0")
    listing = _listing(
        tmp_path / "list.tsv", ("a", "validate"), ("b", "withhold"), ("clip0", "validate")
    )
    recipe = dataclasses.replace(
        _recipe(SourceConfig("videos"), SourceConfig("pack")), validation=listing
    )
    data = open_sources(recipe, {"videos": root, "pack": mini_pack})
    assert [sorted(source.videos) for source in data.sources] == [["c"], ["clip1", "still images"]]
    assert data.left_out == {"a", "b", "clip0"}
    assert open_validation(root, recipe, data).names == ["a", "clip0"]


@pytest.mark.parametrize("source", ["videos", "pack"])
def test_training_on_a_validation_video_is_refused(
    tmp_path: Path, mini_pack: Path, source: str
) -> None:
    root = _write_videos(tmp_path, "clip0")
    roots = {"videos": root, "pack": mini_pack}
    data = _open(roots, SourceConfig(source))
    with pytest.raises(DatasetError, match=f"source {source} trains on clip0; put them under"):
        open_validation(root, _recipe(SourceConfig(source)), data)
    held_out = _recipe(SourceConfig("pack"), hold_out=("clip0",))
    data = open_sources(held_out, {"pack": mini_pack})
    assert open_validation(root, held_out, data).names == ["clip0"]


def test_list_of_a_recipe_is_seen_from_the_recipe(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a recipe checks its network")
    (tmp_path / "recipe.yaml").write_text("model: asymtrack_lite0\nvalidation: lists/a.tsv\n")
    assert Path(load_recipe(tmp_path / "recipe.yaml").validation) == tmp_path / "lists" / "a.tsv"


def test_max_cover_of_a_source_replaces_that_of_the_recipe(mini_pack: Path) -> None:
    for cover in (0.0, 1.0):
        data = _open({"pack": mini_pack}, SourceConfig("pack", max_cover=cover))
        assert len(data.sources[0].stills) == 8
    with pytest.raises(DatasetError, match=r"0 have a side below 6 .* 20 cover too much"):
        _open({"pack": mini_pack}, SourceConfig("pack", max_cover=0.001))


def test_bundled_list_keeps_places_on_one_side(shared_dir: Path, repository: Path) -> None:
    listed = read_video_list(repository / "recipes" / "validation.tsv")
    known = {video.name for video in read_annotated_videos(shared_dir / "train_videos")}
    assert set(listed.names) <= known
    kinds = Counter(row.kind for row in listed.rows if row.use == "validate")
    assert sum(kinds.values()) == 30
    assert kinds["drone views"] >= 6
    assert kinds["animals"] >= 4
    assert kinds["small flying things"] >= 3
    together = ("uav123_group", "uav123_wakeboard", "uavdt_S1606", "vot18_car1", "vot14_trellis")
    for place in together:
        members = {name for name in known if name.startswith(place)}
        assert members <= set(listed.names), place


@pytest.mark.parametrize("row", ["a.1", "A", "a"])
def test_row_of_a_track_or_in_other_letters_holds_the_video_out(tmp_path: Path, row: str) -> None:
    root = _write_videos(tmp_path, "a", "b")
    listing = _listing(tmp_path / "list.tsv", (row, "withhold"))
    recipe = dataclasses.replace(_recipe(SourceConfig("videos")), validation=listing)
    assert open_sources(recipe, {"videos": root}).sources[0].videos == {"b"}


def test_training_on_a_validation_video_in_other_letters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    data = _open({"videos": _write_videos(tmp_path / "one", "Car")}, SourceConfig("videos"))
    judged = _write_videos(tmp_path / "two", "car")
    with pytest.raises(DatasetError, match="trains on Car"):
        open_validation(judged, _recipe(), data)


def test_still_images_of_a_listed_source_are_left_out(tmp_path: Path, mini_pack: Path) -> None:
    listing = _listing(tmp_path / "list.tsv", ("still images", "withhold"))
    recipe = dataclasses.replace(_recipe(SourceConfig("pack")), validation=listing)
    (source,) = open_sources(recipe, {"pack": mini_pack}).sources
    assert len(source.stills) == 0
    assert source.videos == {"clip0", "clip1"}
