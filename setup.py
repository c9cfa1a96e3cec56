# SPDX-License-Identifier: Apache-2.0
"""Installs vt_ros (nodes) and vt_models (trackers), for colcon as well as for pip."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
NAME = "vt_ros"
SHARED = ("launch", "config", "recipes")  # folders that go to share/vt_ros as they are


def requirements(name: str) -> list[str]:
    """Returns the requirements in requirements/NAME.txt, without comments."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in (text.split("#")[0].strip() for text in lines) if line]


def every(*names: str) -> list[str]:
    """Returns the requirements of several files."""
    return [line for name in names for line in requirements(name)]


def shared_files() -> list[tuple[str, list[str]]]:
    """Returns what belongs to share/vt_ros: (folder, files), paths relative to the root."""
    found: dict[str, list[str]] = {}
    for folder in SHARED:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                relative = file.relative_to(ROOT)
                found.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return list(found.items())


setup(
    name=NAME,
    version="0.1.0",
    description="Single-object visual tracking for ROS 2, and its trackers as a Python package",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="vt_ros maintainers",
    author_email="maintainers@example.org",
    maintainer="vt_ros maintainers",
    maintainer_email="maintainers@example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["vt_models", "vt_models.*", "vt_ros", "vt_ros.*"]),
    package_data={
        "vt_models": ["py.typed", "**/*.json", "**/*.j2", "**/*.msg"],
        "vt_models.weights": ["shipped/**"],
        "vt_ros": ["py.typed"],
        "vt_ros.console": ["static/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files(),
    ],
    install_requires=requirements("runtime"),
    extras_require={
        "bags": requirements("bags"),
        "console": requirements("console"),
        "grounding": requirements("grounding"),
        "onvif": requirements("onvif"),
        "report": requirements("report"),
        "streams": requirements("streams"),
        "train": requirements("train"),
        "lint": requirements("lint"),
        "test": every(
            "bags", "streams", "train", "grounding", "report", "console", "onvif", "test"
        ),
        "dev": every(
            "bags", "streams", "train", "grounding", "report", "console", "onvif", "test", "lint"
        ),
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "tracker_node = vt_ros.entry_points:tracker_node",
            "camera_node = vt_ros.entry_points:camera_node",
            "mavlink_camera_node = vt_ros.entry_points:mavlink_camera_node",
            "look_at_node = vt_ros.entry_points:look_at_node",
            "target_3d_node = vt_ros.entry_points:target_3d_node",
            "console_node = vt_ros.entry_points:console_node",
            "demo = vt_ros.entry_points:demo",
            "vt-models = vt_models.cli.main:main",
        ],
    },
)
