# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

import vt_models
from vt_models.auto_model import Choice, Hardware, choose_model, probe_hardware
from vt_models.cli.main import main
from vt_models.registry import get_spec, list_models
from vt_models.runtime.installed_weights import (
    WEIGHTS_VARIABLE,
    bundled_directory,
    find_weights,
    installed_directory,
)

if TYPE_CHECKING:
    from pathlib import Path

LAPTOP = Hardware(jetson=None, memory_gib=16.0, power_mode=None, cuda=False)
DESKTOP = dataclasses.replace(LAPTOP, cuda=True)
AGX = Hardware("NVIDIA Jetson AGX Orin", memory_gib=30.0, power_mode="MAXN", cuda=True)
DEFAULT = list_models()[0]


def everything(_: str) -> bool:
    return True


def nothing_but_the_default(name: str) -> bool:
    return name == DEFAULT


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        (LAPTOP, DEFAULT),
        (DESKTOP, "procontext"),
        (AGX, "asymtrack_b"),
        (dataclasses.replace(AGX, power_mode="MODE_30W"), "asymtrack_b"),
        (dataclasses.replace(AGX, power_mode="MODE_15W_6CORE"), "asymtrack_s"),
        (dataclasses.replace(AGX, power_mode=None), "asymtrack_s"),
        (dataclasses.replace(AGX, power_mode="a new name"), "asymtrack_s"),
        (dataclasses.replace(AGX, memory_gib=7.4), "asymtrack_s"),
        (dataclasses.replace(AGX, memory_gib=7.4, power_mode="7W"), "asymtrack_t"),
        (dataclasses.replace(AGX, memory_gib=3.8), "asymtrack_t"),
    ],
)
def test_what_suits_a_machine(hardware: Hardware, expected: str) -> None:
    choice = choose_model(hardware, everything)
    assert choice.name == expected
    assert expected in choice.reason


@pytest.mark.parametrize("hardware", [LAPTOP, DESKTOP, AGX])
def test_without_weights_it_is_the_default_and_the_reason_says_so(hardware: Hardware) -> None:
    choice = choose_model(hardware, nothing_but_the_default)
    assert choice.name == DEFAULT
    if hardware is not LAPTOP:
        assert "no weights of" in choice.reason


def test_a_smaller_variant_with_weights_is_better_than_none() -> None:
    assert choose_model(AGX, lambda name: name == "asymtrack_t").name == "asymtrack_t"


@pytest.mark.parametrize("hardware", [DESKTOP, AGX])
def test_only_installed_weights_change_the_choice(
    hardware: Hardware, tmp_path: Path, monkeypatch
) -> None:
    """Those that ship for other models than the default are weaker than the default's."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    assert choose_model(hardware).name == DEFAULT
    wanted = choose_model(hardware, everything).name
    (tmp_path / wanted).mkdir()
    (tmp_path / wanted / "model.json").write_text("{}")
    assert choose_model(hardware).name == wanted


def test_only_a_jetson_gets_asymtrack_by_size() -> None:
    board = dataclasses.replace(AGX, jetson=None, cuda=False)
    assert choose_model(board, everything).name == DEFAULT


def test_the_probe_reads_what_linux_says(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        7802880 kB\nMemFree: 1 kB\n")
    found = probe_hardware(tmp_path)
    assert found.jetson == "NVIDIA Jetson Orin Nano"
    assert found.memory_gib == pytest.approx(7.44, abs=0.01)
    assert not found.cuda


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B\0")
    assert probe_hardware(tmp_path) == Hardware(None, 0.0, None, cuda=False)


def test_auto_is_a_name_of_create_tracker(monkeypatch) -> None:
    monkeypatch.setattr("vt_models.api.choose_model", lambda: Choice(DEFAULT, "told so"))
    assert vt_models.create_tracker("auto", device="cpu").spec.name == DEFAULT


def test_installed_weights_come_before_those_that_ship(tmp_path: Path, monkeypatch) -> None:
    spec = get_spec(DEFAULT)
    bundled = bundled_directory(spec)
    assert bundled is not None
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    assert installed_directory(spec) == tmp_path / DEFAULT
    assert find_weights(spec) == bundled
    shutil.copytree(bundled, tmp_path / DEFAULT)
    assert find_weights(spec) == tmp_path / DEFAULT
    assert vt_models.create_tracker(DEFAULT, device="cpu").spec.name == DEFAULT


def test_without_any_weights_the_error_says_where_they_belong(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(vt_models.WeightsError, match="asymtrack_s") as caught:
        vt_models.create_tracker("asymtrack_s")
    assert str(tmp_path / "vt_models" / "asymtrack_s") in str(caught.value)


def test_an_export_can_be_installed(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    bundled = bundled_directory(get_spec(DEFAULT))
    assert bundled is not None
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    weights = str(bundled / "weights.safetensors")
    assert main(["export", DEFAULT, "--weights", weights, "--install"]) == 0
    assert find_weights(get_spec(DEFAULT)) == tmp_path / DEFAULT
