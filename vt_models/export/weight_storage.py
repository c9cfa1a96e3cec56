# SPDX-License-Identifier: Apache-2.0
"""Store the weights of an exported graph small; the arithmetic is float32 (needs torch).

The weights of the network are rounded to what will be stored, so that torch computes with the same
numbers. Then the graph's initialisers become smaller, each followed by the nodes that give the
float32 back; ONNX Runtime folds these while it loads.

"int8" is for networks that would be too large to bundle otherwise: a scale for each output channel
of a matrix, row of an embedding or kernel, and all else as float16.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

Storage: TypeAlias = Literal["float32", "float16", "int8"]

# Smaller tensors are not worth the nodes behind them.
_HALF_MIN_ELEMENTS = 64
_BYTES_MIN_ELEMENTS = 1024
_LARGEST = 127


@dataclass(frozen=True, eq=False)
class Scaled:
    """A matrix as int8 with a scale for each entry of its first or, transposed, its last axis."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]


@dataclass
class Stored:
    """Weights of a network as they were rounded.

    Attributes:
        storage: of the weights.
        scaled: those that are int8, by the bytes of their float32 values.
    """

    storage: Storage
    scaled: dict[bytes, Scaled] = field(default_factory=dict)


@torch.no_grad()
def round_weights(module: nn.Module, storage: Storage) -> Stored:
    """Round the weights of a network to what can be stored, in place."""
    stored = Stored(storage)
    if storage == "float32":
        return stored
    kept = set()
    if storage == "int8":
        for part in module.modules():
            if not isinstance(part, nn.Linear | nn.Conv2d | nn.Embedding):
                continue
            if part.weight.numel() >= _BYTES_MIN_ELEMENTS:
                _round_to_bytes(part.weight, stored)
                kept.add(part.weight)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor not in kept:
            round_to_half(tensor)
    return stored


def round_to_half(tensor: torch.Tensor) -> None:
    """Round float32 to the nearest float16 value, in place, where none is beyond 65504."""
    if tensor.dtype == torch.float32:
        rounded = tensor.half().float()
        if torch.isfinite(rounded).all():
            tensor.copy_(rounded)


def _round_to_bytes(weight: torch.Tensor, stored: Stored) -> None:
    """Round a weight (rows, ...) to 255 steps a row, in place."""
    rows = weight.cpu().numpy()
    ones = (1,) * (rows.ndim - 1)
    largest = np.abs(rows.reshape(len(rows), -1)).max(axis=1)
    scale = (np.maximum(largest, np.float32(1e-12)) / _LARGEST).astype(np.float32)
    by_row = scale.reshape(-1, *ones)
    values = np.rint(rows / by_row).astype(np.int8)
    rounded = values.astype(np.float32) * by_row
    weight.copy_(torch.from_numpy(rounded))
    stored.scaled[rounded.tobytes()] = Scaled(values, by_row)
    if rows.ndim == 2:  # a linear map's matrix is stored transposed in a graph
        stored.scaled[np.ascontiguousarray(rounded.T).tobytes()] = Scaled(values.T, by_row.T)


def store_weights(model: onnx.ModelProto, stored: Stored) -> None:
    """Make a graph's float32 initialisers as small as their values allow, in place."""
    if stored.storage == "float32":
        return
    nodes: list[onnx.NodeProto] = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        scaled = stored.scaled.get(values.tobytes()) if values.size else None
        if scaled is not None and (*scaled.values.shape, 1, 1) == values.shape:
            scaled = Scaled(scaled.values[..., None, None], scaled.scale[..., None, None])
        if scaled is not None and scaled.values.shape == values.shape:
            nodes += _as_bytes(model, tensor, scaled)
        elif values.size >= _HALF_MIN_ELEMENTS:
            nodes += _as_half(tensor, values)
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_bytes(
    model: onnx.ModelProto, tensor: onnx.TensorProto, scaled: Scaled
) -> list[onnx.NodeProto]:
    name = tensor.name
    small, scale, wide = f"{name}.int8", f"{name}.scale", f"{name}.wide"
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(scaled.values), small))
    model.graph.initializer.append(
        numpy_helper.from_array(np.ascontiguousarray(scaled.scale), scale)
    )
    return [
        helper.make_node("Cast", [small], [wide], to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, scale], [name]),
    ]


def _as_half(tensor: onnx.TensorProto, values: NDArray[np.float32]) -> list[onnx.NodeProto]:
    """Store as float16 where that holds the values exactly; else leave the tensor."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.array_equal(half, values):
        return []
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
    return [helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT)]
