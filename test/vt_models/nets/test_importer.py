# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints become weights of this package, or are refused with a reason."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from safetensors import safe_open

from vt_models.api import create_model
from vt_models.cli import weights as command
from vt_models.cli.arguments import declare_weights
from vt_models.errors import InputError, WeightsError
from vt_models.nets.importer import import_checkpoint
from vt_models.registry import get_spec
from vt_models.weights.tensors import load_weights

pytestmark = pytest.mark.train

VARIANTS = {"asymtrack_t": "tiny", "asymtrack_s": "small", "asymtrack_b": "base"}
FIRST = "backbone.patch_embed.proj.weight"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("model", VARIANTS)
def test_import_checkpoint_asymtrack_gives_the_reference_boxes(
    model: str,
    legacy: bool,
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
    golden_init: ModuleType,
    shared_dir: Path,
    tmp_path: Path,
) -> None:
    file = shared_dir / "reference" / "asymtrack" / f"{VARIANTS[model]}.golden.npz"
    vectors = dict(np.load(file))
    path = save_container(published_state(model, str(vectors["salt"])), legacy=legacy)
    output = tmp_path / "imported.safetensors"

    imported = import_checkpoint(path, model)
    imported.save(output)

    spec = get_spec(model)
    net = create_model(model, output)
    template = torch.from_numpy(golden_init.net_input("template", spec.template_size))
    search = torch.from_numpy(golden_init.net_input("search1", spec.search_size))
    with torch.no_grad():
        box = net(template, search)["box"]
    np.testing.assert_allclose(box, vectors["s1_box_cxcywh"][0], atol=1e-4)
    assert imported.epoch == 500
    assert len(imported.unused) == 12
    assert all("post_kernels" in name or "downsample" in name for name in imported.unused)


def test_import_checkpoint_accounts_for_every_tensor(
    published_state: Callable[..., dict[str, Any]], save_container: Callable[..., Path]
) -> None:
    state = published_state("asymtrack_t")

    imported = import_checkpoint(save_container(state), "asymtrack_t")

    assert set(imported.tensors) | set(imported.unused) == set(state)
    assert not set(imported.tensors) & set(imported.unused)
    for name, array in imported.tensors.items():
        np.testing.assert_array_equal(array, state[name].numpy(), err_msg=name)


def test_imported_checkpoint_save_records_its_source(
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
    tmp_path: Path,
) -> None:
    imported = import_checkpoint(save_container(published_state("asymtrack_t")), "asymtrack_t")
    output = imported.save(tmp_path / "t.safetensors")

    with safe_open(output, "np") as file:
        metadata = file.metadata()

    assert metadata == {
        "format": "vt_models",
        "model": "asymtrack_t",
        "epoch": "500",
        "source": "AsymTrack_ep0500.pth.tar",
        "source_sha256": imported.source_sha256,
    }
    assert len(imported.source_sha256) == 64
    assert list(tmp_path.glob(".*")) == []


def drop(state: Any) -> None:
    del state[FIRST]


def rename(state: Any) -> None:
    state["module.extra"] = state.pop(FIRST)


def reshape(state: Any) -> None:
    state[FIRST] = state[FIRST].flatten()


def halve(state: Any) -> None:
    state[FIRST] = state[FIRST].half()


def brain_float(state: Any) -> None:
    state[FIRST] = state[FIRST].bfloat16()


def spoil(state: Any) -> None:
    state[FIRST][0, 0, 0, 0] = float("nan")


def replace(state: Any) -> None:
    state[FIRST] = "a string"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop, f"1 tensor missing: {FIRST}"),
        (rename, f"1 tensor missing: {FIRST}; 1 tensor unexpected: module.extra"),
        (reshape, f"of another shape: {FIRST} (is [4704], should be [32, 3, 7, 7])"),
        (halve, f"of another dtype: {FIRST} (is float16, should be float32)"),
        (brain_float, f"of another dtype: {FIRST} (is bfloat16, should be float32)"),
        (spoil, f"{FIRST} has values that are not finite"),
        (replace, f"'{FIRST}' under 'net' is not a tensor"),
    ],
)
def test_import_checkpoint_that_does_not_fit_is_refused_with_the_reason(
    change: Any,
    reason: str,
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
) -> None:
    state = published_state("asymtrack_t")
    change(state)

    with pytest.raises(WeightsError) as refusal:
        import_checkpoint(save_container(state), "asymtrack_t")

    assert reason in str(refusal.value)


def test_import_checkpoint_other_model_is_refused_and_the_right_one_named(
    published_state: Callable[..., dict[str, Any]], save_container: Callable[..., Path]
) -> None:
    path = save_container(published_state("asymtrack_s"))

    with pytest.raises(WeightsError) as refusal:
        import_checkpoint(path, "asymtrack_t")

    message = str(refusal.value)
    assert "does not fit asymtrack_t: " in message
    assert "tensors missing: " in message
    assert "tensors unexpected: backbone.layers.2.blocks." in message
    assert ", and " in message
    assert message.endswith("it fits asymtrack_s and asymtrack_b")


def test_import_checkpoint_other_family_is_refused(
    published_state: Callable[..., dict[str, Any]], save_container: Callable[..., Path]
) -> None:
    with pytest.raises(WeightsError, match="does not fit asymtrack_lite0"):
        import_checkpoint(save_container(published_state("asymtrack_t")), "asymtrack_lite0")


def test_import_checkpoint_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="asymtrack_x"):
        import_checkpoint(tmp_path / "file", "asymtrack_x")


def bare(state: Any) -> Any:
    return dict(state)


def under_another_key(state: Any) -> Any:
    return {"state_dict": state, "epoch": 3}


def parallel(state: Any) -> Any:
    return {"net": {f"module.{name}": tensor for name, tensor in state.items()}}


@pytest.mark.parametrize("wrap", [bare, under_another_key, parallel])
def test_import_checkpoint_bare_or_wrapped_state_dict_is_read(
    wrap: Any, published_state: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    state = published_state("asymtrack_t")
    torch.save(wrap(state), tmp_path / "net.pth")
    imported = import_checkpoint(tmp_path / "net.pth", "asymtrack_t")
    np.testing.assert_array_equal(imported.tensors[FIRST], state[FIRST].numpy())


@pytest.mark.parametrize("whole", [torch.nn.Linear(2, 2), {"net": torch.nn.Linear(2, 2)}])
def test_import_checkpoint_pickled_module_is_called_one(whole: Any, tmp_path: Path) -> None:
    torch.save(whole, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        import_checkpoint(tmp_path / "net.pth", "asymtrack_t")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"net": 3}, {}])
def test_import_checkpoint_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)

    with pytest.raises(WeightsError, match="not a published checkpoint"):
        import_checkpoint(path, "asymtrack_t")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_import_checkpoint_cut_short_is_refused(
    fraction: float,
    legacy: bool,
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
) -> None:
    path = save_container(published_state("asymtrack_t"), legacy=legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])

    with pytest.raises(WeightsError, match=r"cut short|not a checkpoint"):
        import_checkpoint(path, "asymtrack_t")


@pytest.mark.parametrize("damage", ["byte", "swap"])
def test_import_checkpoint_changed_numbers_are_refused(
    damage: str,
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
) -> None:
    """The archive has a checksum of every entry."""
    path = save_container(published_state("asymtrack_t"))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1 if damage == "byte" else 255
    path.write_bytes(content)

    with pytest.raises(WeightsError, match="damaged"):
        import_checkpoint(path, "asymtrack_t")


def test_import_checkpoint_saved_on_a_gpu_needs_none(
    published_state: Callable[..., dict[str, Any]], save_container: Callable[..., Path]
) -> None:
    """The device is a word in the file; the same word elsewhere must not matter."""
    path = save_container(published_state("asymtrack_t"), legacy=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00hpu"))

    assert import_checkpoint(path, "asymtrack_t").epoch == 500


def test_weights_import_command_writes_what_it_reports(
    published_state: Callable[..., dict[str, Any]],
    save_container: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save_container(published_state("asymtrack_t"))
    output = tmp_path / "t.safetensors"
    parser = argparse.ArgumentParser()
    declare_weights(parser)
    arguments = ["import", str(path), "--model", "asymtrack_t", "--output", str(output)]

    assert command.run(parser.parse_args(arguments)) == 0
    text = capsys.readouterr().out
    assert command.run(parser.parse_args([*arguments, "--json"])) == 0
    report = json.loads(capsys.readouterr().out)

    net = create_model("asymtrack_t")
    load_weights(net, output, "asymtrack_t")
    assert len(report["unused"]) == 12
    assert all(name in text for name in report["unused"])
    assert report["tensors"] == len(net.state_dict()) == 199
    assert report["output"] == str(output)
    assert report["source_sha256"] in text
