# SPDX-License-Identifier: Apache-2.0
"""The reports as topics of a tracked bag."""

from __future__ import annotations

from types import TracebackType

from vt_models.geometry.bearing import NAN
from vt_models.offline.tracking import FrameReports
from vt_models.video.bags.writer import TrackedBagWriter


class BagOutput:
    """Topics of a tracked bag; `writer` also copies those of the source.

    Args:
        writer: of the file.
        model: name of the model.
        reason: why it was chosen; empty where it was asked for by name.
    """

    def __init__(self, writer: TrackedBagWriter, model: str, reason: str) -> None:
        self._writer, self._model, self._reason = writer, model, reason

    def __enter__(self) -> BagOutput:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def write(self, reports: FrameReports) -> None:
        """See `Output`."""
        make, header, time = self._writer.messages, reports.frame.header, reports.frame.time
        if reports.pixels is not None:
            self._writer.write_image(header, time, reports.pixels)
        height, width = reports.pixels.shape[:2] if reports.pixels is not None else (0, 0)
        for one in reports.targets:
            state = int(one.state)
            # Times differ from run to run, and the bag has the same bytes: they are there only
            # where a machine is imitated.
            timed = reports.age is not None
            status = make.status(
                header,
                one.bearing,
                state=state,
                score=one.score,
                target_id=one.target_id,
                model=self._model,
                model_reason=self._reason,
                frames_processed=reports.processed,
                frames_dropped=reports.dropped,
                frames_rejected=reports.rejected,
                inference_ms=1000.0 * one.seconds if timed else NAN,
                image_age_ms=1000.0 * (reports.age or 0.0) if timed else NAN,
                message=one.message,
                unconfirmed=one.estimate.unconfirmed,
                image_width=width,
                image_height=height,
            )
            detections = make.detections(
                header, state, one.score, one.box, one.covariance, one.target_id
            )
            label = f"{one.state.name} {one.score:.2f}"  # as the node's
            if one.estimate.unconfirmed:
                label += " confirm?"
            if len(reports.targets) > 1:
                label = f"{one.name}: {label}"
            annotations = make.annotations(header, state, label, one.box, one.covariance)
            self._writer.write(one.name, "detections", time, detections)
            self._writer.write(one.name, "status", time, status)
            if one.bearing is not None:
                self._writer.write(one.name, "bearing", time, make.bearing(header, one.bearing))
            self._writer.write(one.name, "annotations", time, annotations)

    def close(self) -> None:
        """See `Output`."""
        self._writer.close()
