# SPDX-License-Identifier: Apache-2.0
"""Means of weights files: value by value, and only of what belongs together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the training packages")

from vt_models.cli.main import main
from vt_models.errors import InputError, WeightsError
from vt_models.weights.mean import save_mean
from vt_models.weights.tensors import read_tensors, save_weights

pytestmark = pytest.mark.train

MODEL = "asymtrack_lite0"


@pytest.fixture
def files(tmp_path):
    """Three files of one layout; the second in float16, as exports store it."""
    rng = np.random.default_rng(0)
    written = []
    for number, kind in enumerate((np.float32, np.float16, np.float32)):
        values = {
            "weight": rng.normal(size=(3, 2)).astype(kind),
            "steps": np.array(number, np.int64),
        }
        written.append(save_weights(values, tmp_path / f"{number}.safetensors", MODEL))
    return written


def test_mean_is_that_of_each_value(files, tmp_path) -> None:
    values = [read_tensors(path)[0]["weight"].numpy().astype(np.float64) for path in files]
    tensors, about = read_tensors(save_mean(files, MODEL, tmp_path / "mean.safetensors"))
    np.testing.assert_allclose(tensors["weight"].numpy(), np.mean(values, axis=0), rtol=1e-6)
    assert tensors["weight"].numpy().dtype == np.float32
    assert int(tensors["steps"]) == 2, "a counter is the last file's"
    assert [origin.split()[1] for origin in about["mean_of"].split("; ")] == [
        path.name for path in files
    ]


def test_command_takes_shares(files, tmp_path, capsys) -> None:
    output = tmp_path / "mean.safetensors"
    words = ["weights", "mean", *map(str, files[::2]), "--model", MODEL, "--output", str(output)]
    assert main([*words, "--shares", "0.25,0.75"]) == 0
    first, last = (read_tensors(path)[0]["weight"].numpy() for path in files[::2])
    found = read_tensors(output)[0]["weight"].numpy()
    np.testing.assert_allclose(found, 0.25 * first + 0.75 * last, rtol=1e-6)
    for shares in ("0.25,x", "0.5", "0.5,0.6", "-0.5,1.5", "nan,1"):
        assert main([*words, f"--shares={shares}"]) == 2
        assert "hares" in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(files, tmp_path) -> None:
    output = tmp_path / "mean.safetensors"
    other = save_weights(
        {"weight": np.zeros((3, 4), np.float32)}, tmp_path / "o.safetensors", MODEL
    )
    with pytest.raises(WeightsError, match=r"1 tensor missing: steps.*should be \[3, 2\]"):
        save_mean([files[0], other], MODEL, output)
    stranger = save_weights({}, tmp_path / "s.safetensors", "asymtrack_t")
    with pytest.raises(WeightsError, match="asymtrack_t"):
        save_mean([files[0], stranger], MODEL, output)
    changed = save_weights({}, tmp_path / "c.safetensors", MODEL, settings={"width": 3})
    with pytest.raises(WeightsError, match="another network setting"):
        save_mean([files[0], changed], MODEL, output)
    with pytest.raises(InputError, match="two or more"):
        save_mean(files[:1], MODEL, output)
    assert not output.exists()
