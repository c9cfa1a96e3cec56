# SPDX-License-Identifier: Apache-2.0
"""Real loading, real processors, real post-processing, on checkpoints that the tests write."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.grounding import (
    Grounder,
    GroundingCancelledError,
    GroundingSettings,
    create_grounder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.train

ARCHITECTURES = ("grounding-dino", "owlv2")
ALL = GroundingSettings(threshold=0.0, ambiguity_margin=0.0, nms_iou=1.0, max_candidates=100)


def noise(width: int, height: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def grounder_of(checkpoint: Callable[[str], Path]) -> Callable[[str], Grounder]:
    """Architecture -> a grounder that hands on everything, loaded once."""
    return functools.cache(
        lambda architecture: create_grounder("zero_shot", checkpoint(architecture), settings=ALL)
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("width", "height"), [(150, 100), (60, 130), (96, 96)])
def test_boxes_are_those_of_the_network_in_pixels_of_the_frame(
    checkpoint: Callable[[str], Path],
    grounder_of: Callable[[str], Grounder],
    architecture: str,
    width: int,
    height: int,
) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder, frame = checkpoint(architecture), noise(width, height)
    found = grounder_of(architecture).find(frame, "red car").candidates

    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    from_numpy = pytest.importorskip("PIL.Image").fromarray
    text: Any = [["red car"]] if architecture == "owlv2" else "red car."
    inputs = processor(images=from_numpy(frame), text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    # Grounding DINO: fractions of the frame. OWLv2: of the square that the frame is padded to.
    unit = (max(width, height),) * 2 if architecture == "owlv2" else (width, height)
    cx, cy, w, h = (outputs.pred_boxes[0].double().numpy() * (*unit, *unit)).T
    scores = torch.sigmoid(outputs.logits[0]).amax(-1).numpy()
    left, top = np.maximum(cx - w / 2, 0), np.maximum(cy - h / 2, 0)
    right, bottom = np.minimum(cx + w / 2, width), np.minimum(cy + h / 2, height)
    visible = np.minimum(right - left, bottom - top) >= ALL.min_side
    expected = np.stack([left, top, right - left, bottom - top], 1)[visible]
    order = np.argsort(-scores[visible], kind="stable")

    assert len(found) == visible.sum() > 5
    got = np.array([candidate.score for candidate in found])
    np.testing.assert_allclose(got, scores[visible][order], atol=1e-5)
    for candidate in found:  # equal scores may come in another order
        distance = np.abs(expected - candidate.box).max(1)
        nearest = int(distance.argmin())
        assert distance[nearest] < 0.05
        assert scores[visible][nearest] == pytest.approx(candidate.score, abs=1e-5)


@pytest.mark.parametrize(("width", "height"), [(192, 96), (48, 96)])
def test_patches_of_owlv2_lie_where_they_were_cut(
    checkpoint: Callable[[str], Path], width: int, height: int
) -> None:
    """With a box head of zeros every patch proposes itself: 6 x 6 on the padded square."""
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - needs torch

    detector = open_detector(checkpoint("owlv2"), "cpu", 1)
    for parameter in detector.model.box_head.parameters():
        parameter.data.zero_()
    found = Grounder(detector, ALL).find(noise(width, height), "red car").candidates
    cell = max(width, height) / 6
    whole = [box.box for box in found if min(box.box[2:]) > 0.98 * cell]
    assert len(whole) > 5
    for x, y, w, h in whole:  # the network's own bias puts a box on its patch's lower right corner
        column, row = (x + w / 2) / cell, (y + h / 2) / cell
        assert column == pytest.approx(round(column), abs=0.02)
        assert row == pytest.approx(round(row), abs=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zero_shot_boxes_depend_on_the_text_alone(
    grounder_of: Callable[[str], Grounder], architecture: str
) -> None:
    grounder = grounder_of(architecture)
    frame = noise(120, 80)
    first = grounder.find(frame, "red car")
    assert grounder.find(frame, "red car").candidates == first.candidates
    assert grounder.find(frame, "blue dog").candidates != first.candidates
    assert first.backend == "zero_shot"


def test_thresholds_are_the_architectures(checkpoint: Callable[[str], Path]) -> None:
    assert create_grounder("zero_shot", checkpoint("grounding-dino")).threshold == 0.3
    assert create_grounder("zero_shot", checkpoint("owlv2")).threshold == 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frames_of_any_strides_and_size(
    grounder_of: Callable[[str], Grounder], architecture: str
) -> None:
    grounder = grounder_of(architecture)
    frame = noise(120, 80)
    swapped = np.ascontiguousarray(frame[..., ::-1])[..., ::-1]
    swapped.setflags(write=False)
    assert (
        grounder.find(swapped, "red car").candidates == grounder.find(frame, "red car").candidates
    )
    grounder.find(noise(40, 3), "red car")
    grounder.find(noise(3, 40), "red car")


@pytest.mark.parametrize(
    "text", ["红色的车", "🚗 car", "[SEP] car [CLS]", "<|endoftext|> car", "a. b? c!", "\x00 car"]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zero_shot_any_text_is_answered_or_refused(
    grounder_of: Callable[[str], Grounder], architecture: str, text: str
) -> None:
    grounder = grounder_of(architecture)
    try:
        assert grounder.find(noise(60, 40), text).candidates
    except InputError as error:
        assert "word" in str(error)  # noqa: PT017 - either is right, which depends on the words


def test_names_of_special_tokens_are_text(checkpoint: Callable[[str], Path]) -> None:
    from vt_models.grounding.zero_shot import open_detector  # noqa: PLC0415 - needs torch

    tokenizer = open_detector(checkpoint("grounding-dino"), "cpu", 1).processor.tokenizer
    assert tokenizer("[SEP] car")["input_ids"].count(tokenizer.sep_token_id) == 1


@pytest.mark.parametrize(("architecture", "reads"), [("grounding-dino", 38), ("owlv2", 14)])
def test_a_text_that_would_be_cut_is_refused(
    grounder_of: Callable[[str], Grounder], architecture: str, reads: int
) -> None:
    grounder = grounder_of(architecture)
    with pytest.raises(InputError, match=f"word pieces, {architecture} reads {reads}"):
        grounder.find(noise(60, 40), "red car " * 30)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_running_network_is_stopped(
    grounder_of: Callable[[str], Grounder], architecture: str
) -> None:
    grounder = grounder_of(architecture)
    looks = iter([False] * 5 + [True] * 100)
    with pytest.raises(GroundingCancelledError):
        grounder.find(noise(60, 40), "red car", lambda: next(looks))
    assert next(looks), "the network went on"
    assert grounder.find(noise(60, 40), "red car").candidates  # and works again


def test_nothing_is_looked_up_in_a_network(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    folders = [checkpoint(architecture) for architecture in ARCHITECTURES]
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for folder in folders:
        create_grounder("zero_shot", folder)


def test_a_missing_directory_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no config\.json; give a directory .* or hub:"):
        create_grounder("zero_shot", tmp_path)
    with pytest.raises(WeightsError, match="needs a checkpoint"):
        create_grounder("zero_shot")


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoint("owlv2")  # skips where transformers is missing
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="nobody/nothing cannot be loaded"):
        create_grounder("zero_shot", "hub:nobody/nothing")


def test_a_repository_in_the_hubs_cache_needs_no_network(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = checkpoint("owlv2")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert create_grounder("zero_shot", "hub:owner/tiny").find(noise(60, 40), "red car").best
    assert create_grounder("zero_shot", f"hub:owner/tiny@{'0' * 40}").threshold == 0.2


OLD_PROCESSORS = {
    "grounding-dino": {
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "format": "coco_detection",
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GroundingDinoImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "processor_class": "GroundingDinoProcessor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 160, "shortest_edge": 96},
    },
    "owlv2": {
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Owlv2ImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "Owlv2Processor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 96, "width": 96},
    },
}
OLD_TOKENIZERS = {
    "grounding-dino": {
        "cls_token": "[CLS]",
        "do_lower_case": True,
        "mask_token": "[MASK]",
        "model_max_length": 512,
        "pad_token": "[PAD]",
        "processor_class": "GroundingDinoProcessor",
        "sep_token": "[SEP]",
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[UNK]",
    },
    "owlv2": {
        "add_prefix_space": False,
        "bos_token": "<|startoftext|>",
        "do_lower_case": True,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": 16,
        "pad_token": "!",
        "processor_class": "Owlv2Processor",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>",
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_files_as_in_the_repositories_that_are_published(
    checkpoint: Callable[[str], Path],
    grounder_of: Callable[[str], Grounder],
    architecture: str,
    tmp_path: Path,
) -> None:
    """They were saved by transformers 4: the processor in two files, OWLv2's words in two more."""
    written = checkpoint(architecture)
    keep = {
        "grounding-dino": ("config.json", "model.safetensors", "tokenizer.json"),
        "owlv2": ("config.json", "model.safetensors", "vocab.json", "merges.txt"),
    }
    for name in keep[architecture]:
        shutil.copy(written / name, tmp_path / name)
    processor, tokenizer = OLD_PROCESSORS[architecture], OLD_TOKENIZERS[architecture]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    frame = noise(120, 80)
    old = create_grounder("zero_shot", tmp_path, settings=ALL).find(frame, "red car")
    assert old.candidates == grounder_of(architecture).find(frame, "red car").candidates


def test_weights_that_lack_tensors_are_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    numpy_file = pytest.importorskip("safetensors.numpy")
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint("owlv2"), folder)
    tensors = numpy_file.load_file(folder / "model.safetensors")
    del tensors["box_head.dense0.weight"]
    numpy_file.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 .* box_head\.dense0\.weight"):
        create_grounder("zero_shot", folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_precision_is_widened(
    checkpoint: Callable[[str], Path],
    grounder_of: Callable[[str], Grounder],
    architecture: str,
    tmp_path: Path,
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "half"
    shutil.copytree(checkpoint(architecture), folder)
    auto = transformers.AutoModelForZeroShotObjectDetection
    auto.from_pretrained(folder, dtype="float16").save_pretrained(folder)
    half = create_grounder("zero_shot", folder, settings=ALL).find(noise(120, 80), "red car")
    whole = grounder_of(architecture).find(noise(120, 80), "red car")
    assert half.best_score == pytest.approx(whole.best_score, abs=0.01)


def test_labels_are_words_of_the_text(grounder_of: Callable[[str], Grounder]) -> None:
    found = grounder_of("grounding-dino").find(noise(120, 80), "Red car")
    assert {item.label for item in found.candidates} <= {"", "red", "car", "red car"}
    assert {
        item.label for item in grounder_of("owlv2").find(noise(120, 80), "Red car").candidates
    } == {"Red car"}


def test_pickled_weights_are_not_read(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = tmp_path / "pickled"
    shutil.copytree(checkpoint("owlv2"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        create_grounder("zero_shot", folder)


def test_another_architecture_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(checkpoint("owlv2"), folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="is a 'bert'; this backend runs grounding-dino, owlv2"):
        create_grounder("zero_shot", folder)


def test_without_transformers_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackendError, match=r"pip install '\.\[grounding\]' in a checkout"):
        create_grounder("zero_shot", tmp_path)


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "tpu"])
def test_a_device_that_is_not_there_is_an_error(
    checkpoint: Callable[[str], Path], device: str
) -> None:
    if pytest.importorskip("torch").cuda.is_available() and device == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises((BackendError, InputError), match=r"cuda|onnx|tpu"):
        create_grounder("zero_shot", checkpoint("owlv2"), device=device)
