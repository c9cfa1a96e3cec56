# SPDX-License-Identifier: Apache-2.0
"""What the set-up says about a machine that lacks something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import machine

VENV = Path("/project/.venv")


def python(
    minor: int, *, venv: bool = True, headers: bool = True, rclpy: bool = False
) -> machine.Interpreter:
    return machine.Interpreter(f"/usr/bin/python3.{minor}", (3, minor), venv, headers, rclpy)


def test_first_complete_interpreter_is_taken() -> None:
    bare = python(12, headers=False)
    assert machine.choose_python([python(9), bare, python(11)], None) == python(11)
    assert machine.choose_python([bare], None) == bare


@pytest.mark.parametrize("found", [[], [python(8)], [python(9), python(8)]])
def test_too_old_python_names_the_apt_package(found: list[machine.Interpreter]) -> None:
    with pytest.raises(machine.SetupError, match=r"Python 3\.10 or newer.*apt install python3 "):
        machine.choose_python(found, None)


def test_too_new_python_needs_an_installed_ros() -> None:
    with pytest.raises(machine.SetupError, match=r"3\.10 to 3\.13.*python3\.13-venv"):
        machine.choose_python([python(14)], None)
    assert machine.choose_python([python(14, rclpy=True)], "rolling").version == (3, 14)


def test_sourced_ros_decides_which_python() -> None:
    assert machine.choose_python([python(11), python(12, rclpy=True)], "jazzy").version == (3, 12)
    with pytest.raises(machine.SetupError, match="ros-jazzy-rclpy"):
        machine.choose_python([python(11)], "jazzy")


def test_all_missing_packages_are_named_at_once() -> None:
    assert machine.missing_packages(python(11), "g++") == []
    bare = python(11, venv=False, headers=False)
    assert machine.missing_packages(bare, None) == ["python3.11-venv", "python3.11-dev", "g++"]


def test_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    with pytest.raises(machine.SetupError) as caught:
        machine.check_machine(python(11), None)
    text = str(caught.value)
    assert "a C++ compiler" in text
    assert "sudo apt install g++" in text
    assert text.count("\n") == 0


def test_other_processors_need_an_installed_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/g++")
    with pytest.raises(machine.SetupError, match="x86_64 only and this machine is aarch64"):
        machine.check_machine(python(11), None)
    machine.check_machine(python(12, rclpy=True), "jazzy")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"AMENT_PREFIX_PATH": str(VENV)}, None),
        ({"ROS_DISTRO": "jazzy"}, None),
        ({"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}, "jazzy"),
        ({"ROS_DISTRO": "kilted", "AMENT_PREFIX_PATH": f"{VENV}:/opt/ros/kilted"}, "kilted"),
    ],
)
def test_sourced_ros_is_recognised(variables: dict[str, str], expected: str | None) -> None:
    assert machine.sourced_distro(variables, VENV) == expected


@pytest.mark.parametrize(
    "variables", [{"ROS_DISTRO": "humble"}, {"ROS_DISTRO": "noetic", "ROS_VERSION": "1"}]
)
def test_older_ros_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(machine.SetupError, match="needs Jazzy or newer"):
        machine.sourced_distro(variables, VENV)


def test_probe_answers_for_this_interpreter_and_not_for_a_broken_one(tmp_path: Path) -> None:
    found = machine.probe(sys.executable)
    assert found is not None
    assert found.version == sys.version_info[:2]
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert machine.probe(str(broken)) is None
    assert machine.probe(str(tmp_path / "absent")) is None
