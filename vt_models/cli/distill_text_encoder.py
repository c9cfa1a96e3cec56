# SPDX-License-Identifier: Apache-2.0
"""`vt-models distill-text-encoder`: a small text encoder for a tracker, taught by MiniLM."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import numpy as np
from tqdm import tqdm

from vt_models.api import create_model
from vt_models.cli.options import check_counts, check_weights_file
from vt_models.errors import InputError
from vt_models.nets.bert import Bert, load_text_weights
from vt_models.registry import get_spec
from vt_models.text import Tokenizer
from vt_models.training.cpu import keep_freed_memory
from vt_models.training.distillation.text_encoder import (
    MINILM_L6,
    ShrinkSettings,
    Texts,
    read_sentences,
    shrink,
    whole_words,
)
from vt_models.training.trainer import seed_everything
from vt_models.weights.tensors import save_weights

LAST_STEPS = 50
"""The mean over these is reported."""


def run(args: argparse.Namespace) -> int:
    """Runs `vt-models distill-text-encoder`."""
    settings = _checked(args)
    texts_at_hand = read_sentences(args.sentences)
    keep_freed_memory()
    seed_everything(settings.seed)
    teacher = Bert(MINILM_L6)
    load_text_weights(teacher, args.teacher)
    student = create_model(args.model).get_submodule("language")
    tokenizer = Tokenizer.uncased(settings.length)
    texts = Texts(whole_words(tokenizer), texts_at_hand, settings.seed)
    off: list[float] = []
    with tqdm(total=settings.steps, unit="step", file=sys.stderr) as bar:
        for distance in shrink(student, teacher, tokenizer, texts, settings):
            off.append(distance)
            bar.update()
            bar.set_postfix_str(f"1 - cosine {distance:.3f}")
    tensors = {name: value.numpy() for name, value in student.state_dict().items()}
    facts = {name: str(value) for name, value in dataclasses.asdict(settings).items()}
    save_weights(tensors, args.output, args.model, {"teacher": args.teacher.name, **facts})
    mean = float(np.mean(off[-LAST_STEPS:]))
    sys.stdout.write(f"{args.output}: 1 - cosine {mean:.3f} over the last {LAST_STEPS} steps\n")
    return 0


def _checked(args: argparse.Namespace) -> ShrinkSettings:
    """The settings; what would only fail after minutes is refused now."""
    check_counts(args, steps=1, batch_size=1)
    if not get_spec(args.model).language:
        raise InputError(f"--model {args.model} reads no text")
    check_weights_file(args.output, args.teacher)
    return ShrinkSettings(args.steps, args.batch_size, seed=args.seed)
