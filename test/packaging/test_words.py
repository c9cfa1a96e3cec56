# SPDX-License-Identifier: Apache-2.0
"""The field's words, one for one thing: words that were replaced do not come back.

A word is listed only where it has no other meaning in this project. Tests, results and the change
log may use it: they quote what was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    *("vt_models", "vt_ros", "vt_interfaces", "benchmarks", "examples", "scripts"),
    *("docs", "recipes", "config", "launch", "README.md", "CONTRIBUTING.md", "mkdocs.yml"),
)
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".msg", ".srv", ".sh"}
QUOTED = re.compile(r"<!-- /?number.*?-->")  # keys of result files


class Word(NamedTuple):
    """A word that is not used, the one that is, and files that must name it: old spellings."""

    pattern: str
    instead: str
    allowed: tuple[str, ...] = ()


OPTIONS = "vt_models/cli/options.py"
SHARED_FOLDER = ("benchmarks/run.py", "benchmarks/longterm.py")  # a folder has that name
WORDS = (
    Word(r"(?i)\bentrants?\b", "trackers, evaluated trackers"),
    Word(
        r"(?i)(?<!/)\bpeers?\b",
        "baselines; of processes: other processes",
        (
            OPTIONS,
            "vt_models/evaluation/reports/comparison.py",
            "docs/evaluation.md",
            *SHARED_FOLDER,
        ),
    ),
    Word(r"(?i)\bkeepers?\b", "long-term tracker", ("vt_models/evaluation/longterm/report.py",)),
    Word(r"(?i)\b(?<!weights/)(?<!\")shipped\b(?!/)|shipped_", "bundled"),
    Word(r"(?i)\bbare tracker", "short-term tracker"),
    Word(r"\b[Gg]lances?\b", "FrameStatistics"),
    Word(r"\bshrink-text\b", "distill-text-encoder", (OPTIONS,)),
    Word(r"(?i)\blikeness", "similarity", ("vt_models/longterm/calibration.py",)),
    Word(r"(?i)\bphotographs?\b", "image"),
    Word(r"(?i)\bpictures?\b", "frame (of a video), image (a file)"),
    Word(r"\bbox_spread\b", "box covariance"),
    Word(
        r"\bsize_fit\b",
        "size_calibration",
        ("vt_models/runtime/export_directory.py", "vt_models/cli/export.py"),
    ),
    Word(r"\bprobation\b", "unconfirmed"),
    Word(r"\bbefore_find\b", "before re-detection"),
    Word(r"\btakes_text\b", "has_language_input"),
    Word(r"\bstart_in_the_past\b", "start_at_stamp"),
    Word(r"\bArrivals?\b", "BufferedImage, DeliveryStats"),
    Word(r"\b(DOUBTFUL|BLIND)\b", "WEAK, NO_IMAGE"),
    Word(r"\b(Lesson|Students|Finisher|Wanted|Numbered|Agreement)\b", "see the glossary"),
    Word(r"\b(QUIET|MARKED|RARITY|SAYS_THE_SAME|_FAVOUR)\b", "what the constant is"),
    Word(r"(?i)\bthe very\b", "exactly that"),
    Word(r"(?i)\bwhoever\b", "the caller"),
    Word(r"(?i)\bformer\b", "previous"),
    Word(r"(?i)\bas the authors have it\b", "as published"),
    Word(r"(?i)\bdata sets?\b", "dataset"),
    Word(r"(?i)(?<!way )\bback ends?\b", "backend"),
)
PENDING: dict[str, int] = {}
"""Words that still occur, by pattern, and how often at most: to be emptied, never to grow."""


def files() -> list[Path]:
    found = []
    for place in PLACES:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*"))
    return [
        path
        for path in found
        if path.suffix in SUFFIXES and not {"shipped", "results", "__pycache__"} & set(path.parts)
    ]


TEXTS = {str(path.relative_to(ROOT)): QUOTED.sub("", path.read_text("utf-8")) for path in files()}


def places_of(word: Word) -> list[str]:
    """`FILE:LINE` of every occurrence."""
    return [
        f"{name}:{number}"
        for name, text in TEXTS.items()
        if name not in word.allowed
        for number, line in enumerate(text.splitlines(), 1)
        for _ in re.finditer(word.pattern, line)
    ]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.pattern)
def test_word_does_not_come_back(word: Word) -> None:
    places = places_of(word)
    most = PENDING.get(word.pattern, 0)
    assert len(places) <= most, f"say {word.instead} instead at {', '.join(places)}"


def test_pending_words_are_on_the_list_and_still_occur() -> None:
    by_pattern = {word.pattern: word for word in WORDS}
    assert set(PENDING) <= set(by_pattern)
    done = [pattern for pattern in PENDING if not places_of(by_pattern[pattern])]
    assert not done, f"remove from PENDING: {done}"


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.pattern)
def test_files_that_may_use_a_word_exist(word: Word) -> None:
    assert all(name in TEXTS for name in word.allowed)
