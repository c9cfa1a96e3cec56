# SPDX-License-Identifier: Apache-2.0
"""BERT's encoder (Devlin et al., NAACL 2019), which gives the word tokens of every layer.

Post-norm transformer layers over the sum of word, position and segment embeddings. Parameter names
are those of the files that are published for BERT and MiniLM, so these load strictly. The pooler
and the masked-word head of such files are not created: nothing here reads the sentence token alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.errors import WeightsError
from vt_models.weights.tensors import describe_difference, dtype_name, layout_of, read_tensors

NORM_EPSILON = 1e-12
INIT_STD = 0.02
MASKED = -3e4
"""Added to the logits of padding: its weight is exactly 0 where there is any word, and finite in
float16 where there is none."""


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Layout of a BERT encoder; the defaults are BERT-base uncased.

    Attributes:
        dim, depth, heads: width of a token, number of layers, attention heads of each.
        hidden: width inside the feed-forward part.
        vocabulary: rows of the word embedding.
        embedding: width of those rows where they are narrower than a token, with a linear map
            behind them: ALBERT's factorisation (Lan et al., ICLR 2020, section 3.1). None: `dim`.
        positions: rows of the position embedding, the longest text in word pieces.
        dropout: rate in training, where BERT has it: embeddings, attention weights and both
            residual branches.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    vocabulary: int = 30522
    embedding: int | None = None
    positions: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim < 1 or self.dim % self.heads:
            raise ValueError(
                f"`language.dim` {self.dim} is no multiple of `language.heads` {self.heads}"
            )


class Bert(nn.Module):
    """Word pieces to the tokens of every layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config.depth))}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """Encode texts.

        Args:
            ids: (B, L) int64, word pieces.
            mask: (B, L) bool, True where there is a word piece. What stands elsewhere changes
                nothing where it is True.

        Returns:
            (B, L, C) for each layer, the first one first; meaningless where `mask` is False.
        """
        bias = padding_bias(mask)[:, None, None, :]
        x = self.embeddings(ids)
        outputs: list[Tensor] = []
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
            outputs.append(x)
        return outputs


class Embeddings(nn.Module):
    """Sum of word, position and segment (always the first), normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.embedding or config.dim
        self.word_embeddings = nn.Embedding(config.vocabulary, width)
        self.widen = (
            nn.Identity() if config.embedding is None else nn.Linear(width, config.dim, bias=False)
        )
        self.position_embeddings = nn.Embedding(config.positions, config.dim)
        self.token_type_embeddings = nn.Embedding(2, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """Word pieces (B, L) -> (B, L, C)."""
        positions = self.position_embeddings.weight[: ids.shape[1]]
        x = self.widen(self.word_embeddings(ids)) + (
            positions + self.token_type_embeddings.weight[0]
        )
        return self.dropout(self.LayerNorm(x))


class Layer(nn.Module):
    """``x = LN(x + attention(x))``, then ``LN(x + feed_forward(x))``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": Residual(config.dim, config)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.dim, config.hidden)})
        self.output = Residual(config.hidden, config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Tokens (B, L, C) and the bias (B, 1, 1, L) of the logits -> (B, L, C)."""
        x = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class SelfAttention(nn.Module):
    """Multi-head self-attention without its output projection, which is in ``Residual``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.rate = config.dropout
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Tokens (B, L, C) and the bias (B, 1, 1, L) of the logits -> (B, L, C)."""
        query, key, value = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        logits = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias
        weights = F.dropout(torch.softmax(logits, dim=-1), self.rate, self.training)
        return (weights @ value).transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """Projection back to the width of a token, added to the tokens and normalised."""

    def __init__(self, inputs: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """Branch (B, L, inputs) and tokens (B, L, C) -> (B, L, C)."""
        return self.LayerNorm(self.dropout(self.dense(branch)) + x)


def padding_bias(mask: Tensor) -> Tensor:
    """Mask (any shape, True where there is a word) -> float32: 0 there and ``MASKED`` elsewhere."""
    return (~mask).float() * MASKED


def mean_word(words: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the words, BERT's [CLS] and [SEP] among them; 0 where there is none.

    Args:
        words: (B, L, C).
        present: (B, L, 1), 1 where there is a word, else 0.

    Returns:
        (B, C).
    """
    return (words * present).sum(1) / present.sum(1).clamp(min=1)


UNUSED_PUBLISHED = ("pooler.", "cls.", "embeddings.position_ids")
"""How the names of those published tensors begin that nothing here reads."""


def load_text_weights(bert: Bert, file: str | Path) -> tuple[str, ...]:
    """Load a published BERT or MiniLM, strictly, in place.

    Args:
        bert: an encoder of the file's layout.
        file: `.safetensors` as published, for instance MiniLM's `model.safetensors`. Names may
            begin with `bert.`, and norms may have the first release's `gamma` and `beta`.

    Returns:
        Names in the file that nothing reads: pooler, masked-word head, position indices.

    Raises:
        WeightsError: the file is missing or damaged, or its tensors are not the encoder's. The
            encoder is then unchanged.
    """
    path = Path(file)
    stored, _ = read_tensors(path)
    names = {name: current_name(name) for name in stored}
    unused = tuple(name for name in stored if names[name].startswith(UNUSED_PUBLISHED))
    tensors = {names[name]: tensor for name, tensor in stored.items() if name not in unused}
    found = {name: (dtype_name(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    if difference := describe_difference(layout_of(bert), found):
        raise WeightsError(f"{path} does not fit this text encoder: {difference}")
    bert.load_state_dict(tensors)
    return unused


def current_name(published: str) -> str:
    """Return the name here of a tensor of a published file."""
    name = published.removeprefix("bert.")
    for previous, now in (
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.beta", "LayerNorm.bias"),
    ):
        name = name.replace(previous, now)
    return name
