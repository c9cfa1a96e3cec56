# SPDX-License-Identifier: Apache-2.0
"""The services `~/set_target` and `~/clear_target`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import Trigger

from vt_interfaces.srv import SetTarget
from vt_ros.common.convert import (
    bounding_box_from_xywh,
    candidates_to_detections,
    stamp_nanoseconds,
    xywh_from_bounding_box,
)
from vt_ros.common.futures import until_done
from vt_ros.tracker.grounding_thread import Question
from vt_ros.tracker.target_request import Moment, TargetRefusedError, Wish, check

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from rclpy.node import Node
    from sensor_msgs.msg import CompressedImage, Image

    from vt_ros.tracker.diagnostics import Health
    from vt_ros.tracker.grounding_thread import Finder, Found
    from vt_ros.tracker.parameters import LiveSettings
    from vt_ros.tracker.target_request import Asked, Started
    from vt_ros.tracker.tracking_thread import Pipeline

_T = TypeVar("_T")
_Code = SetTarget.Response


@dataclass(frozen=True)
class Works:
    """What an active tracker works with.

    Attributes:
        pipeline: starts targets and tracks them.
        finder: finds those that are given by a text or a point.
        message_type: of the images.
    """

    pipeline: Pipeline
    finder: Finder
    message_type: type[Image] | type[CompressedImage]


class _Pursuit:
    """A request whose target is being looked for; it can be given up, whatever it waits for."""

    def __init__(self) -> None:
        self.refusal: TargetRefusedError | None = None
        self._waits_for: Future[object] | None = None

    def wait_for(self, answer: Future[object]) -> None:
        """The next thing it waits for; cancelled at once if it was given up before."""
        self._waits_for = answer
        if self.refusal is not None:
            answer.cancel()

    def give_up(self, refusal: TargetRefusedError) -> None:
        """Answer with this refusal, unless its target is being started already."""
        self.refusal = refusal
        if self._waits_for is not None:
            self._waits_for.cancel()


class TargetService:
    """Answers requests for targets, in the executor's thread; others do the work.

    Args:
        node: offers the services.
        live: asked at every request.
        health: knows why the node is not active, and its model.
    """

    def __init__(self, node: Node, live: Callable[[], LiveSettings], health: Health) -> None:
        self._node, self._live, self._health = node, live, health
        self._works: Works | None = None
        self._pursuit: _Pursuit | None = None
        # A request waits for a frame, or for what is looked for in it; a later one must be heard.
        node.create_service(
            SetTarget,
            "~/set_target",
            self._on_set_target,
            callback_group=ReentrantCallbackGroup(),
        )
        node.create_service(Trigger, "~/clear_target", self._on_clear_target)

    def open(self, works: Works) -> None:
        """Take requests: the node is active."""
        self._works = works

    def close(self) -> None:
        """Refuse requests, also the one whose target is being looked for."""
        self._works = None
        self._give_up(_Code.ERROR_NOT_ACTIVE, "the tracker was deactivated")

    async def _on_set_target(
        self, request: SetTarget.Request, response: SetTarget.Response
    ) -> SetTarget.Response:
        log = self._node.get_logger()
        try:
            asked = check(request)
            started, found = await self._start(request, asked)
        except TargetRefusedError as refusal:
            response.error_code = refusal.code
            response.message = str(refusal)
            if refusal.header is not None:
                response.header = refusal.header
                response.alternatives = candidates_to_detections(refusal.candidates, refusal.header)
            log.warning(f"set_target refused: {refusal}")
            return response
        response.success = True
        response.target_id = started.target_id
        response.box = bounding_box_from_xywh(started.box)
        response.header = started.header
        response.score = 1.0
        if found is not None:
            response.score, response.message = found.score, found.reason
            response.alternatives = candidates_to_detections(found.alternatives, found.header)
        x, y, w, h = started.box
        log.info(
            f"target {started.target_id} set: x={x:g} y={y:g} w={w:g} h={h:g} {response.message}"
        )
        return response

    async def _start(
        self, request: SetTarget.Request, asked: Asked
    ) -> tuple[Started, Found | None]:
        """Start a target, and say what was found if one had to be looked for."""
        works, live = self._works, self._live()
        if works is None:
            health = self._health
            remedy = f"model {health.loading} is being loaded" if health.loading else "activate it"
            raise TargetRefusedError(
                _Code.ERROR_NOT_ACTIVE, f"the tracker is {health.lifecycle}, not active; {remedy}"
            )
        self._check_text_is_read(asked, live)
        self._give_up(_Code.ERROR_CANCELLED, f"cancelled by a later set_target ({asked})")
        moment = Moment(
            stamp_nanoseconds(request.stamp), live.set_target_timeout, live.set_target_tolerance
        )
        if asked.looks:
            return await self._pursue(works, asked, moment)
        wish = Wish(xywh_from_bounding_box(request.box), asked.text, moment)
        answer = works.pipeline.set_target(wish)
        await until_done(answer, self._node.executor)
        started = answer.result()
        if asked.text and live.grounder is not None:
            works.finder.prepare()  # for the moment when the target is lost
        return started, None

    async def _pursue(self, works: Works, asked: Asked, moment: Moment) -> tuple[Started, Found]:
        """Pick the frame, look for the target in it, start there, and catch up."""
        pursuit = self._pursuit = _Pursuit()
        picked = await self._outcome(pursuit, works.pipeline.pick(moment))
        try:
            question = Question(picked.arrival, works.message_type, asked.text, asked.point)
            found = await self._outcome(pursuit, works.finder.ask(question))
            wish = Wish(found.box, asked.text, picked)
            return await self._outcome(pursuit, works.pipeline.set_target(wish)), found
        finally:
            works.pipeline.release(picked)

    async def _outcome(self, pursuit: _Pursuit, answer: Future[_T]) -> _T:
        """What another thread answers; or the refusal, if the pursuit was given up."""
        pursuit.wait_for(answer)
        await until_done(answer, self._node.executor)
        if answer.cancelled():
            raise pursuit.refusal or TargetRefusedError(_Code.ERROR_CANCELLED, "cancelled")
        return answer.result()

    def _give_up(self, code: int, reason: str) -> None:
        """Refuse the request whose target is still being looked for, if there is one."""
        if self._pursuit is not None:
            self._pursuit.give_up(TargetRefusedError(code, reason))
            self._pursuit = None

    def _check_text_is_read(self, asked: Asked, live: LiveSettings) -> None:
        """Refuse a text that neither the model nor a grounding back end reads."""
        model = self._health.model
        if not asked.text or live.grounder is not None or model is None:
            return
        if asked.looks:
            reason = "a text alone is not looked for: grounding.backend is none"
        elif not model.tracker.spec.language:
            reason = f"model {model.name} takes no text, and grounding.backend is none"
        else:
            return
        raise TargetRefusedError(
            _Code.ERROR_TEXT_UNSUPPORTED,
            f"{reason}; set grounding.backend, or give a box alone (mode 0)",
        )

    def _on_clear_target(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._give_up(_Code.ERROR_CANCELLED, "cancelled by clear_target")
        if self._works is None:
            response.message = "the tracker is not active; there is no target"
            return response
        number = self._works.pipeline.clear_target()
        response.success = True
        response.message = f"target {number} cleared" if number else "there was no target"
        self._node.get_logger().info(response.message)
        return response
