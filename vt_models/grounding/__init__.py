# SPDX-License-Identifier: Apache-2.0
"""Find what a sentence describes in a whole frame (docs/grounding.md).

>>> from vt_models.grounding import list_grounders
>>> list_grounders()
['onnx', 'pjvlt', 'zero_shot']
"""

from __future__ import annotations

from vt_models.grounding.backends import create_grounder, list_grounders
from vt_models.grounding.grounder import Detector, Grounder, text_verifier
from vt_models.grounding.results import Candidate, Grounding, GroundingCancelledError, Status
from vt_models.grounding.settings import GroundingSettings
from vt_models.grounding.text import check_text

__all__ = [
    "Candidate",
    "Detector",
    "Grounder",
    "Grounding",
    "GroundingCancelledError",
    "GroundingSettings",
    "Status",
    "check_text",
    "create_grounder",
    "list_grounders",
    "text_verifier",
]
