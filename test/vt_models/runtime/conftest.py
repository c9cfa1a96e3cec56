# SPDX-License-Identifier: Apache-2.0
"""An export directory that a test may damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vt_models.registry import ModelSpec


@pytest.fixture
def directory(exported_small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported_small, tmp_path / "export")


@pytest.fixture
def edit(directory: Path) -> Callable[..., None]:
    """Replace entries of the directory's model.json."""

    def replace(**changes: Any) -> None:
        path = directory / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return replace


@pytest.fixture
def crops() -> Callable[[ModelSpec], list[NDArray[np.uint8]]]:
    """A template and a search crop of noise."""

    def make(spec: ModelSpec) -> list[NDArray[np.uint8]]:
        rng = np.random.default_rng(2)
        return [
            rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            for side in (spec.template_size, spec.search_size)
        ]

    return make
