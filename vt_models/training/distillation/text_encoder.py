# SPDX-License-Identifier: Apache-2.0
"""A small text encoder learns what a large one says (distillation, Hinton et al., 2015).

A tracker reads short descriptions of things, for which a sentence encoder of 23 M parameters is
more than its eyes. The student learns the tokens that the teacher's last layer gives for the
same word pieces, through a linear map between the two widths that is thrown away afterwards: what
reads the student has a map of its own.

Few sentences about targets are at hand, and a word that is in none of them would stay what it was
at the start. So the texts are made up: sentences with words exchanged, and phrases such as "the A B
on the left" of any words of the vocabulary. They need not make sense; the teacher has an opinion on
all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.errors import DatasetError
from vt_models.files import parse_json, read_bytes
from vt_models.nets.bert import Bert, BertConfig, mean_word
from vt_models.text import Tokenizer

MINILM_L6 = BertConfig(dim=384, depth=6, hidden=1536, dropout=0.0)
"""all-MiniLM-L6-v2, the teacher."""

FRAMES = (
    "{}",
    "{} {}",
    "the {}",
    "a {} {}",
    "the {} {} {}",
    "{} with a {} {}",
    "the {} next to the {}",
    "the {} {} on the left",
    "the {} {} on the right",
    "{} {} in the {}",
)
"""Made-up phrases have these forms."""
EXCHANGED = 0.15
"""This share of the words of a sentence is replaced by others."""
SENTENCE_SHARE = 0.4
"""This share of the texts comes from sentences; the others are made-up phrases."""
COMMON_FIRST = 0.7
"""Words are drawn by rank to this power: BERT's vocabulary is sorted by frequency, and words that
people use should come up more often than others, but all of them should."""


@dataclass(frozen=True)
class ShrinkSettings:
    """How long and how fast the student learns.

    Attributes:
        steps: The optimiser takes so many steps.
        batch_size: Each step takes so many texts.
        lr: The learning rate rises to this linearly in 5 % of the steps and falls to 0 along half a
            cosine.
        length: A text is cut or padded to so many word pieces.
        seed: Texts are drawn by it, and weights and dropout where the caller seeds torch with it.
    """

    steps: int = 2400
    batch_size: int = 128
    lr: float = 2e-3
    length: int = 16
    seed: int = 7


def read_sentences(files: Sequence[Path]) -> list[str]:
    """Return all texts of some files: every string in a `.json`, every line elsewhere.

    Raises:
        DatasetError: a file that cannot be read, or none with a text.
    """
    sentences: list[str] = []
    for file in files:
        try:
            content = read_bytes(file).decode("utf-8")
            found = _strings(parse_json(content)) if file.suffix == ".json" else content.split("\n")
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{file} cannot be read: {error}") from error
        sentences += [line.strip() for line in found if line.strip()]
    if files and not sentences:
        raise DatasetError(f"{', '.join(map(str, files))}: there is no text in it")
    return sentences


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


class Texts:
    """Draws texts: sentences with words exchanged, and made-up phrases.

    Args:
        words: to make phrases of and to exchange words by, common ones first.
        sentences: may be empty.
        seed: of all texts.
    """

    def __init__(self, words: Sequence[str], sentences: Sequence[str], seed: int) -> None:
        self._words = words
        self._sentences = sentences
        self._rng = np.random.default_rng(seed)

    def draw(self, count: int) -> list[str]:
        """Return the next texts."""
        return [self._text() for _ in range(count)]

    def _text(self) -> str:
        if self._sentences and self._rng.random() < SENTENCE_SHARE:
            sentence = self._sentences[int(self._rng.integers(len(self._sentences)))]
            return " ".join(
                self._word() if self._rng.random() < EXCHANGED else word
                for word in sentence.split()
            )
        frame = FRAMES[int(self._rng.integers(len(FRAMES)))]
        return frame.format(*(self._word() for _ in range(frame.count("{}"))))

    def _word(self) -> str:
        rank = self._rng.random() ** (1.0 / COMMON_FIRST)
        return self._words[int(rank * len(self._words))]


def whole_words(tokenizer: Tokenizer) -> list[str]:
    """Return the words of a vocabulary that are in it whole, Latin letters only, in its order."""
    pieces = sorted(tokenizer.pieces().items(), key=lambda piece: piece[1])
    return [piece for piece, _ in pieces if re.fullmatch("[a-z]{2,}", piece)]


@torch.no_grad()
def start_from(student: Bert, teacher: Bert) -> None:
    """Give a student with narrow rows the best rows of their width: principal components, in place.

    The teacher's rows are centred first. Nothing happens where the student's are as wide as its
    tokens.
    """
    if isinstance(student.embeddings.widen, nn.Identity):
        return
    rows = teacher.embeddings.word_embeddings.weight
    rows = rows - rows.mean(0)
    _, _, components = torch.linalg.svd(rows, full_matrices=False)
    width = student.embeddings.word_embeddings.embedding_dim
    narrow = rows @ components[:width].T
    student.embeddings.word_embeddings.weight.copy_(narrow / narrow.std())


def shrink(
    student: Bert,
    teacher: Bert,
    tokenizer: Tokenizer,
    texts: Texts,
    settings: ShrinkSettings,
) -> Iterator[float]:
    """Teach a student what a teacher says of texts, in place.

    Args:
        student: learns; in evaluation mode at the end.
        teacher: any encoder of the same vocabulary.
        tokenizer: of that vocabulary.
        texts: to learn from.
        settings: of the optimiser.

    Yields:
        After each step how far the student is off: 1 - cosine, the mean over word pieces.
    """
    teacher.eval().requires_grad_(False)
    start_from(student, teacher)
    student.train()
    widen = nn.Linear(student.config.dim, teacher.config.dim)
    parameters = [*student.parameters(), *widen.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, settings.steps, pct_start=0.05
    )
    for _ in range(settings.steps):
        ids, mask = batch_of(texts.draw(settings.batch_size), tokenizer)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wanted = teacher(ids, mask)[-1].float()
        words, sentences = distances(widen(student(ids, mask)[-1]), wanted, mask)
        optimizer.zero_grad(set_to_none=True)
        (words + sentences).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield float(words.detach())
    student.eval()


def distances(found: Tensor, wanted: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - cosine of tokens (B, L, C), the mean over word pieces; and of their means."""
    words = 1.0 - F.cosine_similarity(found, wanted, dim=-1)[mask].mean()
    present = mask[..., None].float()
    means = (mean_word(found, present), mean_word(wanted, present))
    return words, 1.0 - F.cosine_similarity(*means, dim=-1).mean()


def batch_of(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Return word pieces of texts: ids (B, L) int64 and mask (B, L) bool."""
    ids, masks = zip(*(tokenizer(text) for text in texts), strict=True)
    return torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(masks))
