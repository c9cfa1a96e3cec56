# SPDX-License-Identifier: Apache-2.0
"""Messages about a target, as the node `tracker` publishes them, without ROS.

The definitions of vision_msgs, vt_interfaces and foxglove_msgs are in `definitions/`; a test
compares them with the packages of this repository.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vt_models.geometry.bearing import NAN, Bearing
from vt_models.geometry.boxes import Box
from vt_models.video.drawing import STATE_COLOURS
from vt_models.video.image_messages import MessageHeader
from vt_models.video.outlines import (
    FONT,
    LINE,
    box_corners,
    corner_lines,
    covariance_ellipse,
    label_place,
)

DETECTIONS = "vision_msgs/msg/Detection2DArray"
STATUS = "vt_interfaces/msg/TrackStatus"
BEARING = "geometry_msgs/msg/Vector3Stamped"
ANNOTATIONS = "foxglove_msgs/msg/ImageAnnotations"

MEASURED, PREDICTED = "target", "coasting"
"""Classes of a detection: seen in this image, or only predicted for it."""
# rosbags drops the defaults of a definition; this is the only one that is not zero.
_DEFAULTS = {("geometry_msgs/msg/Quaternion", "w"): 1.0}
_STATES = tuple(STATE_COLOURS)  # in the order in which TrackStatus numbers them
_COASTING = "COASTING"
_LINE_LOOP, _LINE_LIST = 2, 4
_BAR = 0.7  # how opaque the bar behind a text is


class Messages:
    """Makes and serialises messages; fields that are not given are zero or empty."""

    def __init__(self) -> None:
        self.types = get_typestore(Stores.ROS2_JAZZY)
        for package in (files(__package__) / "definitions").iterdir():
            for file in package.iterdir():
                name = f"{package.name}/msg/{file.name.removesuffix('.msg')}"
                text = file.read_text(encoding="utf-8")
                self.types.register(get_types_from_msg(text, name))

    def make(self, name: str, **given: Any) -> Any:
        """Make a message of the type `name`; AttributeError for a field that it does not have."""
        fields = self.types.fielddefs[name][1]
        unknown = given.keys() - {field for field, _ in fields}
        if unknown:
            raise AttributeError(f"{name} has no {', '.join(sorted(unknown))}")
        values = [
            given[field] if field in given else _DEFAULTS.get((name, field), self._empty(*about))
            for field, about in fields
        ]
        return self.types.types[name](*values)

    def _empty(self, kind: Nodetype, about: Any) -> Any:
        if kind == Nodetype.NAME:
            return self.make(about)
        if kind == Nodetype.BASE:
            return "" if about[0] == "string" else 0
        (element, element_about), length = about
        count = length if kind == Nodetype.ARRAY else 0
        if element == Nodetype.BASE and element_about[0] != "string":
            return np.zeros(count, element_about[0])
        return [self._empty(element, element_about) for _ in range(count)]

    def serialise(self, message: Any, name: str) -> bytes:
        """Return the bytes of a message in CDR."""
        return bytes(self.types.serialize_cdr(message, name))

    def header(self, header: MessageHeader) -> Any:
        """Make a std_msgs/Header."""
        return self.make("std_msgs/msg/Header", stamp=self._time(header), frame_id=header.frame_id)

    def _time(self, header: MessageHeader) -> Any:
        return self.make("builtin_interfaces/msg/Time", sec=header.sec, nanosec=header.nanosec)

    def detections(
        self,
        header: MessageHeader,
        state: int,
        score: float,
        box: Box | None,
        covariance: NDArray[np.float64] | None,
        target_id: int,
    ) -> bytes:
        """Make `~/detections`: one detection, or none where there is no box.

        Args:
            header: of the image.
            state: of the target, one of TrackStatus.STATE_*.
            score: confidence in [0, 1].
            box: x, y, w, h in pixels.
            covariance: (4, 4) of centre x, centre y, width, height in pixels squared.
            target_id: number of the target.
        """
        make, found = self.make, []
        if box is not None:
            x, y, w, h = box
            centre = make("vision_msgs/msg/Point2D", x=x + 0.5 * w, y=y + 0.5 * h)
            pose = make("vision_msgs/msg/Pose2D", position=centre, theta=0.0)
            full = np.zeros((6, 6))
            if covariance is not None:
                full[:4, :4] = covariance
            spread = make("geometry_msgs/msg/PoseWithCovariance", covariance=full.ravel())
            name = PREDICTED if _STATES[state] == _COASTING else MEASURED
            hypothesis = make("vision_msgs/msg/ObjectHypothesis", class_id=name, score=float(score))
            found.append(
                make(
                    "vision_msgs/msg/Detection2D",
                    header=self.header(header),
                    results=[
                        make(
                            "vision_msgs/msg/ObjectHypothesisWithPose",
                            hypothesis=hypothesis,
                            pose=spread,
                        )
                    ],
                    bbox=make("vision_msgs/msg/BoundingBox2D", center=pose, size_x=w, size_y=h),
                    id=str(target_id),
                )
            )
        message = make(DETECTIONS, header=self.header(header), detections=found)
        return self.serialise(message, DETECTIONS)

    def status(self, header: MessageHeader, bearing: Bearing | None, **fields: Any) -> bytes:
        """Make `~/status`; `fields` are those of TrackStatus but header and direction."""
        message = self.make(
            STATUS,
            header=self.header(header),
            azimuth=bearing.azimuth if bearing else NAN,
            elevation=bearing.elevation if bearing else NAN,
            bearing_sigma=bearing.sigma if bearing else NAN,
            **fields,
        )
        return self.serialise(message, STATUS)

    def bearing(self, header: MessageHeader, bearing: Bearing) -> bytes:
        """Make `~/bearing`."""
        x, y, z = bearing.ray
        vector = self.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)
        message = self.make(BEARING, header=self.header(header), vector=vector)
        return self.serialise(message, BEARING)

    def annotations(
        self,
        header: MessageHeader,
        state: int,
        label: str,
        box: Box | None,
        covariance: NDArray[np.float64] | None,
    ) -> bytes:
        """Make `~/annotations`, what Foxglove draws over the image, in the colour of the state.

        They are the box, of a predicted one its corners alone, the ellipse in which its centre
        lies, and a label. Arguments as of `detections`.
        """
        make, name = self.make, _STATES[state]
        red, green, blue = (part / 255.0 for part in STATE_COLOURS[name])
        colour = make("foxglove_msgs/msg/Color", r=red, g=green, b=blue, a=1.0)
        bar = make("foxglove_msgs/msg/Color", r=0.0, g=0.0, b=0.0, a=_BAR)
        lines = []
        if box is not None:
            coasts = name == _COASTING
            outline = corner_lines(box) if coasts else box_corners(box)
            lines.append((_LINE_LIST if coasts else _LINE_LOOP, outline))
            if covariance is not None:
                lines.append((_LINE_LOOP, covariance_ellipse(box, covariance)))
        drawn = [
            make(
                "foxglove_msgs/msg/PointsAnnotation",
                timestamp=self._time(header),
                type=kind,
                points=[make("foxglove_msgs/msg/Point2", x=x, y=y) for x, y in points],
                outline_color=colour,
                thickness=LINE,
            )
            for kind, points in lines
        ]
        x, y = label_place(box)
        text = make(
            "foxglove_msgs/msg/TextAnnotation",
            timestamp=self._time(header),
            position=make("foxglove_msgs/msg/Point2", x=x, y=y),
            text=label,
            font_size=FONT,
            text_color=colour,
            background_color=bar,
        )
        return self.serialise(make(ANNOTATIONS, points=drawn, texts=[text]), ANNOTATIONS)
