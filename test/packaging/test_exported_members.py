# SPDX-License-Identifier: Apache-2.0
"""`__all__` of each public package: every name resolves, is described, and none is forgotten."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    ".".join(file.parent.relative_to(ROOT).parts)
    for root in ("vt_models", "vt_ros")
    for file in sorted((ROOT / root).rglob("__init__.py"))
]


def public_names(package: str) -> set[str]:
    """Names without a leading underscore that a package's `__init__.py` defines, or takes from us.

    What is imported from the standard library or another project is not the package's own. Names
    below `if TYPE_CHECKING` count where they come from our packages: they are loaded on first use.
    """
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] in {"vt_models", "vt_ros"}
        ):
            found.update(alias.asname or alias.name for alias in node.names)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def own_docstring(value: object) -> str:
    """The docstring somebody wrote: not inherited, not made by `dataclass`."""
    text = (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__) or ""
    return "" if text.startswith(f"{getattr(value, '__name__', '')}(") else text


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_missing_from_all(package: str) -> None:
    module = importlib.import_module(package)
    exported = list(getattr(module, "__all__", []))
    assert len(set(exported)) == len(exported)
    assert public_names(package) == set(exported)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_resolves_and_is_described(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__, f"{package} has no docstring"
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert own_docstring(value).strip(), f"{package}.{name} has no docstring"
