# SPDX-License-Identifier: Apache-2.0
"""A small text encoder learns what a large one says, of words that no sentence has."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")
pytest.importorskip("tokenizers", reason="needs the library tokenizers")

from pathlib import Path

from safetensors.torch import save_file

from vt_models.api import create_model
from vt_models.cli.main import main
from vt_models.errors import DatasetError
from vt_models.nets.bert import Bert, BertConfig, load_text_weights
from vt_models.text import Tokenizer
from vt_models.training.distillation.text_encoder import (
    MINILM_L6,
    ShrinkSettings,
    Texts,
    batch_of,
    distances,
    read_sentences,
    shrink,
    start_from,
    whole_words,
)

TEACHER = BertConfig(dim=48, depth=2, heads=4, hidden=96, positions=32, dropout=0.0)
STUDENT = BertConfig(dim=24, depth=1, heads=4, hidden=48, positions=32, embedding=12)


def test_distillation_brings_student_closer_to_teacher() -> None:
    torch.manual_seed(0)
    teacher, student = Bert(TEACHER), Bert(STUDENT)
    tokenizer = Tokenizer.uncased(12)
    texts = Texts(whole_words(tokenizer)[:200], ["the white car turns"], seed=3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    settings = ShrinkSettings(steps=120, batch_size=32, lr=5e-3, length=12)

    off = list(shrink(student, teacher, tokenizer, texts, settings))

    assert len(off) == 120
    assert np.mean(off[-10:]) < 0.35 * off[0]
    assert not student.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_student_starts_from_principal_components() -> None:
    torch.manual_seed(0)
    teacher, student = Bert(TEACHER), Bert(STUDENT)
    rows = teacher.embeddings.word_embeddings.weight
    with torch.no_grad():
        rows.copy_(torch.randn(len(rows), 12) @ torch.randn(12, 48))
    start_from(student, teacher)
    found = student.embeddings.word_embeddings.weight
    centred = rows - rows.mean(0)
    solution = torch.linalg.lstsq(found, centred).solution
    torch.testing.assert_close(found @ solution, centred, atol=1e-3, rtol=0)


def test_distances_ignore_padding() -> None:
    found, wanted = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    words, sentences = distances(found, wanted, mask)
    found[0, 3:] = 7.0
    again = distances(found, wanted, mask)
    assert (float(words), float(sentences)) == pytest.approx(tuple(map(float, again)))
    assert distances(wanted, wanted, mask)[0] == pytest.approx(0.0, abs=1e-6)


def test_made_up_texts_use_rare_words_too() -> None:
    words = whole_words(Tokenizer.uncased(8))
    assert len(words) > 20_000
    assert words.index("the") < 50 < words.index("squirrel")
    texts = Texts(words, ["a dog runs"], seed=1).draw(2000)
    used = {word for text in texts for word in text.split()}
    assert len(used & set(words[10_000:])) > 500
    assert texts[:5] == Texts(words, ["a dog runs"], seed=1).draw(5)
    ids, mask = batch_of(texts[:3], Tokenizer.uncased(8))
    assert ids.shape == mask.shape == (3, 8)


def test_sentences_come_from_json_and_from_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": ["a dog", "a cat"], "y": "a bus", "z": 3}))
    (tmp_path / "b.txt").write_text("one line\n\n  another  \n")
    found = read_sentences([tmp_path / "a.json", tmp_path / "b.txt"])
    assert found == ["a dog", "a cat", "a bus", "one line", "another"]
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.txt").write_text("\n")
    for name, what in (("broken.json", "cannot be read"), ("empty.txt", "no text"), ("no", "no")):
        with pytest.raises(DatasetError, match=f"{name}.*{what}"):
            read_sentences([tmp_path / name])


def test_the_command_writes_what_training_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    teacher = tmp_path / "model.safetensors"
    save_file(Bert(MINILM_L6).state_dict(), teacher)
    output = tmp_path / "text.safetensors"
    words = ["shrink-text", str(teacher), "--output", str(output), "--steps", "2"]

    assert main([*words, "--batch-size", "4"]) == 0

    assert "1 - cosine" in capsys.readouterr().out
    language = create_model("pjvlt_tiny").get_submodule("language")
    assert load_text_weights(language, output) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--steps", "0"], "--steps is 0"),
        (["--batch-size", "-1"], "--batch-size is -1"),
        (["--model", "asymtrack_t"], "reads no text"),
        (["--output", "nowhere/text.safetensors"], "in a directory that exists"),
        (["--output", "text.pt"], "ends in .safetensors"),
        (["--sentences", "missing.txt"], "missing.txt cannot be read"),
        ([], "teacher.safetensors"),
    ],
)
def test_distill_text_encoder_command_impossible_values_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["shrink-text", "teacher.safetensors", "--output", "text.safetensors", *change]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
