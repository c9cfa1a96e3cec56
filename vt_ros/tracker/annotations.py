# SPDX-License-Identifier: Apache-2.0
"""What viewers draw over the image without burning it in: box, state, score, covariance ellipse.

Foxglove draws both kinds of messages; the second one can be read without Foxglove's package.
"""

from __future__ import annotations

from foxglove_msgs.msg import Color, ImageAnnotations, Point2, PointsAnnotation, TextAnnotation
from geometry_msgs.msg import Point
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import ImageMarker

from vt_interfaces.msg import TrackStatus
from vt_models.video.drawing import STATE_COLOURS
from vt_models.video.outlines import (
    FONT,
    LINE,
    Points,
    box_corners,
    corner_lines,
    covariance_ellipse,
    label_place,
)
from vt_ros.common.convert import STATE_NAMES
from vt_ros.tracker.current_target import FrameReport

_BOX_ID, _ELLIPSE_ID = 0, 1


class AnnotationPublisher:
    """Publishes `~/annotations` and `~/image_markers`; nothing is made while nobody subscribes.

    Args:
        node: whose lifecycle the publishers follow.
    """

    def __init__(self, node: LifecycleNode) -> None:
        create = node.create_lifecycle_publisher
        self._annotations = create(ImageAnnotations, "~/annotations", 10)
        self._markers = create(ImageMarker, "~/image_markers", 10)

    def publish(self, report: FrameReport) -> None:
        """Publish what there is to draw over the image of a report."""
        if self._annotations.get_subscription_count() > 0:
            self._annotations.publish(image_annotations(report))
        if self._markers.get_subscription_count() > 0:
            for marker in image_markers(report):
                self._markers.publish(marker)


def image_annotations(report: FrameReport) -> ImageAnnotations:
    """Return a report for Foxglove; a predicted box has its corners alone.

    The text stands above the box, or at the top left where there is none.
    """
    r, g, b = (part / 255.0 for part in STATE_COLOURS[STATE_NAMES[report.state]])
    colour, stamp = Color(r=r, g=g, b=b, a=1.0), report.header.stamp
    place, lines = label_place(report.box), []
    if report.box is not None:
        kind = PointsAnnotation.LINE_LOOP
        outline = box_corners(report.box)
        if report.state == TrackStatus.STATE_COASTING:
            kind, outline = PointsAnnotation.LINE_LIST, corner_lines(report.box)
        lines.append((kind, outline))
        if report.covariance is not None:
            lines.append(
                (PointsAnnotation.LINE_LOOP, covariance_ellipse(report.box, report.covariance))
            )
    text = f"{STATE_NAMES[report.state]} {report.score:.2f}"
    return ImageAnnotations(
        points=[
            PointsAnnotation(
                timestamp=stamp,
                type=kind,
                points=[Point2(x=x, y=y) for x, y in points],
                outline_color=colour,
                thickness=LINE,
            )
            for kind, points in lines
        ],
        texts=[
            TextAnnotation(
                timestamp=stamp,
                position=Point2(x=place[0], y=place[1]),
                text=f"{text} confirm?" if report.unconfirmed else text,
                font_size=FONT,
                text_color=colour,
                background_color=Color(r=0.0, g=0.0, b=0.0, a=0.7),
            )
        ],
    )


def image_markers(report: FrameReport) -> tuple[ImageMarker, ImageMarker]:
    """Return the box and the ellipse as markers; without a box those that remove them."""
    r, g, b = (part / 255.0 for part in STATE_COLOURS[STATE_NAMES[report.state]])
    coasts = report.state == TrackStatus.STATE_COASTING
    outlines: list[Points] = [[], []]
    if report.box is not None:
        outlines[_BOX_ID] = corner_lines(report.box) if coasts else _closed(box_corners(report.box))
        if report.covariance is not None:
            outlines[_ELLIPSE_ID] = _closed(covariance_ellipse(report.box, report.covariance))
    box, ellipse = (
        ImageMarker(
            header=report.header,
            ns="target",
            id=number,
            type=(
                ImageMarker.LINE_LIST if coasts and number == _BOX_ID else ImageMarker.LINE_STRIP
            ),
            action=ImageMarker.ADD if points else ImageMarker.REMOVE,
            scale=LINE,
            outline_color=ColorRGBA(r=r, g=g, b=b, a=1.0),
            points=[Point(x=x, y=y) for x, y in points],
        )
        for number, points in enumerate(outlines)
    )
    return box, ellipse


def _closed(points: Points) -> Points:
    return [*points, points[0]]
