# SPDX-License-Identifier: Apache-2.0
"""What may import what: arrows run one way in each package, and packages keep their borders."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROS = {
    "action_msgs",
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "tf2_ros",
    "trajectory_msgs",
    "vision_msgs",
    "visualization_msgs",
    "vt_interfaces",
    "vt_ros",
}
TRAINING = {"timm", "torch", "torchvision", "transformers"}


def files_of(package: str) -> dict[str, Path]:
    """The files of a package by the dotted name of the module."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


class Imports(ast.NodeVisitor):
    """Names that a module imports, but for those that only a type checker sees.

    Each as far as it can be a module: `from a.b import c` gives `a.b` and `a.b.c`. Imports inside
    functions count: they happen, only later.
    """

    def __init__(self, module: str, is_package: bool) -> None:
        self.found: set[str] = set()
        self._package = module if is_package else module.rpartition(".")[0]

    def visit_If(self, node: ast.If) -> None:
        for part in node.orelse if is_type_checking(node.test) else [*node.body, *node.orelse]:
            self.visit(part)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self._package.split(".")[: len(self._package.split(".")) - node.level + 1]
        base = ".".join(filter(None, [*(above if node.level else []), node.module]))
        self.found.add(base)
        self.found.update(f"{base}.{alias.name}" for alias in node.names)


def imports_of(module: str, path: Path) -> set[str]:
    visitor = Imports(module, path.name == "__init__.py")
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return visitor.found


def graph_of(package: str) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports.

    A module's own package is not counted: Python has imported it before, whoever asks.
    """
    files = files_of(package)
    return {
        module: {
            name
            for name in imports_of(module, path) & files.keys()
            if name != module and not module.startswith(f"{name}.")
        }
        for module, path in files.items()
    }


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, the first one again at the end; empty if there is none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(graph[module]):
            circle = walk(name, [*path, module])
            if circle:
                return circle
        done.add(module)
        return []

    return next(filter(None, (walk(module, []) for module in sorted(graph))), [])


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph between the folders of a package; a loose module is a room of its own."""
    rooms: dict[str, set[str]] = {}
    for module, names in graph.items():
        here = ".".join(module.split(".")[:2])
        there = {".".join(name.split(".")[:2]) for name in names}
        rooms.setdefault(here, set()).update(there - {here})
    return rooms


def importers(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in files_of(package).items()
        for name in sorted(imports_of(module, path))
        if name.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize(("package", "least"), [("vt_models", 150), ("vt_ros", 25)])
def test_modules_of_a_package_have_no_import_circle(package: str, least: int) -> None:
    graph = graph_of(package)
    assert len(graph) > least
    assert not circle_in(graph)


@pytest.mark.parametrize("package", ["vt_models", "vt_ros"])
def test_no_circle_between_the_rooms_of_a_package(package: str) -> None:
    assert not circle_in(rooms_of(graph_of(package)))


def test_vt_ros_imports_no_torch() -> None:
    assert not importers("vt_ros", TRAINING)


WITHOUT_TORCH = ("evaluation", "geometry", "longterm", "runtime", "tracker")
"""Rooms of vt_models that can be imported where torch is not installed."""


def test_runtime_rooms_import_without_torch_except_the_torch_engine() -> None:
    modules = [
        module
        for module in files_of("vt_models")
        if module.startswith(tuple(f"vt_models.{room}" for room in WITHOUT_TORCH))
    ]
    assert len(modules) > 40
    program = (
        "import importlib, sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'transformers'):\n"
        "    sys.modules[name] = None  # importing it raises ImportError\n"
        "for module in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(module)\n"
        "    except ImportError as error:\n"
        "        print(module)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["vt_models.runtime.torch_engine"]


def test_vt_models_imports_no_ros() -> None:
    assert not importers("vt_models", ROS)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import torch.nn", {"torch.nn"}),
        ("from rclpy import node", {"rclpy", "rclpy.node"}),
        ("from . import b", {"package", "package.b"}),
        ("from ..c import d", {"c", "c.d"}),
        ("def f():\n    import torch", {"torch"}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import cv2", {"cv2"}),
        ("if typing.TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_imports_are_found(source: str, names: set[str]) -> None:
    visitor = Imports("package.a", is_package=False)
    if source.startswith("from .."):
        visitor = Imports("package.room.a", is_package=False)
        names = {f"package.{name}" for name in names}
    visitor.visit(ast.parse(source))
    assert visitor.found == names


def test_circles_are_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert circle_in(rooms_of({"p.x.a": {"p.y.a"}, "p.y.b": {"p.x.b"}, "p.x.b": set()})) == [
        "p.x",
        "p.y",
        "p.x",
    ]
