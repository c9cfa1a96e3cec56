# SPDX-License-Identifier: Apache-2.0
"""The CI workflow is well formed and calls what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads its key `on` as true."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)
    return workflow


def jobs_of(path: Path) -> dict[str, Any]:
    return read(path)["jobs"]


def commands_of(path: Path) -> list[str]:
    return [step["run"] for job in jobs_of(path).values() for step in job["steps"] if "run" in step]


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE))


def called_targets(command: str) -> set[str]:
    return set(re.findall(r"(?:^|&&|;)\s*make ([a-z-]+)", command, flags=re.MULTILINE))


def test_there_is_a_workflow() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_and_steps_are_complete(path: Path) -> None:
    workflow = read(path)
    assert workflow["name"]
    assert {"push", "pull_request"} <= workflow["on"].keys()
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert job["timeout-minutes"] <= 120
        assert set(job.get("needs", [])) <= workflow["jobs"].keys()
        assert job["steps"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        variables = set(re.findall(r"matrix\.(\w+)", str(job)))
        assert variables == set(job.get("strategy", {}).get("matrix", {}))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_targets_exist(path: Path) -> None:
    targets = set().union(*map(called_targets, commands_of(path)))
    assert {"lint", "test-unit", "test", "test-slow", "docs", "coverage"} <= targets
    assert targets <= make_targets()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_shell_commands_can_be_parsed(path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    for command in commands_of(path):
        plain = re.sub(r"\$\{\{.*?\}\}", "value", command)
        subprocess.run([bash, "-n", "-c", plain], check=True)


def test_python_versions_are_those_of_the_readme() -> None:
    versions = jobs_of(WORKFLOWS[0])["wheels"]["strategy"]["matrix"]["python"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python {versions[0]} to {versions[-1]}" in readme
    assert len(versions) == int(versions[-1].split(".")[1]) - int(versions[0].split(".")[1]) + 1


def test_jazzy_job_sources_ros_wherever_it_calls_make() -> None:
    for step in jobs_of(WORKFLOWS[0])["jazzy"]["steps"]:
        if called_targets(step.get("run", "")):
            assert step["run"].startswith("source /opt/ros/jazzy/setup.bash")


def test_commit_hooks_run_the_pinned_tools_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pinned = re.findall(
        r"^([a-z-]+)==", (ROOT / "requirements" / "lint.txt").read_text("utf-8"), re.MULTILINE
    )
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "codespell", "mypy"}
    for hook in hooks:
        tool = Path(hook["entry"].split()[0])
        assert hook["language"] == "system"
        assert tool.parent == Path(".venv/bin")
        assert tool.name in pinned
        assert re.search(rf"^lint:.*\n.*\n.*\b{tool.name}\b", makefile, re.MULTILINE)
