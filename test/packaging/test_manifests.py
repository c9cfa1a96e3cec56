# SPDX-License-Identifier: Apache-2.0
"""package.xml, setup.py and the sources say the same."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = (
    *("package.xml", "vt_interfaces/package.xml"),
    *("vision_msgs_fallback/package.xml", "tf2_msgs_fallback/package.xml"),
    "foxglove_msgs_fallback/package.xml",
)
# Module -> rosdep key, for modules that ROS users install as system packages.
KEYS = {
    "aiohttp": "python3-aiohttp",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "yaml": "python3-yaml",
    "tf2_ros": "tf2_ros_py",
    "tqdm": "python3-tqdm",
}
WITHOUT_KEY = {"vt_models", "vt_ros"}  # our own
OPTIONAL = {"bond", "matplotlib", "onvif", "rosbags", "simplejpeg"}  # used where it is installed


def manifest(repository: Path, name: str) -> ET.Element:
    return ET.fromstring((repository / name).read_text(encoding="utf-8"))  # noqa: S314


def imported_modules(files: Iterator[Path]) -> set[str]:
    """Top-level names of all absolute imports."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", PACKAGES)
def test_manifest_is_complete(repository: Path, name: str) -> None:
    root = manifest(repository, name)
    assert root.get("format") == "3"
    assert root.findtext("license") == "Apache-2.0"
    assert root.find("maintainer") is not None
    assert root.findtext("description").strip()


def test_keys_have_the_form_of_rosdep_keys(repository: Path) -> None:
    for name in PACKAGES:
        keys = [e.text for e in manifest(repository, name) if e.tag.endswith("depend")]
        assert len(keys) == len(set(keys))
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*|python3-[a-z0-9-]+", key) for key in keys), keys


def test_what_colcon_test_needs_comes_with_rosdep(repository: Path) -> None:
    """Ubuntu 24.04, that of ROS 2 Jazzy, has pytest 7.4 and hypothesis 6.98."""
    keys = {one.text for one in manifest(repository, "package.xml").iter("test_depend")}
    assert {"python3-hypothesis", "python3-pytest", "python3-pytest-timeout"} <= keys
    wanted = (repository / "requirements" / "test.txt").read_text(encoding="utf-8")
    assert re.search(r"^pytest>=7\.4 ", wanted, re.MULTILINE)
    assert re.search(r"^hypothesis>=6\.98 ", wanted, re.MULTILINE)


def test_words_of_colcon_test_are_not_handed_on(repository: Path) -> None:
    code = (
        "import os, runpy; runpy.run_path('test/conftest.py'); print(os.environ['PYTEST_ADDOPTS'])"
    )
    environment = {**os.environ, "PYTEST_ADDOPTS": "test"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert "KeyError: 'PYTEST_ADDOPTS'" in result.stderr


def test_every_import_of_the_nodes_is_declared(repository: Path) -> None:
    root = manifest(repository, "package.xml")
    declared = {element.text for element in root if element.tag.endswith("depend")}
    files = [*(repository / "vt_ros").rglob("*.py"), *(repository / "launch").rglob("*.py")]
    wanted = imported_modules(iter(files)) - WITHOUT_KEY - OPTIONAL
    assert {KEYS.get(module, module) for module in wanted} <= declared


def test_setup_py_installs_what_ros_looks_for(repository: Path) -> None:
    code = (
        "import setuptools, runpy, json; kept = {};"
        "setuptools.setup = kept.update; setuptools.setup = lambda **words: kept.update(words);"
        "runpy.run_path('setup.py');"
        "print(json.dumps([kept['data_files'], kept['packages'], kept['install_requires']]))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], cwd=repository, text=True)
    places, packages, requirements = ast.literal_eval(output)
    folders = dict(map(tuple, places))
    assert folders["share/ament_index/resource_index/packages"] == ["resource/vt_ros"]
    assert "package.xml" in folders["share/vt_ros"]
    assert "launch/tracker.launch.py" in folders["share/vt_ros/launch"]
    assert "config/tracker.yaml" in folders["share/vt_ros/config"]
    assert {"vt_ros", "vt_models", "vt_models.nets", "vt_models.weights"} <= set(packages)
    assert not any(name.startswith(("test", "benchmarks")) for name in packages)
    assert not any(name.startswith("torch") for name in requirements)


def test_console_scripts_can_be_imported() -> None:
    try:
        scripts = [e for e in distribution("vt_ros").entry_points if e.group == "console_scripts"]
    except PackageNotFoundError:
        pytest.skip("vt_ros is not installed; run `make setup`")
    nodes = {"tracker_node", "camera_node", "mavlink_camera_node", "look_at_node", "console_node"}
    programs = {*nodes, "target_3d_node", "demo", "vt-models"}
    assert programs == {e.name for e in scripts}
    for script in scripts:
        if script.module.startswith("vt_ros"):
            pytest.importorskip("rclpy")
        assert callable(getattr(importlib.import_module(script.module), script.attr))


def test_runtime_never_asks_for_two_opencv_wheels(repository: Path) -> None:
    wheels = re.findall(
        r"^opencv[a-z-]*",
        "\n".join(file.read_text(encoding="utf-8") for file in repository.glob("requirements/*")),
        flags=re.MULTILINE,
    )
    assert set(wheels) == {"opencv-contrib-python-headless"}


def test_readme_installs_what_rosdep_has_no_key_for(repository: Path) -> None:
    lines = (repository / "requirements" / "runtime.txt").read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[<>=#\s]", line)[0] for line in lines if line and not line.startswith("#")}
    with_key = {"numpy", "onnxruntime", "opencv-contrib-python-headless", "PyYAML", "tqdm"}
    readme = (repository / "README.md").read_text(encoding="utf-8")
    command = re.search(r"pip install --break-system-packages ([^#\n]*)", readme)[1].split()
    assert names - with_key == set(command)
