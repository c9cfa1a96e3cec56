# SPDX-License-Identifier: Apache-2.0
"""Directories of weights that are used without being named: bundled and installed ones.

Installed weights are export directories called like their model, under VT_MODELS_WEIGHTS if that
is set, else under vt_models in the user's data directory (XDG_DATA_HOME, ~/.local/share).
`vt-models export NAME --weights FILE --install` writes them there.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from vt_models.registry import ModelSpec
from vt_models.runtime.export_directory import MANIFEST

WEIGHTS_VARIABLE = "VT_MODELS_WEIGHTS"


def bundled_directory(spec: ModelSpec) -> Path | None:
    """Return the export directory bundled for a model, None where there is none."""
    if spec.bundled_weights is None:
        return None
    directory = Path(str(files("vt_models"))) / "weights" / "shipped" / spec.bundled_weights
    return directory if (directory / MANIFEST).is_file() else None


def installed_directory(spec: ModelSpec) -> Path:
    """Return the directory of a model's installed weights, whether there are any or not."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        return Path(named) / spec.name
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "vt_models" / spec.name


def find_weights(spec: ModelSpec) -> Path | None:
    """Return the export directory used when none is named: installed first, then bundled."""
    installed = installed_directory(spec)
    return installed if (installed / MANIFEST).is_file() else bundled_directory(spec)
