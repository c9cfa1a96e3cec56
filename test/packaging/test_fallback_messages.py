# SPDX-License-Identifier: Apache-2.0
"""The fallbacks for message packages without a wheel are upstream's on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

typesys = pytest.importorskip("rosbags.typesys")

# Type hashes of upstream's releases: vision_msgs 4.1.1 (the two arrays contain the other eight
# messages), tf2_msgs 0.36, foxglove_msgs as in its releases before it had metadata (3.0 to 3.2).
UPSTREAM = {
    "vision_msgs/msg/Detection2DArray": (
        "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    ),
    "foxglove_msgs/msg/ImageAnnotations": (
        "RIHS01_47c6c0891ba263ec1b20d9b785c4261d4bc41051cbcc01668130e36aa2dcaee3"
    ),
    "tf2_msgs/msg/TFMessage": (
        "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
    ),
}


def type_hash(repository: Path, message: str, **replaced: str) -> str:
    """Type hash of a message as the fallback defines it, with some messages replaced."""
    package = message.partition("/")[0]
    # Without packages: rosbags' own tf2_msgs must not stand in for ours.
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    store.fielddefs = {
        name: fields for name, fields in store.fielddefs.items() if not name.startswith(package)
    }
    types = {}
    for file in (repository / f"{package}_fallback").glob("msg/*.msg"):
        text = replaced.get(file.stem, file.read_text(encoding="utf-8"))
        types.update(typesys.get_types_from_msg(text, f"{package}/msg/{file.stem}"))
    store.register(types)
    return store.hash_rihs01(message)


@pytest.mark.parametrize("message", UPSTREAM)
def test_hash_is_upstreams(repository: Path, message: str) -> None:
    assert type_hash(repository, message) == UPSTREAM[message]


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("vision_msgs/msg/Detection2DArray", {"Point2D": "float64 u\nfloat64 v\n"}),
        ("vision_msgs/msg/Detection3DArray", {"BoundingBox3D": "geometry_msgs/Pose centre\n"}),
        ("foxglove_msgs/msg/ImageAnnotations", {"Point2": "float64 u\nfloat64 v\n"}),
        ("tf2_msgs/msg/TFMessage", {"TFMessage": "geometry_msgs/TransformStamped[] all\n"}),
    ],
)
def test_a_renamed_field_changes_the_hash(
    repository: Path, message: str, changed: dict[str, str]
) -> None:
    assert type_hash(repository, message, **changed) != UPSTREAM[message]


@pytest.mark.parametrize("package", ["vision_msgs", "tf2_msgs", "foxglove_msgs"])
def test_every_message_is_generated(repository: Path, package: str) -> None:
    folder = repository / f"{package}_fallback"
    cmake = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    assert all(f'"msg/{file.name}"' in cmake for file in folder.glob("msg/*.msg"))
