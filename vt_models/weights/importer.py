# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints made into weights files of this package.

The authors' trainers save a dict (epoch, actor_type, net_type, net, net_info, constructor,
optimizer, stats, settings) whose ``net`` is the state dict; ``stats`` and ``settings`` pickle
classes of their own code, so that `torch.load` fails on it, or executes it. `container` reads it
without executing anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import WeightsError
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.weights.container import Checkpoint, StoredTensor, read_checkpoint
from vt_models.weights.tensors import Layout, describe_difference, layout_of, save_weights

if TYPE_CHECKING:
    from torch import nn

NET_KEY = "net"


@dataclass(frozen=True)
class ImportedCheckpoint:
    """The tensors of a published checkpoint that a model reads.

    Attributes:
        model: name of the model.
        tensors: arrays by key, exactly the model's keys, shapes and dtypes.
        unused: keys of the checkpoint that no computation reads, dropped.
        epoch: of the training, None where the file does not say.
        source: name of the file.
        source_sha256: of the file.
    """

    model: str
    tensors: dict[str, NDArray[np.generic]]
    unused: tuple[str, ...]
    epoch: int | None
    source: str
    source_sha256: str

    def save(self, output: str | Path) -> Path:
        """Write a `.safetensors` file, atomically; see `save_weights` for the errors."""
        metadata = {"source": self.source, "source_sha256": self.source_sha256}
        if self.epoch is not None:
            metadata["epoch"] = str(self.epoch)
        return save_weights(self.tensors, output, self.model, metadata)


def import_checkpoint(file: str | Path, model: str) -> ImportedCheckpoint:
    """Read a published checkpoint; nothing in it is executed.

    Args:
        file: as the authors publish it.
        model: name of the model it is of, one of `list_models()`. AsymTrack-S and -B have the same
            layout; which of them a file is of cannot be told from its tensors.

    Raises:
        InputError: no such model.
        BackendError: torch is not installed (the model's layout comes from the network itself).
        WeightsError: the file is missing, cut short, damaged or not a checkpoint, or its keys,
            shapes or dtypes are not exactly the model's; the message names the first few.
    """
    spec = get_spec(model)
    checkpoint = read_checkpoint(file)
    state = _net_state(checkpoint)
    expected, droppable = _layout(spec)
    used = {name: tensor for name, tensor in state.items() if name not in droppable}
    if difference := describe_difference(expected, _described(used)):
        hint = _hint(state, spec)
        raise WeightsError(f"{checkpoint.path} does not fit {model}: {difference}{hint}")
    tensors = checkpoint.arrays(used)
    _check_finite(tensors, checkpoint.path)
    return ImportedCheckpoint(
        model=model,
        tensors=tensors,
        unused=tuple(name for name in state if name in droppable),
        epoch=_epoch(checkpoint.content),
        source=checkpoint.path.name,
        source_sha256=_sha256(checkpoint.path),
    )


def _net_state(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    """Return the state dict of a checkpoint."""
    content = checkpoint.content
    if not isinstance(content, dict):
        raise WeightsError(f"{checkpoint.path} holds no dict, so it is not a published checkpoint")
    state = content.get(NET_KEY)
    if not isinstance(state, dict):
        keys = ", ".join(str(key) for key in list(content)[:5] if isinstance(key, str))
        raise WeightsError(
            f"{checkpoint.path} is not a published checkpoint: it has no weights under "
            f"{NET_KEY!r}, only {keys or 'nothing'}"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise WeightsError(f"{checkpoint.path}: {name!r} under {NET_KEY!r} is not a tensor")
    return dict(state)


def _layout(spec: ModelSpec) -> tuple[Layout, frozenset[str]]:
    """Return what a model loads, and which keys of a published file it leaves unread."""
    from vt_models.api import create_model  # noqa: PLC0415 (api imports this package)

    net: nn.Module = create_model(spec.name)
    unused: Any = getattr(net, "unused_published", tuple)
    return layout_of(net), frozenset(unused())


def _described(state: dict[str, StoredTensor]) -> Layout:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()}


def _hint(state: dict[str, StoredTensor], spec: ModelSpec) -> str:
    """Return which other models of the family the file does fit, as the end of a sentence."""
    fitting = []
    for name in list_models():
        other = get_spec(name)
        if other.family == spec.family and name != spec.name:
            expected, droppable = _layout(other)
            used = {key: tensor for key, tensor in state.items() if key not in droppable}
            if not describe_difference(expected, _described(used)):
                fitting.append(name)
    return f"; it fits {' and '.join(fitting)}" if fitting else ""


def _check_finite(tensors: dict[str, NDArray[np.generic]], path: Path) -> None:
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise WeightsError(f"{path}: {name} has values that are not finite")


def _epoch(content: dict[str, Any]) -> int | None:
    epoch = content.get("epoch")
    return epoch if isinstance(epoch, int) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
