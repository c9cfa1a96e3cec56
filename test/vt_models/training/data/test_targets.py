# SPDX-License-Identifier: Apache-2.0
"""Image packs: what is read, what is refused; and the pairs drawn from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vt_models.errors import DatasetError
from vt_models.training.data.sampling import PairSampler
from vt_models.training.data.targets import ImagePack, load_image_pack
from vt_models.training.recipe.settings import SamplingConfig


def test_reads_stills_and_tracks(mini_pack: Path) -> None:
    pack = load_image_pack(mini_pack)
    assert len(pack.images) == 20
    assert len(pack.stills) == 8
    assert [track.key for track in pack.tracks] == ["clip0/0", "clip1/0"]
    assert pack.tracks[0].frames == (0, 10, 20, 30, 40, 50)
    assert pack.images[0].shape == (120, 160, 3)
    assert pack.nbytes == 20 * 120 * 160 * 3


def _edit(number: int, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        lines = (root / "annotations.jsonl").read_text().splitlines()
        record = json.loads(lines[number - 1])
        change(record)
        lines[number - 1] = json.dumps(record)
        (root / "annotations.jsonl").write_text("\n".join(lines))

    return edit


def _cut_line(root: Path) -> None:
    path = root / "annotations.jsonl"
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "annotations.jsonl").unlink(), ["annotations.jsonl", "not exist"]),
        (lambda root: (root / "annotations.jsonl").write_text(""), ["no images"]),
        (lambda root: (root / "still3.png").write_bytes(b"no image"), ["still3.png"]),
        (lambda root: (root / "still3.png").unlink(), ["still3.png"]),
        (_cut_line, ["annotations.jsonl:20"]),
        (_edit(2, lambda r: r.pop("boxes")), ["annotations.jsonl:2", "boxes"]),
        (_edit(5, lambda r: r.update(width=99)), ["still4.png", "99"]),
        (
            _edit(4, lambda r: r.update(boxes=[{"bbox": [1, 2, float("nan"), 4]}])),
            ["annotations.jsonl:4", "finite"],
        ),
        (_edit(9, lambda r: r.pop("source")), ["annotations.jsonl:9", "source"]),
        (
            _edit(9, lambda r: r.update(orig_frame=None, frame="first")),
            ["annotations.jsonl:9", "first"],
        ),
    ],
)
def test_load_image_pack_names_damage(
    mini_pack: Path, tmp_path: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    root = tmp_path / "pack"
    shutil.copytree(mini_pack, root)
    damage(root)
    with pytest.raises(DatasetError) as caught:
        load_image_pack(root)
    for word in words:
        assert word in str(caught.value)


def test_pairs_depend_on_seed_and_number_only(mini_pack: Path) -> None:
    pack = load_image_pack(mini_pack)
    config = SamplingConfig(0.4, 0.4, 0.2, 0.2)
    one, two = PairSampler(pack, config, 1), PairSampler(pack, config, 1)
    drawn = [one.draw(one.rng(n)) for n in range(50)]
    assert [two.draw(two.rng(n)) for n in reversed(range(50))] == drawn[::-1]
    other = PairSampler(pack, config, 2)
    assert [other.draw(other.rng(n)) for n in range(50)] != drawn


@pytest.mark.parametrize(("max_gap", "gaps"), [(20, {10, 20}), (5, {10})])
def test_causal_pairs_look_forward(mini_pack: Path, max_gap: int, gaps: set[int]) -> None:
    pack = load_image_pack(mini_pack)
    sampler = PairSampler(pack, SamplingConfig(1, 0, max_gap=max_gap, order="causal"), 0)
    frames = {
        t: f for track in pack.tracks for t, f in zip(track.targets, track.frames, strict=True)
    }
    pairs = [sampler.draw(sampler.rng(n)) for n in range(300)]
    assert {frames[p.search] - frames[p.template] for p in pairs} == gaps
    assert {frames[p.template] for p in pairs} == {0, 10, 20, 30, 40}


def test_a_pack_without_what_the_shares_ask_for_is_refused(mini_pack: Path) -> None:
    pack = ImagePack([np.zeros((9, 9, 3), np.uint8)], [], [])
    with pytest.raises(DatasetError, match="0 tracks and 0 targets in stills"):
        PairSampler(pack, SamplingConfig(), 0)
    assert PairSampler(load_image_pack(mini_pack), SamplingConfig(), 0)


def test_shares_gap_and_negatives(mini_pack: Path) -> None:
    pack = load_image_pack(mini_pack)
    config = SamplingConfig(0.5, 0.3, 0.2, 0.25, max_gap=20)
    sampler = PairSampler(pack, config, 0)
    pairs = [sampler.draw(sampler.rng(n)) for n in range(4000)]
    negatives = [p for p in pairs if not p.present]
    assert len(negatives) / len(pairs) == pytest.approx(0.25, abs=0.03)
    assert all(p.template.scene != p.search.scene for p in negatives)
    frames = {
        t: f for track in pack.tracks for t, f in zip(track.targets, track.frames, strict=True)
    }
    clips = [p for p in pairs if p.present and p.template in frames]
    assert len(clips) / len(pairs) == pytest.approx(0.5 * 0.75, abs=0.03)
    gaps = [abs(frames[p.template] - frames[p.search]) for p in clips]
    assert set(gaps) == {10, 20}
    regions = [p for p in pairs if p.template.scene.startswith("region")]
    assert len(regions) / len(pairs) == pytest.approx(0.2, abs=0.03)
    for pair in regions:
        x, y, w, h = pair.template.box
        assert min(x, y) >= 0
        assert x + w <= 160
        assert y + h <= 120
        assert np.isfinite([x, y, w, h]).all()
