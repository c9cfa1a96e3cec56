# SPDX-License-Identifier: Apache-2.0
"""Weights files of this package: strict to load, atomic to write."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path

from safetensors.numpy import save_file

from vt_models.errors import InputError, WeightsError
from vt_models.registry import get_spec
from vt_models.weights.tensors import load_weights, save_weights

pytestmark = pytest.mark.train

SPEC = get_spec("asymtrack_t")


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))


def numbers(net: Any) -> dict[str, Any]:
    return {name: np.asarray(tensor.numpy() + 1) for name, tensor in net.state_dict().items()}


def test_save_weights_load_unchanged(tmp_path: Path) -> None:
    net = network()
    tensors = numbers(net)
    path = save_weights(tensors, tmp_path / "w.safetensors", SPEC.name, {"epoch": "3"})

    metadata = load_weights(net, path, SPEC.name)

    assert metadata == {"format": "vt_models", "model": SPEC.name, "epoch": "3"}
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), tensors[name])


def test_load_weights_float16_is_widened(tmp_path: Path) -> None:
    net = network()
    tensors = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in numbers(net).items()
    }
    load_weights(net, save_weights(tensors, tmp_path / "w.safetensors", SPEC.name), SPEC.name)
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), tensors[name].astype(np.float32))
        assert tensor.dtype != torch.float16


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"0.weight": None}, "1 tensor missing: 0.weight"),
        ({"9.weight": np.zeros(2)}, "1 tensor unexpected: 9.weight"),
        ({"0.bias": np.zeros(4, np.float32)}, "0.bias (is [4], should be [3])"),
        ({"0.bias": np.zeros(3, np.float64)}, "0.bias (is float64, should be float32)"),
    ],
)
def test_load_weights_that_do_not_fit_change_nothing(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tensors = {k: v for k, v in {**numbers(net), **changes}.items() if v is not None}
    path = save_weights(tensors, tmp_path / "w.safetensors", SPEC.name)

    with pytest.raises(WeightsError) as refusal:
        load_weights(net, path, SPEC.name)

    assert reason in str(refusal.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_load_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = save_weights(numbers(network()), tmp_path / "w.safetensors", "asymtrack_b")

    with pytest.raises(WeightsError, match="holds weights of asymtrack_b, not of asymtrack_t"):
        load_weights(network(), path, SPEC.name)


def test_load_weights_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(numbers(network()), path)

    with pytest.raises(WeightsError, match="was not written by vt_models"):
        load_weights(network(), path, SPEC.name)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_load_weights_cut_short_are_refused(tmp_path: Path, size: int) -> None:
    path = save_weights(numbers(network()), tmp_path / "w.safetensors", SPEC.name)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(WeightsError, match="not a whole"):
        load_weights(network(), path, SPEC.name)


def test_load_weights_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*missing"):
        load_weights(network(), tmp_path / "missing.safetensors", SPEC.name)


def test_load_weights_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="it is a pipe"):
        load_weights(network(), tmp_path / "pipe.safetensors", SPEC.name)
    (tmp_path / "link.safetensors").symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match="it is a device"):
        load_weights(network(), tmp_path / "link.safetensors", SPEC.name)


def test_save_weights_failed_write_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_weights(numbers(network()), tmp_path / "w.safetensors", SPEC.name)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights({"a": np.zeros(2)}, path, SPEC.name)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_weights_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot write"):
        save_weights({"a": np.zeros(2)}, tmp_path / "no" / "w.safetensors", SPEC.name)


def test_save_weights_other_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        save_weights({"a": np.zeros(2)}, tmp_path / "w.pth", SPEC.name)
