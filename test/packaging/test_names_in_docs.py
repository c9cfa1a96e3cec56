# SPDX-License-Identifier: Apache-2.0
"""Parameters and launch arguments that the pages on robots and ROS name exist. Needs no ROS."""

from __future__ import annotations

import ast
import functools
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from vt_models.longterm.settings import OLD_NAMES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("robots/*.md")), *sorted(DOCS.glob("ros/*.md")), ROOT / "README.md"]

# What is written like a parameter, and is another program's.
FOREIGN = {
    "angular.y",
    "angular.z",  # fields of a twist
    "align_depth.enable",  # of RealSense's driver
    "bond_timeout",  # of Nav2's lifecycle manager
    "read_only",  # of a parameter's description
    "robot.tracker",  # a logger
}
# Words with underscores that are names of ROS, Nav2, PX4 or MAVLink, and none of ours.
FOREIGN_WORDS = {
    "bt_navigator",
    "detection_timeout",
    "node_names",
    "opennav_following",
    "px4_msgs",
    "tracked_frame",
}
CODE_SUFFIXES = {".py", ".msg", ".srv", ".js", ".html", ".yaml", ".json", ".xml", ".toml", ".txt"}
CODE_FOLDERS = ("vt_ros", "vt_models", "vt_interfaces", "launch", "config", "examples", "scripts")


def parameter_names() -> dict[str, set[str]]:
    """Names of parameters by node, from config/tracker.yaml, which test_files holds to the tables.

    Of the tracker's also those of the previous release, which are accepted still.
    """
    text = (ROOT / "config" / "tracker.yaml").read_text(encoding="utf-8").partition("\n\n")[2]
    tree = yaml.safe_load("\n".join(line.removeprefix("#") for line in text.splitlines()))
    found = {node.removeprefix("/**/"): flat(one["ros__parameters"]) for node, one in tree.items()}
    table = (ROOT / "vt_ros" / "tracker" / "parameters.py").read_text(encoding="utf-8")
    found["tracker"] |= set(re.findall(r'old_name="([\w.]+)"', table))
    found["tracker"] |= {f"target.{name}" for name in OLD_NAMES}
    return found


def flat(tree: dict[str, object], prefix: str = "") -> set[str]:
    """Names of nested parameters, with dots."""
    names: set[str] = set()
    for name, value in tree.items():
        inner = isinstance(value, dict)
        names |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}"}
    return names


def launch_arguments() -> dict[str, set[str]]:
    """Arguments of the launch files; those of `SHARED`, and of an included file, where they are."""

    def keys(file: Path, name: str) -> tuple[set[str], set[str]]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else ()
            if any(getattr(target, "id", "") == name for target in targets):
                literals = {key.value for key in node.value.keys if key is not None}
                spread = zip(node.value.keys, node.value.values, strict=True)
                return literals, {getattr(value, "id", "") for key, value in spread if key is None}
        raise AssertionError(f"{file.name} has no {name}")

    shared, _ = keys(ROOT / "vt_ros" / "launching.py", "SHARED")
    found = {}
    for file in (ROOT / "launch").glob("*.launch.py"):
        own, spread = keys(file, "ARGUMENTS")
        found[file.name] = own | (shared if "SHARED" in spread else set())
    found["two_cameras.launch.py"] |= found["tracker.launch.py"]  # which it includes
    return found


PARAMETERS, ARGUMENTS = parameter_names(), launch_arguments()
ALL_PARAMETERS = set().union(*PARAMETERS.values())
ALL_ARGUMENTS = set().union(*ARGUMENTS.values())


def text_of(page: Path) -> str:
    """A page without its generated tables, commands on one line each."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- parameters .*?<!-- /parameters -->", "", text, flags=re.DOTALL)
    return re.sub(r"\\\n\s+", " ", text)


def in_backticks(text: str) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def is_parameter(name: str) -> bool:
    """Whether a name, perhaps with a star, is that of a parameter."""
    return name in FOREIGN or any(fnmatchcase(one, name) for one in ALL_PARAMETERS)


def test_tables_and_launch_files_are_read() -> None:
    assert {"tracker", "camera", "look_at", "target_3d", "mavlink_camera", "console"} == set(
        PARAMETERS
    )
    assert "target.coast_seconds" in PARAMETERS["tracker"]
    assert {"image", "params_file"} <= ARGUMENTS["tracker.launch.py"]
    assert "params_file" in ARGUMENTS["two_cameras.launch.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_parameters_in_backticks_exist(page: Path) -> None:
    missing = []
    for code in in_backticks(text_of(page)):
        dotted = re.fullmatch(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_*]+)+", code)
        with_value = re.fullmatch(r"([a-z][a-z0-9_.*]*): \S.*", code)  # `output: twist`
        is_file = Path(code).suffix in {*CODE_SUFFIXES, ".md", ".mp4", ".png"}
        name = with_value[1] if with_value else code if dotted and not is_file else None
        if name and not is_parameter(name):
            missing.append(code)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_parameters_in_yaml_exist(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", text_of(page), flags=re.DOTALL):
        for node, content in (yaml.safe_load(block) or {}).items():
            if isinstance(content, dict) and "ros__parameters" in content:
                known = PARAMETERS.get(node.rpartition("/")[2], ALL_PARAMETERS)
                assert flat(content["ros__parameters"]) - known - {"use_sim_time"} == set(), node


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_launch_arguments_and_parameters_of_commands_exist(page: Path) -> None:
    missing = []
    for line in text_of(page).splitlines():
        launch = re.search(r"ros2 launch vt_ros (\S+\.launch\.py)([^`|]*)", line)
        if launch:
            names = re.findall(r"(?<=\s)([a-z]\w*):=", launch[2])
            missing += [name for name in names if name not in ARGUMENTS[launch[1]]]
        for program, rest in re.findall(r"\b(\w+)_node (--ros-args [^`]*)", line):
            names = re.findall(r"-p '?([a-z][\w.]*):=", rest)
            known = PARAMETERS[program] | {"use_sim_time"}
            missing += [name for name in names if name not in known]
    for code in in_backticks(text_of(page)):
        argument = re.fullmatch(r"([a-z][\w.]*):=\S*", code)
        if argument and argument[1] not in ALL_ARGUMENTS | ALL_PARAMETERS | FOREIGN | {"tracker"}:
            missing.append(code)
    assert not missing


def test_remedies_in_the_table_of_symptoms_are_parameters_of_that_node() -> None:
    """Single words, too, which elsewhere might be anything."""
    fields = re.findall(
        r"^[\w/]+ (\w+)\b(?!=)",
        (ROOT / "vt_interfaces/msg/TrackStatus.msg").read_text("utf-8"),
        re.M,
    )
    for section in text_of(DOCS / "robots" / "tuning.md").split("\n## ")[1:]:
        node = section.partition("\n")[0].removeprefix("The ")
        for row in re.findall(r"^\|[^|]*\|(.*)\|$", section, flags=re.M):
            for code in in_backticks(row):
                name = code.partition(":")[0]
                if "/" in name or name in fields:
                    continue  # a topic, a service, a field of a message
                own = any(fnmatchcase(one, name) for one in PARAMETERS[node])
                assert own or name in ALL_PARAMETERS, f"{node}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_words_with_underscores_are_names_in_the_code(page: Path) -> None:
    """So a parameter, a field or a topic that is renamed is missed where a page still has it."""
    words = {
        code
        for code in in_backticks(text_of(page))
        if re.fullmatch(r"(?!test_)[a-z][a-z0-9]*(_[a-z0-9]+)+", code)  # tests: test_files
    }
    assert {word for word in words if word not in code_words()} - FOREIGN_WORDS == set()


@functools.cache
def code_words() -> frozenset[str]:
    """All names in the code."""
    words: set[str] = set()
    files = [file for folder in CODE_FOLDERS for file in (ROOT / folder).rglob("*")]
    for file in [*files, ROOT / "setup.py"]:
        if file.suffix in CODE_SUFFIXES and file.is_file():
            words |= set(re.findall(r"[A-Za-z_]\w*", file.read_text("utf-8", "replace")))
    return frozenset(words)
