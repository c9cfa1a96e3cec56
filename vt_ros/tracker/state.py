# SPDX-License-Identifier: Apache-2.0
"""What the tracker node is and has: lifecycle, model, loading, failure."""

from __future__ import annotations

from dataclasses import dataclass

from vt_ros.tracker.grounding_thread import GroundingThread
from vt_ros.tracker.model_loading import LoadedModel
from vt_ros.tracker.publishers import Publishers
from vt_ros.tracker.session import Session


@dataclass
class Resources:
    """What `configure` makes and `cleanup` releases.

    Attributes:
        model: that is at work, or would be.
        publishers: of the reports.
        grounding: searches for descriptions.
    """

    model: LoadedModel
    publishers: Publishers
    grounding: GroundingThread


@dataclass
class NodeState:
    """The state of the node. The node writes it, services and diagnostics read it.

    Attributes:
        lifecycle: state of the lifecycle node.
        failure: why the last transition failed; empty if it did not.
        loading: name of the model that is being loaded; empty: none.
        switch_failure: why the last change of the model failed; empty if it did not.
        resources: while the node is inactive or active.
        session: while it is active.
    """

    lifecycle: str = "unconfigured"
    failure: str = ""
    loading: str = ""
    switch_failure: str = ""
    resources: Resources | None = None
    session: Session | None = None
