# SPDX-License-Identifier: Apache-2.0
"""Points out of a PointCloud2 message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from vt_ros.target_3d.errors import NoPositionError

_FARTHEST = 1e6  # metres; what is farther is no point, and its square may overflow
_KINDS = {PointField.FLOAT32: "f4", PointField.FLOAT64: "f8"}


def read_points(message: PointCloud2) -> NDArray[np.float64]:
    """Return the points of a cloud that are finite and within 1000 km.

    Args:
        message: with the fields x, y and z in metres, float32 or float64, organised or not, any
            step, either endianness.

    Returns:
        (N, 3) in the frame of the message.

    Raises:
        NoPositionError: fields are missing, or sizes, steps and length disagree.
    """
    fields = {field.name: field for field in message.fields}
    wrong = [
        name
        for name in ("x", "y", "z")
        if name not in fields
        or fields[name].datatype not in _KINDS
        or fields[name].offset + int(_KINDS[fields[name].datatype][1]) > message.point_step
    ]
    if wrong:
        raise NoPositionError(
            f"the point cloud has no usable field {', '.join(wrong)}; expected x, y, z of float32"
        )
    rows, columns = message.height, message.width
    if (
        message.row_step < columns * message.point_step
        or len(message.data) != rows * message.row_step
    ):
        raise NoPositionError(
            f"the point cloud of {columns}x{rows} with steps {message.point_step} and "
            f"{message.row_step} holds {len(message.data)} bytes; the driver fills its fields "
            "wrongly"
        )
    if not rows * columns:
        return np.empty((0, 3))
    order = ">" if message.is_bigendian else "<"
    layout = np.dtype(
        {
            "names": ["x", "y", "z"],
            "formats": [order + _KINDS[fields[name].datatype] for name in ("x", "y", "z")],
            "offsets": [fields[name].offset for name in ("x", "y", "z")],
            "itemsize": message.point_step,
        }
    )
    table = np.ndarray(
        (rows, columns), layout, message.data, strides=(message.row_step, message.point_step)
    )
    with np.errstate(invalid="ignore"):  # signalling NaNs
        columns_of = [table[name].ravel().astype(np.float64) for name in ("x", "y", "z")]
    points = np.stack(columns_of, axis=1)
    return points[(np.abs(points) <= _FARTHEST).all(axis=1)]  # nan is not
