# SPDX-License-Identifier: Apache-2.0
"""`vt-models weights verify`: what ships is whole, and damage of every kind is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training packages")

from vt_models.cli.main import main
from vt_models.errors import WeightsError
from vt_models.grounding.export_directory import BUNDLED as BUNDLED_DETECTOR
from vt_models.longterm.calibration import read_calibration
from vt_models.registry import get_spec, list_models
from vt_models.runtime.export_directory import read_export
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.verify import verify, weights_here

BUNDLED = [name for name in list_models() if bundled_directory(get_spec(name)) is not None]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    directory = bundled_directory(get_spec("asymtrack_lite0"))
    assert directory is not None
    return shutil.copytree(directory, tmp_path / "copied")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_are_whole_calibrated_and_described(name: str) -> None:
    directory = bundled_directory(get_spec(name))
    assert directory is not None
    found = verify(directory)
    assert found.model == name
    assert {"template.onnx", "search.onnx"} <= set(found.files)
    assert found.calibrated
    assert found.has_card
    has_network = (directory / "weights.safetensors").is_file()
    assert found.network_loaded in ((True, None) if has_network else (None,))
    assert directory in weights_here()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_description_has_the_current_keys_and_means_the_same_with_the_previous_ones(
    name: str, tmp_path: Path
) -> None:
    directory = bundled_directory(get_spec(name))
    assert directory is not None
    text = (directory / "model.json").read_text(encoding="utf-8")
    older = shutil.copytree(directory, tmp_path / "older")
    for now, before in (
        ("size_calibration", "size_fit"),
        ("similarity", "likeness"),
        ("covariance_scale", "spread_scale"),
    ):
        assert text.count(f'"{now}": ') == 1
        assert f'"{before}"' not in text
        text = text.replace(f'"{now}": ', f'"{before}": ')
    (older / "model.json").write_text(text, encoding="utf-8")

    current, previous = read_export(directory), read_export(older)

    assert previous.spec == current.spec
    assert read_calibration(previous.calibration) == read_calibration(current.calibration)


@pytest.mark.parametrize("file", ["search.onnx", "template.onnx", "weights.safetensors"])
def test_verify_changed_byte_is_found(copied: Path, file: str) -> None:
    data = bytearray((copied / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / file).write_bytes(data)
    with pytest.raises(WeightsError, match=file):
        verify(copied)


def test_verify_command_fails_if_one_directory_fails(copied, tmp_path, capsys) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(["weights", "verify", str(tmp_path / "nothing"), str(copied), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in found["passed"]] == ["asymtrack_lite0"]
    assert "model.json" in found["failed"][str(tmp_path / "nothing")]


def test_verify_command_checks_installed_weights(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VT_MODELS_WEIGHTS", str(tmp_path))
    assert main(["weights", "verify"]) == 0
    assert "asymtrack_lite0: " in capsys.readouterr().out
    (tmp_path / "asymtrack_t").mkdir()
    assert main(["weights", "verify"]) == 1
    assert "FAILED: " in capsys.readouterr().out


def test_verify_needs_no_training_packages() -> None:
    """As on a robot: `pip install .` is enough."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'timm', 'safetensors']));"
        "from vt_models.cli.main import main; sys.exit(main(['weights', 'verify']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "asymtrack_lite0: " in result.stdout


def test_bundled_detector_is_whole_and_described() -> None:
    found = verify(BUNDLED_DETECTOR)
    assert found.model == "text_detector"
    assert set(found.files) == {"detector.onnx", "tokenizer.json"}
    assert found.has_card
    assert BUNDLED_DETECTOR in weights_here()


def test_verify_damaged_detector_is_found(tmp_path: Path, capsys) -> None:
    copied = shutil.copytree(BUNDLED_DETECTOR, tmp_path / "copied")
    data = bytearray((copied / "detector.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "detector.onnx").write_bytes(data)
    assert main(["weights", "verify", str(copied)]) == 1
    assert "detector.onnx" in capsys.readouterr().out
