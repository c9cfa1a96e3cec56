# SPDX-License-Identifier: Apache-2.0
"""The services `~/set_target`, `~/clear_target`, `~/confirm_target` and `~/save_recording`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from vt_interfaces.srv import SetTarget
from vt_models.errors import InputError
from vt_ros.common.convert import (
    bounding_box_from_xywh,
    candidates_to_detections,
    stamp_nanoseconds,
)
from vt_ros.common.errors import describe_error
from vt_ros.common.futures import until_done
from vt_ros.common.services import create_service_for_many
from vt_ros.tracker.flight_recorder import RecordingError
from vt_ros.tracker.grounding_thread import GroundingJob, GroundingResult
from vt_ros.tracker.parameters import LiveSettings
from vt_ros.tracker.session import Session
from vt_ros.tracker.state import NodeState
from vt_ros.tracker.target_request import (
    FrameRef,
    TargetRefusedError,
    TargetRequest,
    TargetStarted,
    read_request,
)

_T = TypeVar("_T")
_Code = SetTarget.Response


class _Search:
    """A request whose target is being searched for; it can be cancelled, whatever it waits for."""

    def __init__(self) -> None:
        self.refusal: TargetRefusedError | None = None
        self._waits_for: Future[Any] | None = None

    def wait_for(self, step: Future[Any]) -> None:
        """Remember the next step; it is cancelled at once if the search was cancelled before."""
        self._waits_for = step
        if self.refusal is not None:
            step.cancel()

    def cancel(self, refusal: TargetRefusedError) -> None:
        """Answer with this refusal, unless the target is being started already."""
        self.refusal = refusal
        if self._waits_for is not None:
            self._waits_for.cancel()


class TargetService:
    """Answers requests for targets, in the executor's thread; other threads do the work.

    Args:
        node: offers the services.
        live: asked at every request.
        state: of the node.
    """

    def __init__(self, node: Node, live: Callable[[], LiveSettings], state: NodeState) -> None:
        self._node, self._live, self._state = node, live, state
        self._search: _Search | None = None
        # A request waits for a frame, or for what is searched in it; a later one must be heard.
        for service_type, name, callback in (
            (SetTarget, "set_target", self._on_set_target),
            (Trigger, "clear_target", self._on_clear_target),
            (SetBool, "confirm_target", self._on_confirm_target),
            (Trigger, "save_recording", self._on_save_recording),
        ):
            create_service_for_many(node, service_type, f"~/{name}", callback, _refuse)

    def cancel_search(self, code: int, reason: str) -> None:
        """Refuse the request whose target is still being searched for, if there is one."""
        if self._search is not None:
            self._search.cancel(TargetRefusedError(code, reason))
            self._search = None

    async def _on_set_target(
        self, message: SetTarget.Request, response: SetTarget.Response
    ) -> SetTarget.Response:
        live, stamp = self._live(), stamp_nanoseconds(message.stamp)
        frame = FrameRef(stamp, live.set_target_timeout, live.set_target_tolerance)
        return await self.start(message, frame, "set_target", response)

    async def start(
        self,
        message: SetTarget.Request,
        frame: FrameRef,
        entrance: str,
        response: SetTarget.Response | None = None,
    ) -> SetTarget.Response:
        """Start the target that a message asks for, and say in the log what came of it.

        Args:
            message: its stamp is not read.
            frame: that it is about.
            entrance: by which it came, for the log.
            response: to be filled in; None: a new one.
        """
        log, live = self._node.get_logger(), self._live()
        response = response or SetTarget.Response()
        result = None
        try:
            request = read_request(message, frame)
            session = self._active_session()
            self._check_text_is_read(request, live)
            self.cancel_search(
                _Code.ERROR_CANCELLED, f"cancelled by a later {entrance} ({request})"
            )
            if request.box is None:
                started, result = await self._search_and_start(session, request, frame)
            else:
                answer = session.tracking.set_target(request)
                await until_done(answer, self._node.executor)
                started = answer.result()
                if request.text and live.grounder is not None:
                    session.grounding.load_backend()  # for the moment when the target is LOST
        except TargetRefusedError as refusal:
            response.error_code = refusal.code
            response.message = str(refusal)
            if refusal.header is not None:
                response.header = refusal.header
                response.alternatives = candidates_to_detections(refusal.candidates, refusal.header)
            # A flood of requests would fill the disk with the log; each has its answer.
            log.warning(f"{entrance} refused: {refusal}", throttle_duration_sec=0.1)
            return response
        except Exception as error:  # an answer, whatever goes wrong; it would end the node
            response.error_code = _Code.ERROR_INTERNAL
            response.message = f"the request failed: {describe_error(error)}"
            self._node.get_logger().error(f"{entrance}: {response.message}")
            return response
        response.success = True
        response.target_id = started.target_id
        response.box = bounding_box_from_xywh(started.box)
        response.header = started.header
        response.score = 1.0
        if result is not None:
            response.score, response.message = result.score, result.reason
            response.alternatives = candidates_to_detections(result.alternatives, result.header)
        x, y, w, h = started.box
        log.info(
            f"target {started.target_id} set: x={x:g} y={y:g} w={w:g} h={h:g} {response.message}"
        )
        return response

    def _active_session(self) -> Session:
        """Return the session, or refuse: the node is not active."""
        state = self._state
        if state.session is not None:
            return state.session
        remedy = f"model {state.loading} is being loaded" if state.loading else "activate it"
        if state.failure and not state.loading:
            remedy = state.failure
        raise TargetRefusedError(
            _Code.ERROR_NOT_ACTIVE, f"the tracker is {state.lifecycle}, not active; {remedy}"
        )

    def _check_text_is_read(self, request: TargetRequest, live: LiveSettings) -> None:
        """Refuse a text that neither the model nor a grounding backend reads."""
        resources = self._state.resources
        if not request.text or live.grounder is not None or resources is None:
            return
        model = resources.model
        if request.box is None:
            reason = "a text alone is not looked for: grounding.backend is none"
        elif not model.tracker.spec.language:
            reason = f"model {model.name} takes no text, and grounding.backend is none"
        else:
            return
        raise TargetRefusedError(
            _Code.ERROR_TEXT_UNSUPPORTED,
            f"{reason}; set grounding.backend, or give a box alone (mode 0)",
        )

    async def _search_and_start(
        self, session: Session, request: TargetRequest, frame: FrameRef
    ) -> tuple[TargetStarted, GroundingResult]:
        """Hold the frame, find the box in it, start there, and catch up."""
        search = self._search = _Search()
        backlog = await self._outcome(search, session.tracking.hold(frame))
        try:
            job = GroundingJob(backlog.image, request.text, request.point)
            result = await self._outcome(search, session.grounding.submit(job))
            found = replace(request, box=result.box, frame=backlog)
            return await self._outcome(search, session.tracking.set_target(found)), result
        finally:
            session.tracking.release(backlog)

    async def _outcome(self, search: _Search, step: Future[_T]) -> _T:
        """Return what another thread answers; or refuse, if the search was cancelled."""
        search.wait_for(step)
        await until_done(step, self._node.executor)
        if step.cancelled():
            raise search.refusal or TargetRefusedError(_Code.ERROR_CANCELLED, "cancelled")
        return step.result()

    def _on_clear_target(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self.cancel_search(_Code.ERROR_CANCELLED, "cancelled by clear_target")
        session = self._state.session
        if session is None:
            response.message = "the tracker is not active; there is no target"
            return response
        number = session.tracking.clear_target()
        if self._state.resources is not None:
            self._state.resources.publishers.prediction.clear()
        response.success = True
        response.message = f"target {number} cleared" if number else "there was no target"
        self._node.get_logger().info(response.message, throttle_duration_sec=0.1)
        return response

    async def _on_confirm_target(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        try:
            answer = self._active_session().tracking.confirm(request.data)
            await until_done(answer, self._node.executor)
            response.message = answer.result()
        except (TargetRefusedError, InputError) as refusal:
            response.message = str(refusal)
            self._node.get_logger().warning(
                f"confirm_target refused: {refusal}", throttle_duration_sec=0.1
            )
            return response
        except Exception as error:  # an answer, whatever goes wrong; it would end the node
            response.message = f"the request failed: {describe_error(error)}"
            self._node.get_logger().error(f"confirm_target: {response.message}")
            return response
        response.success = True
        self._node.get_logger().info(response.message)
        return response

    async def _on_save_recording(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        try:
            written = self._active_session().recorder.save()
            await until_done(written, self._node.executor)
            response.message = str(written.result())
        except (TargetRefusedError, RecordingError) as refusal:
            response.message = str(refusal)
            return response
        except Exception as error:  # an answer, whatever goes wrong; it would end the node
            response.message = f"the request failed: {describe_error(error)}"
            self._node.get_logger().error(f"save_recording: {response.message}")
            return response
        response.success = True
        return response


def _refuse(response: Any, reason: str) -> None:
    """Refuse a request of any of the services, before any work on it."""
    response.message = reason
    if isinstance(response, SetTarget.Response):
        response.error_code = _Code.ERROR_CANCELLED
