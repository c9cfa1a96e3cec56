# SPDX-License-Identifier: Apache-2.0
"""Numbers in README.md and docs/ are those of benchmarks/results."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import fill_numbers

RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("page", fill_numbers.pages(ROOT), ids=lambda path: path.name)
def test_no_page_differs_from_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill_numbers.filled(text, RESULTS) == text, "run scripts/fill_numbers.py"


@pytest.mark.parametrize("page", fill_numbers.pages(ROOT), ids=lambda path: path.name)
def test_every_mark_is_well_formed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall("<!-- /?number", text)) == 2 * len(fill_numbers.NUMBER.findall(text))


@pytest.mark.parametrize(
    ("page", "trackers", "accuracy", "speed"),
    [("README.md", 4, 1, 1), ("docs/results.md", 7, 5, 2)],
)
def test_tables_of_trackers_are_filled(page: str, trackers: int, accuracy: int, speed: int) -> None:
    rows = [
        line
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and "performance/speed.json" in line
    ]
    assert len(rows) >= trackers
    for row in rows:
        assert row.count("<!-- number accuracy.json") == accuracy
        assert row.count("<!-- number performance/speed.json") == speed
        assert not re.search(r"\d\.\d", re.sub(r"<!-- number.*?/number -->", "", row)), row


def test_a_number_is_replaced_and_its_mark_stays(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": {"y": [0.12345]}, "b.c, d": {"e": 0.5}}))
    text = "AO <!-- number a.json x.y.0 .3f -->0.9<!-- /number -->, {}".format(
        "<!-- number a.json b.c, d/e percent -->1 %<!-- /number -->"
    )
    new = fill_numbers.filled(text, tmp_path)
    assert "-->0.123<!--" in new
    assert "-->50 %<!--" in new
    assert fill_numbers.filled(new, tmp_path) == new


@pytest.mark.parametrize("mark", ["b.json x .3f", "a.json x.z .3f", "a.json x.y.7 .3f"])
def test_a_mark_that_leads_nowhere_is_an_error(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": {"y": [0.1]}}))
    with pytest.raises(fill_numbers.NumberError):
        fill_numbers.filled(f"<!-- number {mark} -->0<!-- /number -->", tmp_path)
