# SPDX-License-Identifier: Apache-2.0
"""Points out of clouds of every layout."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import PointCloud2, PointField

from vt_ros.target_3d.errors import NoPositionError
from vt_ros.target_3d.point_cloud import read_points


def cloud(points, *, rows=1, kind="f4", offset=0, step_padding=0, row_padding=0, big_endian=False):
    """A cloud message of (N, 3) points with bytes of other fields around them."""
    size = int(kind[1])
    step = offset + 3 * size + step_padding
    columns = len(points) // rows
    table = np.full((rows, columns, step), 0xAB, np.uint8)
    values = np.ascontiguousarray(points.astype((">" if big_endian else "<") + kind))
    table[:, :, offset : offset + 3 * size] = values.view(np.uint8).reshape(rows, columns, 3 * size)
    data = np.pad(table.reshape(rows, -1), ((0, 0), (0, row_padding)))
    datatype = PointField.FLOAT32 if kind == "f4" else PointField.FLOAT64
    fields = [
        PointField(name=name, offset=offset + k * size, datatype=datatype, count=1)
        for k, name in enumerate("xyz")
    ]
    return PointCloud2(
        height=rows,
        width=columns,
        fields=fields,
        is_bigendian=big_endian,
        point_step=step,
        row_step=data.shape[1],
        data=data.tobytes(),
    )


@given(
    rows=st.integers(1, 3),
    kind=st.sampled_from(["f4", "f8"]),
    offset=st.integers(0, 9),
    step_padding=st.integers(0, 9),
    row_padding=st.integers(0, 9),
    big_endian=st.booleans(),
)
def test_points_come_out_of_every_layout(rows, kind, offset, step_padding, row_padding, big_endian):
    points = np.random.default_rng(offset).normal(0, 5, (12, 3))
    message = cloud(
        points,
        rows=rows,
        kind=kind,
        offset=offset,
        step_padding=step_padding,
        row_padding=row_padding,
        big_endian=big_endian,
    )
    assert read_points(message) == pytest.approx(points, rel=1e-6)


def test_points_that_are_not_finite_are_left_out_and_none_are_none():
    points = np.array([(1.0, 2.0, 3.0), (np.nan, 2.0, 3.0), (1.0, np.inf, 3.0)])
    assert read_points(cloud(points)).tolist() == [[1.0, 2.0, 3.0]]
    assert read_points(cloud(np.zeros((0, 3)))).shape == (0, 3)
    far = np.array([(1.0, 2.0, 3.0), (1e300, 2.0, 3.0)])  # its square is infinite
    assert read_points(cloud(far, kind="f8")).tolist() == [[1.0, 2.0, 3.0]]


def test_cloud_without_usable_fields_is_refused():
    message = cloud(np.zeros((4, 3)))
    message.fields = message.fields[:2]
    with pytest.raises(NoPositionError, match="no usable field z"):
        read_points(message)
    message = cloud(np.zeros((4, 3)))
    message.fields[0].datatype = PointField.INT16
    message.fields[1].offset = 9
    with pytest.raises(NoPositionError, match="no usable field x, y"):
        read_points(message)


@pytest.mark.parametrize(("name", "value"), [("data", b"1234"), ("row_step", 3), ("height", 2)])
def test_cloud_that_contradicts_itself_is_refused(name, value):
    message = cloud(np.zeros((4, 3)))
    setattr(message, name, value)
    with pytest.raises(NoPositionError, match="fills its fields wrongly"):
        read_points(message)


@given(
    numbers=st.tuples(*(4 * [st.integers(0, 2**32 - 1) | st.integers(0, 40)])),
    fields=st.lists(
        st.builds(
            PointField,
            name=st.sampled_from(["x", "y", "z", "intensity"]),
            offset=st.integers(0, 2**32 - 1) | st.integers(0, 40),
            datatype=st.integers(0, 9),
        ),
        max_size=5,
    ),
    data=st.binary(max_size=200),
    big_endian=st.booleans(),
)
def test_random_cloud_is_read_or_refused(numbers, fields, data, big_endian):
    height, width, point_step, row_step = numbers
    message = PointCloud2(
        height=height,
        width=width,
        fields=fields,
        is_bigendian=big_endian,
        point_step=point_step,
        row_step=row_step,
        data=data,
    )
    with contextlib.suppress(NoPositionError):
        assert np.isfinite(read_points(message)).all()
