# SPDX-License-Identifier: Apache-2.0
"""`vt-models train --backbone-weights`: published weights of a backbone that no package brings.

What is in the files of each family is tested beside the networks (test_published_backbones.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from vt_models.cli.main import main
from vt_models.nets.asymtrack import AsymTrackBackbone, AsymTrackConfig
from vt_models.nets.mobilenet import PUBLISHED_PREFIX, NanoTrackBackbone

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published one, with numbers of its own."""
    torch.manual_seed(5)
    state = NanoTrackBackbone().state_dict()
    path = tmp_path_factory.mktemp("published") / "nanotrack_v3.safetensors"
    save_file({PUBLISHED_PREFIX + name: value for name, value in state.items()}, path)
    return path


def _words(folder: Path, pack: Path, model: str, pretrained: str) -> list[str]:
    """A command line without the weights."""
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"model: {model}\npretrained: {pretrained}\n"
        "optim: {samples: 2, batch_size: 2, backbone_lr_factor: 0}\n"
    )
    output = ["--output", str(folder / "run"), "--workers", "0"]
    return ["train", str(recipe), "--data", str(pack), *output]


def test_backbone_weights_start_a_run(tmp_path: Path, mini_pack: Path, published: Path) -> None:
    words = _words(tmp_path, mini_pack, "asymtrack_nano", "nanotrack")
    assert main([*words, "--backbone-weights", str(published)]) == 0
    trained = load_file(tmp_path / "run" / "weights.safetensors")
    first = "features.0.0.weight"
    for name, value in load_file(published).items():
        own = name.removeprefix(PUBLISHED_PREFIX)
        expected = value.flip(1) if own == first else value  # BGR kernels, RGB input
        assert torch.equal(trained[f"backbone.{own}"], expected), name


@pytest.mark.parametrize(
    ("chosen", "given", "message"),
    [
        (("asymtrack_nano", "nanotrack"), False, "NanoTrack v3 weights.*--backbone-weights FILE"),
        (("asymtrack_nano", "imagenet"), False, "has no ImageNet weights to load"),
        (("asymtrack_nano", "none"), True, "reads no file.*or set `pretrained: nanotrack`"),
        (("asymtrack_lite0", "imagenet"), True, "`pretrained: imagenet`, which reads no file"),
        (("asymtrack_lite0", "nanotrack"), True, "asymtrack_lite0 has no NanoTrack v3 weights"),
    ],
)
def test_backbone_weights_impossible_options_are_refused(
    tmp_path: Path,
    mini_pack: Path,
    published: Path,
    capsys: pytest.CaptureFixture[str],
    chosen: tuple[str, str],
    given: bool,
    message: str,
) -> None:
    words = _words(tmp_path, mini_pack, *chosen)
    assert main([*words, *(["--backbone-weights", str(published)] if given else [])]) != 0
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("vt-models: error: ")
    assert re.search(message, said), said


def test_the_authors_recipes_start_from_published_weights(
    tmp_path: Path, mini_pack: Path, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    net = AsymTrackBackbone(AsymTrackConfig(depths=((1, 6), (1, 6), (1, 1, 1, 1, 1, 1))))
    state = net.state_dict()
    attention = "layers.2.blocks.8."  # behind six encoder blocks, modulation and enhancement
    for name in [name for name in state if name.startswith(attention)]:
        state[name.replace(attention, "layers.2.blocks.6.")] = state.pop(name)
    torch.save({"state_dict": state}, tmp_path / "model_best.pth.tar")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"base: {repository / 'recipes' / 'asymtrack_t.yaml'}\nmodel: asymtrack_t\n"
        "sources: [{kind: pack}]\noptim: {samples: 2, batch_size: 2, backbone_lr_factor: 0}\n"
    )
    words = ["train", str(recipe), "--data", str(mini_pack), "--output", str(tmp_path / "run")]
    words += ["--workers", "0"]

    assert main(words) == 0
    said = capsys.readouterr().err
    assert re.search("warning: asymtrack_t starts from random.*EfficientMod.*--backbone-w", said)

    words.append("--restart")
    assert main([*words, "--backbone-weights", str(tmp_path / "model_best.pth.tar")]) == 0
    trained = load_file(tmp_path / "run" / "weights.safetensors")
    first = "layers.0.blocks.0.mlp.fc1.weight"
    assert torch.equal(trained[f"backbone.{first}"], state[first])
    assert "random values" not in capsys.readouterr().err

    assert main([*words, "--set", "pretrained=none"]) == 0
    assert "asymtrack_t starts from random values" in capsys.readouterr().err


def test_weights_of_the_whole_network_bring_the_backbone_s(
    tmp_path: Path, mini_pack: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _words(tmp_path, mini_pack, "asymtrack_nano", "nanotrack")
    both = ["--backbone-weights", str(published), "--start-from", str(published)]
    assert main([*words, *both]) != 0
    assert "--start-from brings the backbone's weights too" in capsys.readouterr().err
