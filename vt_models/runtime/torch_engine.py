# SPDX-License-Identifier: Apache-2.0
"""Run a torch network; the only module of this room that imports torch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError
from vt_models.nets import SiameseNet
from vt_models.nets.graphs import SearchGraph, TemplateGraph, TextGraph
from vt_models.registry import ModelSpec
from vt_models.runtime.engine import (
    Array,
    Device,
    Template,
    check_device,
    check_threads,
    template_extras,
)


class TorchEngine:
    """Run a torch network; same results as `OnnxEngine` to rounding (needs torch).

    The network is copied, put in evaluation mode and merged; the caller's stays as it is.

    Args:
        net: the network.
        spec: its specification.
        device: "auto", "cpu" or "cuda".
        threads: for torch's own pool, which is one for the whole process; None leaves it.

    Attributes:
        net: the copy.

    Raises:
        InputError: unknown device, or a number of threads below 1.
        BackendError: the device is not available.
    """

    def __init__(
        self,
        net: SiameseNet,
        spec: ModelSpec,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        device, threads = check_device(device), check_threads(threads)
        self.spec = spec
        self._device = _torch_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        merged = copy.deepcopy(net).eval().merge()  # type: ignore[attr-defined]
        self.net: SiameseNet = merged
        self._template_graph = TemplateGraph(merged, spec).eval().to(self._device)
        self._search_graph = SearchGraph(merged, spec).eval().to(self._device)
        self._text_graph = TextGraph(merged).eval().to(self._device) if spec.language else None
        self._no_padding = np.zeros((spec.search_size, spec.search_size), np.bool_)
        self._state: tuple[Any, ...] | None = None
        self._dynamic: tuple[Any, ...] = ()
        self._text_state: tuple[Any, ...] | None = None if spec.language else ()

    def set_template(self, template: Template) -> None:
        """Encode a template and keep its state; see `vt_models.runtime.engine.Engine`."""
        self._state = None
        self._state = self._encode(template)
        self._dynamic = self._state if self.spec.dynamic_template else ()

    def set_dynamic(self, template: Template) -> None:
        """Encode the dynamic template anew; see `vt_models.runtime.engine.Engine`."""
        self._dynamic = self._encode(template)

    def set_text(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> None:
        """Encode a text and keep its state; see `vt_models.runtime.engine.Engine`."""
        if self._text_graph is None:
            raise InputError(f"{self.spec.name} takes no text")
        self._text_state = None
        with exact_inference():
            self._text_state = tuple(
                self._text_graph(self._tensor(ids[None]), self._tensor(mask[None]))
            )

    def search(
        self, crop: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> tuple[Array, ...]:
        """Search a crop; see `vt_models.runtime.engine.Engine`."""
        if self._state is None:
            raise InputError("search() before set_template()")
        if self._text_state is None:
            raise InputError("search() before set_text()")
        inputs = [self._tensor(crop[None])]
        if "search_mask" in self.spec.search_inputs:
            inputs.append(self._tensor((self._no_padding if mask is None else mask)[None]))
        with exact_inference():
            outputs = self._search_graph(*inputs, *self._state, *self._dynamic, *self._text_state)
            return tuple(output.float().cpu().numpy() for output in outputs)

    def _encode(self, template: Template) -> tuple[Any, ...]:
        extras = template_extras(template, self.spec).values()
        with exact_inference():
            return tuple(
                self._template_graph(
                    self._tensor(template.crops), *(self._tensor(extra) for extra in extras)
                )
            )

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """Copy an array to the device."""
        return torch.from_numpy(array.copy()).to(self._device)


@contextlib.contextmanager
def exact_inference() -> Iterator[None]:
    """Compute without gradients, and without TF32 on GPUs."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


def _torch_device(device: Device) -> torch.device:
    if device == "tensorrt":
        raise BackendError("backend 'torch' has no TensorRT; use backend 'onnxruntime'")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise BackendError("device 'cuda' was asked for and torch sees no CUDA GPU; use 'cpu'")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and present) else "cpu")
