# SPDX-License-Identifier: Apache-2.0
"""Configuration and launch files agree with the nodes."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_ros.camera import parameters as camera_parameters
from vt_ros.common.resources import config_file, footage_file
from vt_ros.tracker import parameters as tracker_parameters

ROOT = Path(__file__).resolve().parents[2]


def flat(tree, prefix=""):
    """Nested parameters as {dotted name: value}."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


@pytest.mark.parametrize(
    ("name", "node"), [("tracker", tracker_parameters), ("camera", camera_parameters)]
)
def test_parameter_file_holds_every_parameter_and_its_default(name, node):
    text = config_file("tracker.yaml").read_text(encoding="utf-8")
    parameters = flat(yaml.safe_load(text)[f"/**/{name}"]["ros__parameters"])
    assert parameters == {setting.name: setting.default for setting in node.SETTINGS}
    types_of = {name: type(value) for name, value in parameters.items()}
    assert types_of == {setting.name: type(setting.default) for setting in node.SETTINGS}


def test_parameter_range_holds_the_default():
    for setting in (*tracker_parameters.SETTINGS, *camera_parameters.SETTINGS):
        assert setting.description.endswith("."), setting.name
        if isinstance(setting.default, int | float) and not isinstance(setting.default, bool):
            assert setting.low <= setting.default <= setting.high, setting.name


def test_fast_dds_profile_defines_what_it_uses():
    space = {"dds": "http://www.eprosima.com"}
    root = ET.parse(config_file("fastdds.xml")).getroot()  # noqa: S314 (our own file)
    defined = [
        node.text for node in root.findall(".//dds:transport_descriptor/dds:transport_id", space)
    ]
    used = [node.text for node in root.findall(".//dds:userTransports/dds:transport_id", space)]
    assert defined == used
    assert int(root.find(".//dds:segment_size", space).text) == 32 * 1024 * 1024


def test_config_file_that_is_missing_names_the_folders_searched():
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml is in none of .*config"):
        config_file("absent.yaml")
    assert footage_file("bikes.mp4").name == "bikes.mp4"


def load_launch_file():
    path = ROOT / "launch" / "tracker.launch.py"
    spec = importlib.util.spec_from_file_location("tracker_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(monkeypatch, **given):
    """Options of the nodes that the launch file starts.

    With recorders in place of the classes of `launch`, which is not on PyPI: this shows what
    the file asks for, not that launch takes it; `test_launch_with_the_real_package` shows that.
    """

    def recorder(**options):
        return options

    class Configuration:
        def __init__(self, name):
            self._name = name

        def perform(self, context):
            return context[self._name]

    fakes = {
        "ament_index_python.packages": {"get_package_share_directory": lambda _: "/share"},
        "launch": {"LaunchContext": object, "LaunchDescription": list},
        "launch.actions": {"DeclareLaunchArgument": recorder, "OpaqueFunction": recorder},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": recorder},
    }
    for name, content in fakes.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))
    module = load_launch_file()
    defaults = {name: default for name, (default, _) in module.ARGUMENTS.items()}
    assert set(given) <= set(defaults)
    return {node["name"]: node for node in module.start({**defaults, **given})}


def test_launch_starts_the_tracker_with_the_parameter_file(monkeypatch):
    nodes = started(monkeypatch)
    assert list(nodes) == ["tracker"]
    tracker = nodes["tracker"]
    assert (tracker["package"], tracker["executable"]) == ("vt_ros", "tracker_node")
    assert tracker["parameters"] == ["/share/config/tracker.yaml", {"use_sim_time": False}]
    assert tracker["remappings"] == [("image_raw", "image_raw")]
    profile = "/share/config/fastdds.xml"
    assert tracker["additional_env"] == {"FASTRTPS_DEFAULT_PROFILES_FILE": profile}
    assert not tracker["respawn"]


def test_launch_arguments_override_the_parameter_file(monkeypatch):
    nodes = started(
        monkeypatch,
        namespace="robot",
        params_file="/mine.yaml",
        use_sim_time="true",
        autostart="False",
        use_respawn="true",
        log_level="debug",
        model="asymtrack_t",
        device="cpu",
        image="/front/image_raw",
        image_transport="compressed",
        source="0",
        loop="true",
    )
    tracker, camera = nodes["tracker"], nodes["camera"]
    assert tracker["parameters"] == [
        "/mine.yaml",
        {
            "use_sim_time": True,
            "model": "asymtrack_t",
            "device": "cpu",
            "image_transport": "compressed",
            "autostart": False,
        },
    ]
    assert camera["parameters"] == [
        "/mine.yaml",
        {"use_sim_time": True, "source": "0", "loop": True},
    ]
    for node in (tracker, camera):
        assert node["namespace"] == "robot"
        assert node["respawn"]
        assert node["arguments"] == ["--ros-args", "--log-level", "debug"]
        assert node["remappings"] == [("image_raw", "/front/image_raw")]


def test_launch_parameters_exist(monkeypatch):
    nodes = started(monkeypatch, autostart="1", model="m", device="d", source="s", loop="1")
    for name, node in (("tracker", tracker_parameters), ("camera", camera_parameters)):
        asked = set(nodes[name]["parameters"][1]) - {"use_sim_time"}
        assert asked <= {setting.name for setting in node.SETTINGS}
    source = (ROOT / "launch" / "tracker.launch.py").read_text(encoding="utf-8")
    assert not re.search(r"\beval\(|PythonExpression", source)


def test_launch_with_the_real_package():
    pytest.importorskip("launch.actions", reason="launch comes with a ROS 2 installation only")
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    description = load_launch_file().generate_launch_description()
    names = {argument.name for argument in description.get_launch_arguments()}
    assert {"namespace", "params_file", "use_sim_time", "autostart", "use_respawn"} <= names
    context = sys.modules["launch"].LaunchContext()
    for entity in description.entities:
        entity.visit(context)


def test_docs_on_behaviour_name_tests_that_exist():
    page = (ROOT / "docs" / "ros" / "behaviour.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_\w+", page)) - {"test_"}
    sources = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "test").rglob("*.py"))
    assert len(named) > 20
    assert not {name for name in named if f"def {name}(" not in sources} - {"test"}
