# SPDX-License-Identifier: Apache-2.0
"""Our own weights files: `.safetensors` whose metadata say which model they are of.

Metadata, all strings: ``format`` ("vt_models"), ``model`` (its name), ``net`` (JSON of the
network's settings that differ from the model's, if any do), and whatever says where the numbers
come from (``source_sha256``, ``recipe``, ...).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vt_models.errors import InputError, WeightsError
from vt_models.files import open_regular, parse_json, write_bytes

if TYPE_CHECKING:
    from torch import nn

FORMAT = "vt_models"
SUFFIX = ".safetensors"
MOST_BYTES = 2**36
SETTINGS = "net"
"""Entry of the metadata: JSON of the network's settings that are not the model's."""
SHOWN = 3
"""How many keys an error message names before it only counts them."""

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Key of each tensor to its dtype's name and its shape."""


def load_weights(net: nn.Module, file: str | Path, model: str) -> dict[str, str]:
    """Load a `.safetensors` file of this package into a network, in place.

    Args:
        net: the network in training form (not merged).
        file: written by `vt-models train` or `vt-models weights import`.
        model: name of the model that the network is of.

    Returns:
        The file's metadata.

    Raises:
        WeightsError: the file is missing, damaged, of another model, or its keys, shapes or dtypes
            are not exactly the network's (but float16, as exports store it, is widened to
            float32). The network is then unchanged.
    """
    path = Path(file)
    tensors, metadata = read_tensors(path)
    _check_model(path, metadata, model)
    expected = layout_of(net)
    for name, tensor in tensors.items():
        if dtype_name(tensor) == "float16" and expected.get(name, ("",))[0] == "float32":
            tensors[name] = tensor.float()
    found = {name: (dtype_name(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    if difference := describe_difference(expected, found):
        raise WeightsError(f"{path} does not fit {model}: {difference}")
    net.load_state_dict(tensors, strict=True)
    return metadata


def stored_settings(file: str | Path, model: str) -> dict[str, Any]:
    """Return the settings in which the network of a weights file differs from its model's.

    Raises:
        WeightsError: the file is missing, damaged or of another model, or its metadata hold no
            mapping there.
    """
    path = Path(file)
    with _opened(path) as opened:
        metadata = opened.metadata() or {}
    _check_model(path, metadata, model)
    try:
        settings = parse_json(metadata.get(SETTINGS, "{}"))
    except ValueError as error:
        raise WeightsError(f"{path}: `{SETTINGS}` in its metadata is {error}") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: `{SETTINGS}` in its metadata is no mapping: {settings!r:.80}")
    return settings


def save_weights(
    tensors: Mapping[str, NDArray[np.generic]],
    file: str | Path,
    model: str,
    metadata: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write tensors as a weights file, atomically: the file appears whole or not at all.

    Args:
        tensors: arrays by key.
        file: where to; its name ends in `.safetensors` and its directory exists.
        model: name of the model the tensors are of.
        metadata: more facts to keep beside the tensors.
        settings: of the network, where they differ from the model's
            (`vt_models.nets.builders.changed_settings`), plain data; `stored_settings` reads them.

    Returns:
        The path written.

    Raises:
        InputError: the name does not end in `.safetensors`.
        WeightsError: the file cannot be written there.
    """
    path = Path(file)
    if path.suffix != SUFFIX:
        raise InputError(f"output {path} must end in {SUFFIX}")
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    facts = {**(metadata or {}), "format": FORMAT, "model": model}
    if settings:
        facts[SETTINGS] = json.dumps(settings)
    content = save(arrays, facts)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def layout_of(net: nn.Module) -> Layout:
    """Return the key, dtype and shape of every tensor that a network loads."""
    state = net.state_dict()
    return {name: (dtype_name(tensor), tuple(tensor.shape)) for name, tensor in state.items()}


def dtype_name(tensor: Any) -> str:
    """Return the name of the dtype of a torch tensor or a numpy array, for instance "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def describe_difference(expected: Layout, found: Layout) -> str:
    """Say what keeps `found` from being loaded as `expected`, in a sentence; "" for nothing."""
    common = [name for name in expected if name in found]
    shapes = [
        f"{name} (is {list(found[name][1])}, should be {list(expected[name][1])})"
        for name in common
        if found[name][1] != expected[name][1]
    ]
    dtypes = [
        f"{name} (is {found[name][0]}, should be {expected[name][0]})"
        for name in common
        if found[name][0] != expected[name][0]
    ]
    parts = [
        _listed("missing", [name for name in expected if name not in found]),
        _listed("unexpected", [name for name in found if name not in expected]),
        _listed("of another shape", shapes),
        _listed("of another dtype", dtypes),
    ]
    return "; ".join(part for part in parts if part)


def _listed(what: str, names: list[str]) -> str:
    """Count of tensors, what is wrong with them, and the first few names; "" for none."""
    if not names:
        return ""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    noun = "tensor" if len(names) == 1 else "tensors"
    return f"{len(names)} {noun} {what}: {', '.join(names[:SHOWN])}{more}"


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read all tensors (torch, on the CPU) and the metadata of a `.safetensors` file.

    Raises:
        WeightsError: the file is missing, damaged or no regular file.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a `.safetensors` file, its tensors torch's; WeightsError where that goes wrong."""
    if not path.exists():
        raise WeightsError(f"no weights file {path}")
    try:
        open_regular(path, MOST_BYTES).close()
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole {SUFFIX} file: {error}") from error


def _check_model(path: Path, metadata: dict[str, str], model: str) -> None:
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} was not written by vt_models (its metadata have no format {FORMAT!r}); "
            "train weights or import a published checkpoint with `vt-models weights import`"
        )
    found = metadata.get("model")
    if found != model:
        raise WeightsError(f"{path} holds weights of {found}, not of {model}")
