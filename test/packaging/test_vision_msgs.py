# SPDX-License-Identifier: Apache-2.0
"""The vision_msgs fallback is upstream's on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

typesys = pytest.importorskip("rosbags.typesys")

# Detection2DArray of vision_msgs 4.1.1; it contains the other six messages.
UPSTREAM = "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"


def type_hash(folder: Path, **replaced: str) -> str:
    """Type hash of Detection2DArray as defined in `folder`, with some messages replaced."""
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    types = {}
    for file in folder.glob("*.msg"):
        text = replaced.get(file.stem, file.read_text(encoding="utf-8"))
        types.update(typesys.get_types_from_msg(text, f"vision_msgs/msg/{file.stem}"))
    store.register(types)
    return store.hash_rihs01("vision_msgs/msg/Detection2DArray")


def test_hash_is_upstreams(repository: Path) -> None:
    assert type_hash(repository / "vision_msgs_fallback" / "msg") == UPSTREAM


def test_a_renamed_field_changes_the_hash(repository: Path) -> None:
    folder = repository / "vision_msgs_fallback" / "msg"
    assert type_hash(folder, Point2D="float64 u\nfloat64 v\n") != UPSTREAM


def test_every_message_is_generated(repository: Path) -> None:
    folder = repository / "vision_msgs_fallback"
    cmake = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    assert all(f'"msg/{file.name}"' in cmake for file in folder.glob("msg/*.msg"))
