# SPDX-License-Identifier: Apache-2.0
"""Functions that build networks, registered beside the networks that they build.

The registry (`vt_models.registry`) says what a tracker must know about a model without torch; this
finds its network. A model of the family F is registered in `vt_models.nets.F`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from vt_models.registry import ModelSpec

Builder = TypeVar("Builder", bound=Callable[[], Any])

_MODELS: dict[str, Callable[[], Any]] = {}
_MINIATURES: dict[str, Callable[[], Any]] = {}
_MINIATURE = "_miniature"


def register_model(build: Builder) -> Builder:
    """Register a function that builds the network of the model of its name.

    A function called `NAME_miniature` builds the same network with few weights, for tests and dry
    runs. It is left out where the network itself is small enough.
    """
    name = build.__name__
    if name.endswith(_MINIATURE):
        known, name = _MINIATURES, name.removesuffix(_MINIATURE)
    else:
        known = _MODELS
    if name in known:
        raise ValueError(f"{build.__module__}.{build.__name__} is registered already")
    known[name] = build
    return build


def find_builder(spec: ModelSpec, miniature: bool = False) -> Callable[[], Any]:
    """Return the function that builds a model's network, or its miniature; imports the family.

    Raises:
        ImportError: torch, or another package that the network needs, is not installed.
    """
    import_module(f"vt_models.nets.{spec.family}")
    build = _MODELS[spec.name]
    return _MINIATURES.get(spec.name, build) if miniature else build


def registered() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the models with a builder, and of those with a miniature.

    Only what has been imported counts.
    """
    return frozenset(_MODELS), frozenset(_MINIATURES)
