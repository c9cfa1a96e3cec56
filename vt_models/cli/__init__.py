# SPDX-License-Identifier: Apache-2.0
"""The command line `vt-models`: one module a command, shared options in `options`."""

from __future__ import annotations

from vt_models.cli.main import main

__all__ = ["main"]
