# SPDX-License-Identifier: Apache-2.0
"""Hooks of mkdocs: README.md is the front page, and links to files outside of docs/ are checked.

The documentation is read in two places: in the repository, where a link leads to any file, and as a
site, which holds docs/ alone. A link to a file that the site does not hold becomes its name.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
LINKED_PAGES = {**ROOT_PAGES, "docs/README.md": "index.md"}  # the latter is for GitHub alone
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^( *```.*?^ *```)", re.MULTILINE | re.DOTALL)

log = logging.getLogger("mkdocs.hooks.docs_site")  # a warning below mkdocs ends a strict build


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in the root of the repository."""
    for source, page in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:  # noqa: ARG001 - mkdocs passes four by name
    """Make links relative to docs/, and name what lies outside of it."""
    source = page.file.src_uri
    at_root = source in ROOT_PAGES.values()
    folder = "" if at_root else posixpath.join("docs", posixpath.dirname(source))

    def rewrite(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        page_path = LINKED_PAGES.get(path, path.removeprefix("docs/"))
        if (path in ROOT_PAGES or path.startswith("docs/")) and files.get_file_from_path(page_path):
            here = "" if at_root else posixpath.dirname(source)
            relative = posixpath.relpath(page_path, here or ".")
            return f"{image}[{label}]({relative}{anchor or ''})"
        if not (ROOT / path).exists():
            log.warning("%s: the link to %s leads nowhere", source, target)
        return label if label.strip("`") in (path, Path(path).name) else f"{label} (`{path}`)"

    parts = FENCE.split(markdown)  # code blocks are the odd ones
    return "".join(
        part if number % 2 else LINK.sub(rewrite, part) for number, part in enumerate(parts)
    )
