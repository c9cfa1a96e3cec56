# SPDX-License-Identifier: Apache-2.0
"""One version everywhere, and the files about the project itself are well formed."""

from __future__ import annotations

import ast
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAPERS = {  # a word of the title: (year, where it appeared, first author)
    "Two-stream": (2025, "AAAI", "Zhu"),
    "ProContEXT": (2023, "ICASSP", "Lan"),
    "Spatio-Temporal": (2021, "ICCV", "Yan"),
    "Correlation-Aware": (2022, "CVPR", "Xie"),
    "Semantic-Visual": (2024, "IEEE Transactions", "Liang"),
}


def package_version(name: str = "package.xml") -> str:
    return ET.parse(ROOT / name).findtext("version")  # noqa: S314 - our own file


def changelog_versions() -> list[str]:
    """Headings of CHANGELOG.rst below its title, the newest first."""
    lines = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8").splitlines()
    return [above for above, line in itertools.pairwise(lines) if re.fullmatch("-{3,}", line)]


def setup_keywords() -> dict[str, ast.expr]:
    """Arguments of the call of `setup` in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_one_version_for_all_files() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    found = {
        "package.xml": package_version(),
        "vt_interfaces/package.xml": package_version("vt_interfaces/package.xml"),
        "setup.py": ast.literal_eval(setup_keywords()["version"]),
        "CITATION.cff": str(citation["version"]),
    }
    released = [heading.split()[0] for heading in changelog_versions() if heading != "Forthcoming"]
    if released:
        found["CHANGELOG.rst"] = released[0]
    assert len(set(found.values())) == 1, found


def test_changelog_headings_are_forthcoming_or_dated_versions() -> None:
    headings = changelog_versions()
    assert headings
    for number, heading in enumerate(headings):
        dated = re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", heading)
        assert dated or (number == 0 and heading == "Forthcoming"), heading


def test_citation_names_the_papers_of_the_trackers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= citation.keys()
    references = citation["references"]
    assert len(references) == len(PAPERS)
    for word, (year, venue, author) in PAPERS.items():
        paper = next(one for one in references if word in one["title"])
        place = paper.get("journal") or paper["conference"]["name"]
        assert (paper["year"], paper["authors"][0]["family-names"]) == (year, author)
        assert venue in place


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms_have_what_github_demands(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]


def test_description_on_pypi_is_the_readme() -> None:
    keywords = setup_keywords()
    assert "README.md" in ast.unparse(keywords["long_description"])
    assert ast.literal_eval(keywords["long_description_content_type"]) == "text/markdown"
