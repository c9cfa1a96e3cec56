# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policies name all that the real nodes have, and nothing else."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import cv2
import numpy as np
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from vt_ros.client import TrackerClient, TrackerError

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ROOT / "config" / "security"
# What a node has only at times: another image_transport, simulated time, what is called when.
AT_TIMES = {
    "tracker": {
        ("publish", "/bond"),  # where the package bond is installed
        ("subscribe", "/image_raw/compressed"),
        ("subscribe", "/clock"),
    },
    "camera": {("subscribe", "/clock")},
    "console": {
        ("publish", "/bond"),
        ("subscribe", "/image_raw"),  # while somebody looks
        ("subscribe", "/image_raw/compressed"),
        ("subscribe", "/clock"),
    },
    "target_3d": {("publish", "/bond"), ("subscribe", "/clock")},
    "look_at": {
        ("publish", "/bond"),
        ("publish", "/look_at/cmd_vel"),  # of other outputs
        ("publish", "/look_at/joint_command"),
        ("subscribe", "/clock"),
    },
    "mavlink_camera": {("publish", "/bond"), ("subscribe", "/clock")},
    "tracker_client": {
        ("publish", "/rosout"),  # switched off in this client, rcl's default
        ("subscribe", "/clock"),
        ("subscribe", "/diagnostics"),
        ("subscribe", "/tracker/bearing"),
        ("request", "/tracker/get_state"),
    },
}
KINDS = {"publish": "publisher", "subscribe": "subscriber", "reply": "service", "request": "client"}


def allowed(name):
    """Node, and (permission, full name) pairs of a policy, as sros2's template expands them."""
    root = ET.parse(POLICIES / f"{name}.policy.xml").getroot()  # noqa: S314, our own file
    assert (root.tag, root.get("version")) == ("policy", "0.2.0")
    (enclave,) = root.find("enclaves")
    assert enclave.get("path") == f"/vt_ros/{name}"
    (profile,) = enclave.find("profiles")
    node, found = profile.get("node"), set()
    for rules in profile:
        assert set(rules.attrib.values()) == {"ALLOW"}
        for rule in rules:
            text = rule.text.replace("~", f"/{node}")
            found |= {(kind, text if text[0] == "/" else f"/{text}") for kind in rules.attrib}
    return node, found


@pytest.fixture(scope="module")
def together(shared_ros, tiny_model, tmp_path_factory):
    """All nodes with whatever they may use, and a client that has called all services it has."""
    pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")
    folder = tmp_path_factory.mktemp("images")
    cv2.imwrite(str(folder / "1.png"), np.zeros((48, 64, 3), np.uint8))
    tracker = shared_ros.start_tracker(tiny_model, recorder__directory=str(folder / "flights"))
    shared_ros.start("camera", source=str(folder), loop=True)
    console = shared_ros.start("console", port=0)
    shared_ros.start(
        "target_3d",
        methods=["depth_image", "point_cloud", "ground_plane", "known_size"],
        size__height=1.0,
        stop__action="navigate_to_pose",
    )
    shared_ros.start("look_at", output="joint_trajectory")
    shared_ros.start("mavlink_camera", url="udpout:127.0.0.1:9", geo__source="autopilot")
    for name in ("target_3d", "look_at", "mavlink_camera"):
        shared_ros.until(
            lambda name=name: (
                shared_ros.call(GetState, f"{name}/get_state").current_state.id
                == State.PRIMARY_STATE_ACTIVE
            ),
            f"the active {name}",
        )
    with TrackerClient(node=shared_ros.node) as client:
        shared_ros.until(lambda: "active: waiting" in tracker.output, "the tracker")
        shared_ros.until(lambda: "open http" in console.output, "the console")
        client.start_box((10.0, 10.0, 20.0, 20.0))
        client.stop()
        with pytest.raises(TrackerError, match="nothing to confirm"):
            client.confirm()
        assert client.save_recording().startswith(str(folder))
        time.sleep(1.0)  # until the last of their publishers has been discovered
        yield shared_ros.node


@pytest.mark.parametrize(
    "name", ["tracker", "camera", "client", "console", "target_3d", "look_at", "mavlink_camera"]
)
def test_policy_allows_what_the_node_has_and_nothing_else(together, name):
    node, wanted = allowed(name)
    has = {
        (kind, topic)
        for kind, what in KINDS.items()
        for topic, _ in getattr(together, f"get_{what}_names_and_types_by_node")(node, "/")
    }
    assert has - wanted == set(), "needs permission"
    assert wanted - has == AT_TIMES[node], "is allowed for nothing"


def test_every_node_has_a_policy():
    programs = {folder.parent.name for folder in (ROOT / "vt_ros").glob("*/__main__.py")} - {"demo"}
    assert {file.name.partition(".")[0] for file in POLICIES.glob("*.xml")} == programs | {"client"}


def test_policy_of_the_nodes_that_move_something_gives_no_lifecycle_and_no_parameters():
    for name in ("look_at", "target_3d", "mavlink_camera"):
        _, rules = allowed(name)
        asked = {service for kind, service in rules if kind == "request"}
        assert not any("change_state" in one or "parameter" in one for one in asked)


def test_policy_of_a_client_keeps_it_from_lifecycle_parameters_and_images():
    _, rules = allowed("client")
    for kind, name in rules:
        if kind in ("publish", "request"):
            assert not any(word in name for word in ("change_state", "set_parameters", "image"))
