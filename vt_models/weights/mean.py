# SPDX-License-Identifier: Apache-2.0
"""The mean of weights of one model: of checkpoints of a run, or of two runs with one start."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vt_models.errors import InputError, WeightsError
from vt_models.weights.tensors import (
    Layout,
    describe_difference,
    read_tensors,
    save_weights,
    stored_settings,
)

_SHARE_ERROR = 1e-6


def save_mean(
    files: Sequence[Path], model: str, output: str | Path, shares: Sequence[float] | None = None
) -> Path:
    """Write the weighted mean of weights files, value by value, in float32.

    Networks that were trained from one start keep what each has learned in their mean, which is
    often as good or better where neither was trained (Wortsman et al., "Robust fine-tuning of
    zero-shot models", 2022). Networks of different starts have no useful mean.

    Args:
        files: two or more `.safetensors` files of this package; float16 is widened.
        model: name of the model that they are of.
        output: where to; the name ends in `.safetensors`.
        shares: of each file, from 0 to 1, together 1; None: equal ones.

    Returns:
        The path written. Its metadata name the files, their shares and their sha256.

    Raises:
        InputError: fewer than two files, or shares that are no shares.
        WeightsError: a file is missing, damaged, of another model, of another network setting, or
            has other tensors than the first; or the output cannot be written.
    """
    if len(files) < 2:
        raise InputError(f"the mean of {len(files)} weights files: expected two or more")
    shares = [1.0 / len(files)] * len(files) if shares is None else list(shares)
    if (
        len(shares) != len(files)
        or not all(0.0 <= share <= 1.0 for share in shares)
        or abs(sum(shares) - 1.0) > _SHARE_ERROR
    ):
        raise InputError(
            f"shares are {shares}, expected {len(files)} numbers from 0 to 1 that add up to 1"
        )
    settings = stored_settings(files[0], model)
    mean: dict[str, np.ndarray] = {}
    expected: Layout = {}
    origins = []
    for path, share in zip(files, shares, strict=True):
        if stored_settings(path, model) != settings:
            raise WeightsError(f"{path} is of another network setting than {files[0]}")
        tensors, _ = read_tensors(path)
        arrays = {name: _widened(tensor.numpy()) for name, tensor in tensors.items()}
        found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
        expected = expected or found
        if difference := describe_difference(expected, found):
            raise WeightsError(f"{path} does not fit {files[0]}: {difference}")
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                mean[name] = mean.get(name, 0.0) + share * array.astype(np.float64)
            else:  # counters
                mean[name] = array
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        origins.append(f"{share:g} {path.name} {digest}")
    values = {name: array.astype(expected[name][0]) for name, array in mean.items()}
    return save_weights(values, output, model, {"mean_of": "; ".join(origins)}, settings)


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
