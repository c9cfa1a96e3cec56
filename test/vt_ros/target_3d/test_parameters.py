# SPDX-License-Identifier: Apache-2.0
"""Parameters of target_3d that make no sense together."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.errors import InputError
from vt_ros.target_3d.parameters import SETTINGS, read_settings


def settings(**changes):
    values = {setting.name: setting.default for setting in SETTINGS}
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    return read_settings(values.__getitem__)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": []}, "expected one or more of depth_image"),
        ({"methods": ["radar"]}, "expected one or more of depth_image"),
        ({"methods": ["known_size"]}, "size.height and size.width are 0"),
        ({"methods": ["ground_plane"], "ground__frame": "/"}, "ground.frame is empty"),
        ({"range__min": 5.0, "range__max": 5.0}, "the first must be less"),
        ({"output_frame": "target"}, "output_frame and target_frame are both 'target'"),
        ({"output_frame": "/target"}, "output_frame and target_frame are both 'target'"),
        ({"fixed_frame": "map", "target_frame": "/map"}, "fixed_frame and target_frame are both"),
        ({"tracker": ""}, "tracker is '', expected the name of a node"),
        ({"stop__action": "navigate/"}, "stop.action is 'navigate/', expected the name of an"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    with pytest.raises(InputError) as refused:
        settings(**changes)
    assert said in str(refused.value)


def test_slash_before_a_frame_is_no_part_of_its_name():
    read = settings(
        output_frame="/map", fixed_frame="/odom", ground__frame="/base", target_frame=""
    )
    assert (read.output_frame, read.fixed_frame, read.ground_frame) == ("map", "odom", "base")
