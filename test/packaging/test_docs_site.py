# SPDX-License-Identifier: Apache-2.0
"""The documentation site: pages, API references and links; `make docs` builds it strictly."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROOT_PAGES = {"index.md", "CONTRIBUTING.md"}  # made of README.md and CONTRIBUTING.md
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))


def nav_pages(entries: list[Any]) -> list[str]:
    found = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += nav_pages(value) if isinstance(value, list) else [value]
    return found


def configuration() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def test_every_page_of_the_navigation_exists() -> None:
    pages = nav_pages(configuration()["nav"])
    assert len(set(pages)) == len(pages)
    missing = [page for page in pages if page not in ROOT_PAGES and not (DOCS / page).is_file()]
    assert not missing


def test_every_tutorial_is_linked_where_github_shows_the_folder() -> None:
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (DOCS / link).is_file()] == []
    assert {page.name for page in TUTORIALS} <= {Path(link).name for link in links}


def test_no_page_makes_the_site_ask_another_server() -> None:
    """The theme loads Mermaid's script from unpkg.com as soon as a page has such a diagram."""
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    outside = re.compile(r"^ *```mermaid|!\[[^\]]*\]\(https?:|<(img|script)[^>]*https?:", re.M)
    assert [page.name for page in pages if outside.search(page.read_text("utf-8"))] == []
    assert configuration()["theme"]["font"] is False


def test_signatures_are_laid_out_by_the_ruff_that_lints() -> None:
    """Without a formatter a class with many settings has a signature of 2,590 columns."""
    pins = [
        re.findall(r"^ruff==(\S+)", (ROOT / "requirements" / name).read_text("utf-8"), re.M)
        for name in ("docs.txt", "lint.txt")
    ]
    assert pins[0] == pins[1] != []


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=lambda p: p.name)
def test_every_name_of_the_api_reference_exists(page: Path) -> None:
    names = re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert names
    for name in names:
        if name.startswith("vt_ros"):
            pytest.importorskip("rclpy", reason="ROS 2 is not installed")
        module, _, member = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), member), name


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.name)
def test_python_and_yaml_of_tutorials_can_be_parsed(page: Path) -> None:
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    for language, text in blocks:
        if language == "python":
            ast.parse(text)
        else:
            assert yaml.safe_load(text)


@pytest.fixture
def site() -> Any:
    pytest.importorskip("mkdocs", reason="needs requirements/docs.txt")
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Files:
    """The pages that a site holds."""

    pages = ("index.md", "CONTRIBUTING.md", "evaluation.md", "ros/README.md")

    def get_file_from_path(self, path: str) -> str | None:
        return path if path in self.pages else None


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("index.md", "[a](docs/evaluation.md#x)", "[a](evaluation.md#x)"),
        ("ros/README.md", "[a](../evaluation.md)", "[a](../evaluation.md)"),
        ("ros/README.md", "[a](../../README.md)", "[a](../index.md)"),
        ("ros/README.md", "[a](../README.md)", "[a](../index.md)"),
        ("evaluation.md", "[a](../setup.py)", "a (`setup.py`)"),
        ("evaluation.md", "[setup.py](../setup.py)", "setup.py"),
        ("evaluation.md", "[a](https://example.org)", "[a](https://example.org)"),
        ("evaluation.md", "```\n[a](../setup.py)\n```", "```\n[a](../setup.py)\n```"),
    ],
)
def test_links_are_made_fit_for_the_site(site: Any, source: str, link: str, expected: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=source))
    assert site.on_page_markdown(link, page, None, Files()) == expected


def test_a_link_that_leads_nowhere_is_a_warning(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="evaluation.md"))
    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        site.on_page_markdown("[a](../no/such/file.py)", page, None, Files())
    assert "the link to ../no/such/file.py leads nowhere" in caplog.text
