# SPDX-License-Identifier: Apache-2.0
"""Reading a checkpoint executes nothing, whatever is written in it."""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training packages")

from collections.abc import Callable
from pathlib import Path

from vt_models.errors import WeightsError
from vt_models.weights.container import StoredTensor, read_checkpoint

pytestmark = pytest.mark.train


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class CallWhenBuilt:
    """Pickles as an object whose state, list items and dict items come from calls."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return OrderedDict, (), {"state": self.call}, None, iter([("item", self.call)])


def system(marker: Path) -> Any:
    return Call(os.system, f"touch {marker}")


def evaluated(marker: Path) -> Any:
    return Call(eval, f"__import__('pathlib').Path({str(marker)!r}).touch()")


def executed(marker: Path) -> Any:
    return Call(exec, f"open({str(marker)!r}, 'w').close()")


def nested(marker: Path) -> Any:
    return [{"deep": (Call(dict, [("key", Call(list, (system(marker),)))]),)}]


def attributes(marker: Path) -> Any:
    """getattr(__import__("os"), "system")(...) as a chain of calls."""
    os_module = Call(builtins.__import__, "os")
    function = Call(getattr, os_module, "system")
    return Call(_apply, function, f"touch {marker}")


def process(marker: Path) -> Any:
    return Call(subprocess.call, ["touch", str(marker)])


def in_state(marker: Path) -> Any:
    return CallWhenBuilt(system(marker))


def unpickled_again(marker: Path) -> Any:
    return Call(pickle.loads, pickle.dumps(system(marker)))


def loaded_by_torch(marker: Path) -> Any:
    return Call(torch.storage._load_from_bytes, pickle.dumps(system(marker)))


def _apply(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


ATTACKS = [
    system,
    evaluated,
    executed,
    nested,
    attributes,
    process,
    in_state,
    unpickled_again,
    loaded_by_torch,
]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", ["settings", "net", "top"])
def test_read_checkpoint_executes_nothing(
    tmp_path: Path, attack: Any, legacy: bool, place: str
) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth.tar"
    payload = attack(marker)
    content = {
        "settings": {"net": {"a": torch.ones(2)}, "settings": payload},
        "net": {"net": {"a": torch.ones(2), "b": payload}},
        "top": payload,
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    modules = set(sys.modules)

    checkpoint = read_checkpoint(path)

    assert not marker.exists()
    assert set(sys.modules) == modules
    if place == "settings":
        arrays = checkpoint.arrays({"a": checkpoint.content["net"]["a"]})
        np.testing.assert_array_equal(arrays["a"], [1, 1])


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a not in (attributes, loaded_by_torch)])
def test_pickle_executes_the_attacks(tmp_path: Path, attack: Any) -> None:
    """Python's own unpickler executes them: without this the test above would prove nothing."""
    marker = tmp_path / "executed"

    pickle.loads(pickle.dumps(attack(marker), protocol=2))

    assert marker.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(Vtouch MARKER\ntR.",
        b"(Vtouch MARKER\nios\nsystem\n.",
        b"(cos\nsystem\nVtouch MARKER\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c\x01x\x85R.",
        b"cos\nsystem\n}(Vtouch MARKER\nVx\nub.",
    ],
    ids=["GLOBAL", "INST", "OBJ", "STACK_GLOBAL", "dotted", "BUILD"],
)
def test_read_checkpoint_every_way_of_naming_a_function_is_inert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opcodes: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    if not opcodes.startswith(b"\x80"):
        opcodes = b"\x80\x02" + opcodes

    with contextlib.suppress(WeightsError):
        read_checkpoint(archive(tmp_path, opcodes))

    assert not (tmp_path / "MARKER").exists()


def test_read_checkpoint_cached_extension_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("posix", "system", 250)
    try:
        assert pickle.loads(b"\x80\x02\x82\xfa.") is os.system
        with pytest.raises(WeightsError, match="extension codes"):
            read_checkpoint(archive(tmp_path, b"\x80\x02\x82\xfaVtouch MARKER\n\x85R."))
    finally:
        copyreg.remove_extension("posix", "system", 250)
    assert not (tmp_path / "MARKER").exists()


def test_read_checkpoint_poisoned_pickle_leaves_the_next_one_alone(tmp_path: Path) -> None:
    """Attributes set on what a look-up gave are gone with it."""
    poison = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}(X\x01\x00\x00\x00aK\x01u\x86b."

    with pytest.raises(WeightsError):
        read_checkpoint(archive(tmp_path, poison))

    clean = tmp_path / "clean.pth"
    torch.save({"net": {"a": torch.arange(3)}}, clean)
    checkpoint = read_checkpoint(clean)
    assert checkpoint.arrays(checkpoint.content["net"])["a"].tolist() == [0, 1, 2]


def test_read_checkpoint_small_file_cannot_reserve_much_memory(tmp_path: Path) -> None:
    memo = b"\x80\x02Nr\xff\xff\xff\x7f."

    with pytest.raises(WeightsError, match="memo index"):
        read_checkpoint(archive(tmp_path, memo))


DOUBLED = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(40))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"(" * 300_000,
        b"}" * 300_000,
        b"]" * 150_000 + b"a" * 149_999,
        b")" + b"\x85" * 10_000,
        b"})" + DOUBLED + b"K\x01s",
        b"cx\ny\n" * 2000,
    ],
    ids=["marks", "dicts", "nested lists", "nested tuples", "a key of 2^40 tuples", "names"],
)
def test_read_checkpoint_small_file_cannot_take_much_time(tmp_path: Path, opcodes: bytes) -> None:
    with pytest.raises(WeightsError, match=r"too large|nested too deeply"):
        read_checkpoint(archive(tmp_path, b"\x80\x02" + opcodes + b"."))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"ctorch\nSize\n((" + b"K\x01" * 100 + b"ttR",
        b"ccollections\nOrderedDict\n(]]K\x01aK\x02aatR",
        b"ctorch._utils\n_rebuild_tensor_v2\n(X\x01\x00\x00\x00aK\x00))tR",
    ],
    ids=["dimensions", "dict from a list", "no storage"],
)
def test_read_checkpoint_what_torch_never_writes_is_refused(tmp_path: Path, opcodes: bytes) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(archive(tmp_path, b"\x80\x02" + opcodes + b"."))


def test_read_checkpoint_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="it is a pipe"):
        read_checkpoint(tmp_path / "pipe.pth")
    (tmp_path / "link.pth").symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match="it is a device"):
        read_checkpoint(tmp_path / "link.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n<!DOCTYPE html><html><title>Virus scan warning</title>", "is a web page"),
        (b"<HTML>", "is a web page"),
        (b'\x10\0\0\0\0\0\0\0{"a":{"dtype"', r"is a \.safetensors file"),
    ],
)
def test_read_checkpoint_other_kind_of_file_is_called_by_its_name(tmp_path, content, said) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(path)


def test_arrays_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"net": {"a": torch.zeros(1).expand(10**6, 10**6)}}, path)
    checkpoint = read_checkpoint(path)

    with pytest.raises(WeightsError, match="a leaves its storage"):
        checkpoint.arrays(checkpoint.content["net"])


def test_read_checkpoint_compressed_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb/data.pkl", pickle.dumps(list(range(1000)), 2))

    with pytest.raises(WeightsError, match="compressed"):
        read_checkpoint(path)


TENSORS = {
    "plain": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "transposed": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
    "slice": torch.arange(20, dtype=torch.float64)[3:15:4],
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 4),
    "half": torch.arange(4, dtype=torch.float16),
    "bool": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.ones(2, 2)),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_arrays_equal_what_torch_wrote(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "tensors.pth"
    shared = torch.arange(10)
    tensors = {**TENSORS, "first": shared[:4], "second": shared[2:]}
    torch.save({"net": tensors}, path, _use_new_zipfile_serialization=not legacy)

    checkpoint = read_checkpoint(path)
    arrays = checkpoint.arrays(checkpoint.content["net"])

    for name, tensor in tensors.items():
        expected = tensor.detach().numpy()
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name)
        assert arrays[name].flags.c_contiguous


def test_read_checkpoint_of_the_authors_is_read(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "official_container_sample.pth.tar"

    checkpoint = read_checkpoint(path)

    arrays = checkpoint.arrays(checkpoint.content["net"])
    assert checkpoint.content["epoch"] == 500
    assert arrays["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert arrays["b"].shape == ()
    assert "lib" not in sys.modules


@pytest.mark.parametrize("content", [b"", b"P", b"PK", b"hello", b"\x89PNG\r\n\x1a\n", b"\x80"])
def test_read_checkpoint_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=str(path)):
        read_checkpoint(path)


def test_read_checkpoint_plain_pickle_or_archive_is_refused(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "plain.pkl", tmp_path / "plain.zip"
    plain.write_bytes(pickle.dumps({"net": {}}))
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("readme.txt", "hello")

    for path in (plain, zipped, tmp_path, tmp_path / "missing"):
        with pytest.raises(WeightsError, match=str(path)):
            read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_read_checkpoint_damaged_file_is_refused_or_read(
    tmp_path: Path, legacy: bool, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    content = {"net": {"a": torch.arange(6.0)}, "epoch": 3}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pth"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])

    try:
        checkpoint = read_checkpoint(path)
        state = checkpoint.content.get("net") if isinstance(checkpoint.content, dict) else None
        named = state.items() if isinstance(state, dict) else ()
        arrays = checkpoint.arrays({k: v for k, v in named if isinstance(v, StoredTensor)})
    except WeightsError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def archive(folder: Path, opcodes: bytes) -> Path:
    """A checkpoint archive around a pickle written by hand."""
    path = folder / "handmade.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("handmade/data.pkl", opcodes)
        file.writestr("handmade/byteorder", "little")
    return path
