# SPDX-License-Identifier: Apache-2.0
"""The chain of set-up steps: what is skipped, what runs again, what survives an interruption."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import setup_env
from machine import SetupError


class Recorder(setup_env.Environment):
    """An environment whose steps only note that they ran."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, {})
        self.ran: list[str] = []
        self.python.parent.mkdir(parents=True, exist_ok=True)
        self.python.touch()
        for name, step in self.steps.items():
            action = lambda name=name: self.ran.append(name)  # noqa: E731
            self.steps[name] = setup_env.Step(step.title, step.inputs, step.after, action)

    def run_profile(self, profile: str) -> list[str]:
        self.ran.clear()
        self.make(setup_env.PROFILES[profile])
        return list(self.ran)


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    for name in ("requirements", *setup_env.INTERFACES):
        shutil.copytree(repository / name, tmp_path / name)
    for name in ("setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(repository / name, tmp_path / name)
    return tmp_path


def test_unchanged_second_run_does_nothing(root: Path) -> None:
    environment = Recorder(root)
    assert environment.run_profile("demo") == list(setup_env.PROFILES["demo"])
    assert environment.run_profile("demo") == []
    assert Recorder(root).run_profile("runtime") == []
    assert environment.run_profile("train") == ["train"]


def test_a_changed_input_runs_its_step_and_what_builds_on_it(root: Path) -> None:
    environment = Recorder(root)
    environment.run_profile("demo")
    message = root / "vt_interfaces" / "msg" / "TrackStatus.msg"
    message.write_text(message.read_text() + "\n# one more line\n")
    assert environment.run_profile("demo") == ["interfaces"]
    (root / "requirements" / "runtime.txt").write_text("numpy>=1.26\n")
    assert environment.run_profile("demo") == ["packages", "package"]
    (root / "requirements" / "ros.txt").write_text("ros-jazzy-rclpy==7.1.6\n")
    assert environment.run_profile("demo") == ["packages", "interfaces", "package"]


def test_another_ros_makes_everything_anew(root: Path) -> None:
    Recorder(root).run_profile("demo")
    variables = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}
    sourced = setup_env.Environment(root, variables)
    assert not any(sourced.is_done(name) for name in sourced.steps)


def test_a_step_that_fails_runs_again_and_earlier_ones_do_not(root: Path) -> None:
    environment = Recorder(root)

    def fail() -> None:
        raise SetupError("no network")

    step = environment.steps["interfaces"]
    environment.steps["interfaces"] = setup_env.Step(step.title, step.inputs, step.after, fail)
    with pytest.raises(SetupError, match="no network"):
        environment.run_profile("runtime")
    assert Recorder(root).run_profile("runtime") == ["interfaces", "package"]


def test_a_step_cut_off_while_it_was_redone_counts_as_not_done(root: Path) -> None:
    environment = Recorder(root)
    environment.run_profile("runtime")
    environment.steps["packages"] = setup_env.Step("", ("other",), (), lambda: sys.exit(9))
    with pytest.raises(SystemExit):
        environment.run_profile("runtime")
    assert Recorder(root).run_profile("runtime") == ["packages"]


def test_a_folder_that_was_moved_gets_a_new_environment(root: Path, tmp_path: Path) -> None:
    Recorder(root).run_profile("runtime")
    moved = root.rename(tmp_path.with_name(tmp_path.name + "_moved"))
    assert Recorder(moved).run_profile("runtime") == list(setup_env.PROFILES["runtime"])


def test_lost_interpreter_makes_everything_anew(root: Path) -> None:
    environment = Recorder(root)
    environment.run_profile("runtime")
    environment.python.unlink()
    assert not any(environment.is_done(name) for name in environment.steps)


def test_cmake_exports_are_repaired_once(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "std_msgs" / "cmake"
    folder.mkdir(parents=True)
    file = folder / "export_std_msgs__rosidl_generator_pyExport.cmake"
    site = "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"
    file.write_text(
        f'  INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp311-cp311/include/python3.11;{site}"\n'
        '  INTERFACE_LINK_LIBRARIES "std_msgs::std_msgs__rosidl_generator_c"\n'
    )
    other = folder / "std_msgsConfig.cmake"
    other.write_text('set(a "/opt/python/cp311-cp311/include/python3.11")\n')
    untouched = other.read_text()

    assert setup_env.repair_cmake_exports(tmp_path, "/here/include", "/here/numpy/include") == 1
    assert '"/here/include;/here/numpy/include"' in file.read_text()
    assert "std_msgs__rosidl_generator_c" in file.read_text()
    assert other.read_text() == untouched
    assert setup_env.repair_cmake_exports(tmp_path, "/here/include", "/here/numpy/include") == 0


def test_cmake_repair_is_idempotent_for_real_folders(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "a" / "cmake"
    folder.mkdir(parents=True)
    (folder / "aExport.cmake").write_text('X "/opt/python/cp313-cp313/include/python3.13"\n')
    include = "/usr/include/python3.13"
    numpy = "/e/lib/python3.13/site-packages/numpy/_core/include"
    assert setup_env.repair_cmake_exports(tmp_path, include, numpy) == 1
    assert setup_env.repair_cmake_exports(tmp_path, include, numpy) == 0


def test_half_installed_packages_are_forgotten(tmp_path: Path) -> None:
    for name, files in {
        "whole-1.0.dist-info": ("METADATA", "RECORD", "INSTALLER"),
        "half-1.0.dist-info": ("METADATA", "RECORD"),
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    (tmp_path / "~alf").mkdir()
    assert setup_env.remove_half_installed(tmp_path) == ["half-1.0.dist-info"]
    assert [path.name for path in tmp_path.iterdir()] == ["whole-1.0.dist-info"]


def test_requirements_are_read_by_module(tmp_path: Path) -> None:
    file = tmp_path / "runtime.txt"
    file.write_text(
        "# comment\n\nnumpy>=1.26,<3  # why\nopencv-contrib-python-headless>=4\nPyYAML\n"
    )
    assert setup_env.read_requirements(file) == {
        "numpy": "numpy>=1.26,<3",
        "cv2": "opencv-contrib-python-headless>=4",
        "yaml": "PyYAML",
    }


def test_failed_command_shows_its_last_lines_and_where_the_rest_is(root: Path) -> None:
    environment = setup_env.Environment(root, dict(os.environ))
    code = "[print('line', i) for i in range(40)]; raise SystemExit(3)"
    with pytest.raises(SetupError) as caught:
        environment.run(sys.executable, "-c", code)
    text = str(caught.value)
    assert "exit 3" in text
    assert "    line 39\n" in text
    assert "line 2\n" not in text
    assert str(environment.log) in text
    assert "line 2\n" in environment.log.read_text()


def test_a_child_that_outlives_its_setup_still_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with setup_env.only_one(path) as lock:
        child = subprocess.Popen(["sleep", "0.6"], pass_fds=(lock,))
    start = time.monotonic()
    with setup_env.only_one(path):
        waited = time.monotonic() - start
    child.wait()
    assert waited > 0.3


@pytest.mark.parametrize("sourced", [False, True])
def test_activation_gives_a_shell_its_paths_once(root: Path, sourced: bool) -> None:
    variables = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"} if sourced else {}
    lines = setup_env.Environment(root, variables).activation()
    script = f'VIRTUAL_ENV=/v\n{lines}\n{lines}\necho "$AMENT_PREFIX_PATH|${{LD_LIBRARY_PATH:-}}"'
    output = subprocess.check_output(["sh", "-euc", script], env={**variables, "PATH": "/usr/bin"})
    expected = "/v:/opt/ros/jazzy|/v/lib" if sourced else "/v|"
    assert output.decode().strip() == expected


def test_help_needs_no_environment(tmp_path: Path, repository: Path) -> None:
    for name in ("scripts", "Makefile"):
        source = repository / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    script = [sys.executable, "scripts/setup_env.py", "--help"]
    assert "runtime" in subprocess.check_output(script, cwd=tmp_path, text=True)
    shown = subprocess.check_output(["make", "help"], cwd=tmp_path, text=True)
    assert all(f"make {name}" in shown for name in ("demo", "test", "setup", "lint", "bench"))
    assert not (tmp_path / ".venv").exists()


def test_make_names_the_apt_package_where_there_is_no_python(repository: Path) -> None:
    result = subprocess.run(
        ["make", "setup", "PYTHON=no-such-python"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "sudo apt install python3 python3-venv python3-dev g++" in result.stderr
