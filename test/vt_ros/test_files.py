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
from vt_ros.console import parameters as console_parameters
from vt_ros.look_at import parameters as look_at_parameters
from vt_ros.mavlink_camera import parameters as mavlink_camera_parameters
from vt_ros.target_3d import parameters as target_3d_parameters
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


NODES = {
    "tracker": tracker_parameters,
    "camera": camera_parameters,
    "mavlink_camera": mavlink_camera_parameters,
    "look_at": look_at_parameters,
    "target_3d": target_3d_parameters,
    "console": console_parameters,
}


@pytest.mark.parametrize(("name", "node"), NODES.items())
def test_parameter_file_holds_every_parameter_and_its_default(name, node):
    text = config_file("tracker.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) is None, "a file that sets everything leaves others no say"
    _, _, commented = text.partition("\n\n")
    text = "\n".join(line.removeprefix("#") for line in commented.splitlines())
    parameters = flat(yaml.safe_load(text)[f"/**/{name}"]["ros__parameters"])
    assert parameters == {setting.name: setting.default for setting in node.SETTINGS}
    types_of = {name: type(value) for name, value in parameters.items()}
    assert types_of == {setting.name: type(setting.default) for setting in node.SETTINGS}


def test_parameter_range_holds_the_default():
    for setting in (setting for node in NODES.values() for setting in node.SETTINGS):
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


def load_launch_file(name):
    path = ROOT / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Configuration:
    """Looks its argument up in a context that is a dictionary."""

    def __init__(self, name):
        self._name = name

    def perform(self, context):
        return context.arguments[self._name]


def recorder(**options):
    return options


@pytest.fixture
def launched(monkeypatch):
    """Options of the nodes that a launch file starts, by name.

    With recorders in place of the classes of `launch`, which is not on PyPI: this shows what
    the file asks for, not that launch takes it; `test_launch_with_the_real_package` shows that.
    """
    fakes = {
        "launch": {"LaunchContext": object, "LaunchDescription": list},
        "launch.actions": {
            "DeclareLaunchArgument": lambda name, **options: (name, options),
            "OpaqueFunction": lambda function: function,
            "GroupAction": lambda actions: actions[0],
            "IncludeLaunchDescription": lambda file, launch_arguments: {
                "name": dict(launch_arguments)["namespace"] or Path(file).name,
                "arguments": dict(launch_arguments),
            },
            "EmitEvent": lambda event: ("stop", event),
            "LogInfo": lambda msg: ("log", msg),
            "Shutdown": lambda reason: ("shutdown", reason),
        },
        "launch.events": {"matches_action": lambda action: action},
        "launch.events.process": {
            "ProcessExited": object,
            "ShutdownProcess": lambda process_matcher: process_matcher,
        },
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": str},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": recorder},
    }
    for name, content in fakes.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))
    monkeypatch.delitem(sys.modules, "vt_ros.launching", raising=False)

    def start(file="tracker", environment=types.MappingProxyType({}), **given):
        *declared, function = load_launch_file(file).generate_launch_description()
        arguments = {name: options["default_value"] for name, options in declared}
        for name, value in given.items():
            choices = dict(declared)[name]["choices"]
            assert not choices or value in choices
        context = types.SimpleNamespace(arguments={**arguments, **given}, environment=environment)
        return {node["name"]: node for node in function(context)}

    yield start
    sys.modules.pop("vt_ros.launching", None)


def test_launch_sets_nothing_that_was_not_asked_for(launched):
    """So the parameter file, or a launch file around this one, decides."""
    nodes = launched()
    assert list(nodes) == ["tracker"]
    tracker = nodes["tracker"]
    assert (tracker["package"], tracker["executable"]) == ("vt_ros", "tracker_node")
    assert not tracker["parameters"]
    assert not tracker["remappings"]
    assert not tracker["arguments"]
    assert not tracker["respawn"]
    for file in ("mavlink_camera", "look_at", "target_3d", "console"):
        (alone,) = launched(file).values()
        assert not alone["parameters"]


def test_launch_arguments_override_the_parameter_file(launched):
    nodes = launched(
        namespace="robot",
        params_file="/mine.yaml",
        use_sim_time="true",
        autostart="False",
        use_respawn="true",
        log_level="tracker:=debug",
        model="asymtrack_t",
        weights="/weights",
        device="cpu",
        image="/front/image_raw",
        camera_info="/front/info",
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
            "weights": "/weights",
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
        assert node["arguments"] == ["--ros-args", "--log-level", "tracker:=debug"]
        topics = [("image_raw", "/front/image_raw"), ("camera_info", "/front/info")]
        assert node["remappings"] == topics


@pytest.mark.parametrize("file", ["tracker", "mavlink_camera", "look_at", "target_3d", "console"])
def test_launch_refuses_what_is_no_boolean(launched, file):
    *declared, _ = load_launch_file(file).generate_launch_description()
    for name in ("use_sim_time", "use_respawn", "autostart", "loop"):
        choices = dict(declared).get(name, {"choices": ("", "true", "false")})["choices"]
        assert {"", "true", "false"} <= set(choices)
        assert "nope" not in choices


def test_launch_parameters_exist(launched):
    nodes = launched(
        autostart="1",
        model="m",
        weights="w",
        source="s",
        loop="1",
        mavlink="u",
        look_at="1",
        console="1",
        target_3d="1",
        image_transport="raw",
        params_file="",
        use_sim_time="1",
    )
    for name, node in NODES.items():
        (asked,) = nodes[name]["parameters"]
        asked.pop("use_sim_time")  # every node has it
        assert set(asked) <= {setting.name for setting in node.SETTINGS}
    for file in (ROOT / "launch").glob("*.py"):
        assert not re.search(r"\beval\(|PythonExpression", file.read_text(encoding="utf-8"))


def test_launch_names_what_goes_with_a_named_tracker(launched):
    """So two of them have room in one namespace."""
    others = {"look_at": "true", "target_3d": "true", "console": "true"}
    nodes = launched(name="left", source="0", mavlink="udpout:127.0.0.1:14550", **others)
    rooms = ("camera", "look_at", "target_3d", "console", "mavlink_camera")
    assert list(nodes) == ["left", *(f"left_{room}" for room in rooms)]
    assert nodes["left_console"]["parameters"][0]["trackers"] == ["left"]
    for name in ("left_look_at", "left_target_3d", "left_mavlink_camera"):
        assert nodes[name]["parameters"][0]["tracker"] == "left"
    assert nodes["left_mavlink_camera"]["parameters"][0]["geo.target_3d"] == "left_target_3d"
    assert list(launched(name="", source="0")) == ["tracker", "camera"]


def test_launch_starts_a_tracker_for_each_camera(launched):
    assert list(launched("two_cameras")) == ["left", "right"]
    assert list(launched("two_cameras", cameras=" front , /robot/rear")) == ["front", "/robot/rear"]


def test_launch_starts_the_console_on_the_trackers_images_and_one_for_two_cameras(launched):
    nodes = launched(console="true", image="/front/image_raw", image_transport="compressed")
    assert list(nodes) == ["tracker", "console"]
    assert nodes["console"]["executable"] == "console_node"
    assert nodes["console"]["remappings"] == [("image_raw", "/front/image_raw")]
    assert nodes["console"]["parameters"] == [{"image_transport": "compressed"}]
    both = launched("two_cameras", cameras="front,/robot/rear", console="true")
    assert list(both) == ["front", "/robot/rear", "console.launch.py"]
    assert both["front"]["arguments"]["console"] == "false"
    trackers = both["console.launch.py"]["arguments"]["trackers"]
    (alone,) = launched("console", trackers=trackers, port="0").values()
    names = ["/front/tracker", "/robot/rear/tracker"]
    assert alone["parameters"] == [{"port": 0, "trackers": names}]


@pytest.mark.parametrize(
    "cameras", ["", ",", "left,", "left,,right", "left right", "1,2", "~a", "a/"]
)
def test_launch_refuses_cameras_that_are_no_namespaces(launched, cameras):
    with pytest.raises(RuntimeError, match=r"cameras is .* is no namespace"):
        launched("two_cameras", cameras=cameras)


def test_launch_refuses_two_cameras_of_one_name(launched):
    with pytest.raises(RuntimeError, match="cameras is 'left, left'; expected each of them once"):
        launched("two_cameras", cameras="left, left")


@pytest.mark.parametrize(
    "variable",
    [
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "FASTDDS_BUILTIN_TRANSPORTS",
    ],
)
def test_launch_keeps_a_dds_profile_of_the_users_own(launched, variable):
    profile = str(config_file("fastdds.xml"))
    assert launched()["tracker"]["additional_env"] == {
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
    }
    assert launched(environment={variable: "own"})["tracker"]["additional_env"] == {}


def ended(node, code):
    """What follows the end of a node's process."""
    event = types.SimpleNamespace(returncode=code, action="the node")
    return [kind for kind, _ in node["on_exit"](event, None)]


def test_launch_does_not_respawn_a_node_that_refused_its_parameters(launched):
    nodes = launched(use_respawn="true", source="0")
    assert ended(nodes["tracker"], 2) == ["log", "stop"]
    assert ended(nodes["tracker"], 3) == []
    assert ended(nodes["camera"], 1) == []
    assert ended(nodes["camera"], 2) == ["log", "stop", "shutdown"]


def test_launch_ends_with_its_camera_unless_told_otherwise(launched):
    nodes = launched(source="0")
    assert ended(nodes["camera"], 1) == ["shutdown"]
    assert ended(nodes["tracker"], 1) == []
    assert ended(launched(source="0", on_camera_exit="continue")["camera"], 1) == []


def test_launch_starts_the_mavlink_camera_beside_the_tracker_or_alone(launched):
    url = "udpout:127.0.0.1:14550"
    beside = launched(mavlink=url)
    assert list(beside) == ["tracker", "mavlink_camera"]
    alone = launched("mavlink_camera", url=url, system_id="7", tracker="/front/tracker")
    assert list(alone) == ["mavlink_camera"]
    for node in (beside["mavlink_camera"], alone["mavlink_camera"]):
        assert (node["package"], node["executable"]) == ("vt_ros", "mavlink_camera_node")
        assert node["parameters"][0]["url"] == url
    assert alone["mavlink_camera"]["parameters"][0]["system_id"] == 7
    assert alone["mavlink_camera"]["parameters"][0]["tracker"] == "/front/tracker"
    with pytest.raises(RuntimeError, match="system_id is 'seven', expected an integer"):
        launched("mavlink_camera", system_id="seven")


def test_launch_starts_look_at_beside_the_tracker_or_alone(launched):
    assert list(launched(look_at="true")) == ["tracker", "look_at"]
    assert list(launched(look_at="false")) == ["tracker"]
    alone = launched("look_at", output="twist", cmd_vel="/gimbal/cmd_vel", tracker="/front/tracker")
    node = alone["look_at"]
    assert (node["package"], node["executable"]) == ("vt_ros", "look_at_node")
    assert node["parameters"] == [{"tracker": "/front/tracker", "output": "twist"}]
    assert node["remappings"] == [("~/cmd_vel", "/gimbal/cmd_vel")]


def test_launch_starts_target_3d_beside_the_tracker_or_alone_with_the_topics_of_nav2(launched):
    beside = launched(
        target_3d="true", image="/front/image_raw", depth="/front/depth", pose_topic="dynamic_pose"
    )
    assert list(beside) == ["tracker", "target_3d"]
    assert beside["target_3d"]["remappings"] == [
        ("camera_info", "/front/camera_info"),
        ("depth/image_raw", "/front/depth"),
        ("~/pose", "dynamic_pose"),
    ]
    assert launched(target_3d="true", image="image")["target_3d"]["remappings"] == []
    alone = launched(
        "target_3d",
        tracker="/front/tracker",
        methods="depth_image, known_size",
        points="/lidar/points",
        output_frame="map",
        pose_topic="goal_update",
        stop_action="navigate_to_pose",
    )["target_3d"]
    assert (alone["package"], alone["executable"]) == ("vt_ros", "target_3d_node")
    assert alone["parameters"] == [
        {
            "tracker": "/front/tracker",
            "output_frame": "map",
            "methods": ["depth_image", "known_size"],
            "stop.action": "navigate_to_pose",
        }
    ]
    assert set(alone["parameters"][0]) <= {one.name for one in target_3d_parameters.SETTINGS}
    assert alone["remappings"] == [("points", "/lidar/points"), ("~/pose", "goal_update")]


def test_launch_examples_include_with_arguments_that_exist(launched):
    *declared, _ = load_launch_file("tracker").generate_launch_description()
    root = ET.parse(ROOT / "examples" / "include_tracker.launch.xml").getroot()  # noqa: S314
    text = (ROOT / "examples" / "include_tracker.launch.yaml").read_text(encoding="utf-8")
    group = next(one["group"] for one in yaml.safe_load(text)["launch"] if "group" in one)
    in_xml = {arg.get("name"): arg.get("value") for arg in root.findall("group/include/arg")}
    in_yaml = {arg["name"]: arg["value"] for arg in group[0]["include"]["arg"]}
    assert in_xml == in_yaml
    assert set(in_xml) <= set(dict(declared))


@pytest.mark.parametrize(
    "file", ["tracker", "mavlink_camera", "look_at", "target_3d", "console", "two_cameras"]
)
def test_launch_with_the_real_package(file):
    pytest.importorskip("launch.actions", reason="launch comes with a ROS 2 installation only")
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    description = load_launch_file(file).generate_launch_description()
    assert description.get_launch_arguments()
    context = sys.modules["launch"].LaunchContext()
    for entity in description.entities:
        entity.visit(context)


def test_docs_on_behaviour_name_tests_that_exist():
    page = (ROOT / "docs" / "ros" / "behaviour.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_\w+", page)) - {"test_"}
    sources = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "test").rglob("*.py"))
    assert len(named) > 20
    assert not {name for name in named if f"def {name}(" not in sources} - {"test"}
