# SPDX-License-Identifier: Apache-2.0
"""Why there is no position."""

from __future__ import annotations


class NoPositionError(RuntimeError):
    """A frame gives no position by a method; the message says why, and what to do."""


class NotYetError(NoPositionError):
    """What the method needs has not come yet; it may."""
