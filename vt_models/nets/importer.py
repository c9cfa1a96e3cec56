# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints made into weights files of this package.

The authors' trainers save a dict (epoch, actor_type, net_type, net, net_info, constructor,
optimizer, stats, settings) whose ``net`` is the state dict; ``stats`` and ``settings`` pickle
classes of their own code, so that `torch.load` fails on it, or executes it.
`vt_models.weights.container` reads it without executing anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import WeightsError
from vt_models.nets.builders import find_builder, training_packages, weightless
from vt_models.registry import ModelSpec, get_spec, list_models
from vt_models.weights.container import StoredTensor, net_state, read_checkpoint
from vt_models.weights.tensors import Layout, describe_difference, layout_of, save_weights

if TYPE_CHECKING:
    from torch import nn


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
    state = net_state(checkpoint)
    expected, droppable = _layout(spec)
    used = {name: tensor for name, tensor in state.items() if name not in droppable}
    if difference := describe_difference(expected, _described(used)):
        hint = _hint(state, spec)
        raise WeightsError(f"{checkpoint.path} does not fit {model}: {difference}{hint}")
    tensors = checkpoint.arrays(used)
    for name, array in tensors.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise WeightsError(f"{checkpoint.path}: {name} has values that are not finite")
    digest, epoch = hashlib.sha256(), checkpoint.content.get("epoch")
    with checkpoint.path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return ImportedCheckpoint(
        model=model,
        tensors=tensors,
        unused=tuple(name for name in state if name in droppable),
        epoch=epoch if isinstance(epoch, int) else None,
        source=checkpoint.path.name,
        source_sha256=digest.hexdigest(),
    )


def _layout(spec: ModelSpec) -> tuple[Layout, frozenset[str]]:
    """Return what a model loads, and which keys of a published file it leaves unread."""
    with training_packages(spec):
        net: nn.Module = weightless(find_builder(spec))
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
