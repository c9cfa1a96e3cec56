# SPDX-License-Identifier: Apache-2.0
"""What every engine shares: the interface that a tracker calls, devices, and names of inputs.

An engine runs the graphs of one network and keeps the encoded template of one target, so each
tracker has its own. `OnnxEngine` runs an export directory, `TorchEngine` a torch module. This
module imports neither ONNX Runtime nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import InputError
from vt_models.registry import ModelSpec

Device: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt"]
Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Template:
    """Template of a target, as a network reads it.

    Attributes:
        crops: (V, T, T, 3) uint8 RGB, one for each of the model's views.
        box: (4,) float32 x, y, w, h of the target as fractions of the first crop.
        mask: (T, T) bool, True where the first crop shows padding; None where it shows none, or
            where the network has no input for it.
    """

    crops: NDArray[np.uint8]
    box: Array
    mask: NDArray[np.bool_] | None = None


class Engine(Protocol):
    """Run the graphs of a network."""

    def set_template(self, template: Template) -> None:
        """Encode a template, as the static and as the dynamic one."""

    def set_dynamic(self, template: Template) -> None:
        """Encode the dynamic template anew; only models that have one."""

    def set_text(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> None:
        """Encode a text; only models with language.

        Args:
            ids: (L,) word pieces.
            mask: (L,) True for those that count; all False for no text.
        """

    def search(
        self, crop: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> tuple[Array, ...]:
        """Run the search graph on a (S, S, 3) uint8 RGB crop.

        Args:
            crop: the search region.
            mask: (S, S) True where it shows padding; None where it shows none.

        Returns:
            The network's outputs with their batch dimension of 1; buffers may be reused by the
            next call.
        """


def check_device(device: str) -> Device:
    """Return `device` if it is a known name, else raise InputError."""
    if device not in get_args(Device):
        raise InputError(f"no device called {device!r}; devices: {', '.join(get_args(Device))}")
    return device  # type: ignore[return-value]


def check_threads(threads: int | None) -> int | None:
    """Return `threads` if it is None or a positive number, else raise InputError."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise InputError(f"threads must be a whole number from 1 to 1024 or None, got {threads!r}")
    return threads


def dynamic_names(state_names: Iterable[str]) -> tuple[str, ...]:
    """Return the search graph's names for the state of the dynamic template."""
    return tuple(f"dynamic_{name}" for name in state_names)


def search_states(
    spec: ModelSpec, state_names: Iterable[str], text_state_names: Iterable[str]
) -> tuple[str, ...]:
    """Return the names of the states that a search graph takes, in order."""
    dynamic = dynamic_names(state_names) if spec.dynamic_template else ()
    return (*state_names, *dynamic, *text_state_names)


def template_extras(template: Template, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """Return the template graph's inputs beside the crops, as batches of one, in order."""
    values: dict[str, NDArray[Any]] = {}
    for name in spec.template_inputs:
        if name == "template_box":
            values[name] = np.ascontiguousarray(template.box, np.float32)[None]
        else:
            size = spec.template_size
            mask = np.zeros((size, size), np.bool_) if template.mask is None else template.mask
            values[name] = np.ascontiguousarray(mask)[None]
    return values
