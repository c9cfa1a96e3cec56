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

from vt_ros.client import TrackerClient, TrackerError

pytestmark = pytest.mark.ros

POLICIES = Path(__file__).resolve().parents[2] / "config" / "security"
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
    """A tracker, a camera, a console, and a client that has called every service that it has."""
    pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")
    folder = tmp_path_factory.mktemp("images")
    cv2.imwrite(str(folder / "1.png"), np.zeros((48, 64, 3), np.uint8))
    tracker = shared_ros.start_tracker(tiny_model, recorder__directory=str(folder / "flights"))
    shared_ros.start("camera", source=str(folder), loop=True)
    console = shared_ros.start("console", port=0)
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


@pytest.mark.parametrize("name", ["tracker", "camera", "client", "console"])
def test_policy_allows_what_the_node_has_and_nothing_else(together, name):
    node, wanted = allowed(name)
    has = {
        (kind, topic)
        for kind, what in KINDS.items()
        for topic, _ in getattr(together, f"get_{what}_names_and_types_by_node")(node, "/")
    }
    assert has - wanted == set(), "needs permission"
    assert wanted - has == AT_TIMES[node], "is allowed for nothing"


def test_policy_of_a_client_keeps_it_from_lifecycle_parameters_and_images():
    _, rules = allowed("client")
    for kind, name in rules:
        if kind in ("publish", "request"):
            assert not any(word in name for word in ("change_state", "set_parameters", "image"))
