# SPDX-License-Identifier: Apache-2.0
"""Reads a file made by `torch.save` without running anything that is written in it.

A checkpoint is a pickle, and a pickle is a program: it may name any function of any installed
package and have it called. The pickle machine of Python's standard library runs with its one door
to the outside, the look-up of names, replaced: the few names of `find_class` give objects of this
module that describe tensors, and every other name gives an inert placeholder that takes what it is
given and forgets it. Tensors stay descriptions until their numbers are asked for; their bytes are
then read as numbers and nothing else.

`torch.load(weights_only=True)` with inert stand-ins (torch 2.14) refuses what this reads: a
defaultdict or EasyDict beside the weights, any name of os or posix, protocol 4; and of the old
layout it reserves what a storage claims, 32 GB for a file of 1 kB.

Both layouts of `torch.save` are read: the zip archive of torch >= 1.6 and the sequence of pickles
before it. torch is not imported.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import WeightsError
from vt_models.files import open_regular

NET_KEYS = ("net", "state_dict", "model")
"""Where checkpoints hold their state dict; the authors of the trackers here write the first."""
_PARALLEL = "module."
_SAVE_STATE = ", not a state dict; where that class can be loaded, save its state_dict()"

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_MOST_FILE_BYTES = 64 * 2**30
_MOST_PICKLE_BYTES = 64 * 2**20
# The largest network here has 80,000 with its optimizer's state, and names each class once.
_MOST_OPCODES = 200_000
_MOST_NAMES = 1000
_MOST_MEMO_INDEX = 10**7
# Of a tuple with all tuples in it, which are gone through each time that it is a key of a dict.
_MOST_ITEMS = 4096
_MOST_DIMENSIONS = 16
# What cannot be a key, so that nothing goes through it.
_NO_KEYS = (pickletools.pylist, pickletools.pydict, pickletools.pyset)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ARCHIVE_FAULTS = (
    zipfile.BadZipFile,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What zipfile raises for damaged archives."""


class Storage(NamedTuple):
    """A block of numbers in the file: its name, element type and number of elements."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.numel * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)


class StoredTensor(NamedTuple):
    """A tensor as a view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Name of the element type, for instance "float32"."""
        return self.storage.dtype


class Checkpoint(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        content: plain containers, strings and numbers, `StoredTensor` for each tensor, and a
            placeholder without content for everything else.
        read: gives the bytes of storages by key.
    """

    path: Path
    content: Any
    read: Callable[[Iterable[Storage]], dict[str, bytes]]

    def arrays(self, tensors: Mapping[str, StoredTensor]) -> dict[str, NDArray[Any]]:
        """Return the numbers of tensors, each a contiguous array of its own.

        Raises:
            WeightsError: numpy has no such element type, a tensor leaves its storage, or bytes are
                missing.
        """
        for name, tensor in tensors.items():
            if tensor.dtype == "bfloat16":
                raise WeightsError(f"{self.path}: {name} is bfloat16, which is not read here")
            if not _fits(tensor):
                raise _damaged(self.path, f"{name} leaves its storage")
        data = self.read({tensor.storage for tensor in tensors.values()})
        return {name: _array(tensor, data) for name, tensor in tensors.items()}


def read_checkpoint(file: str | Path) -> Checkpoint:
    """Read a file made by `torch.save`; nothing in it is executed.

    Raises:
        WeightsError: the file is missing, cut short, damaged, or not such a file.
    """
    path = Path(file)
    try:
        with open_regular(path, _MOST_FILE_BYTES) as stream:
            start = stream.read(512)
        if start[:2] == b"PK":
            return _read_zip(path)
        if start[:1] == b"\x80":
            return _read_legacy(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError(
            f"{path} is a web page and no checkpoint: the download did not get past the site's "
            "question (Google Drive asks one for large files); open the address in a browser"
        )
    if start[8:10] == b'{"':
        raise WeightsError(
            f"{path} is a .safetensors file, which needs no import; give it as --weights where it "
            "was written by vt_models"
        )
    raise _not_a_checkpoint(path)


def net_state(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    """Return the state dict of a checkpoint: under one of `NET_KEYS`, or all that it holds.

    A prefix `module.` of every name, which DataParallel puts there, is taken off.
    """
    content, refused = checkpoint.content, f"{checkpoint.path} is not a published checkpoint: "
    if not isinstance(content, dict):
        raise WeightsError(f"{refused}it holds {origin_of(content) or 'no dict'}{_SAVE_STATE}")
    is_bare = bool(content) and all(isinstance(one, StoredTensor) for one in content.values())
    key = next((key for key in NET_KEYS if key in content), None)
    state = content if is_bare else content.get(key)
    if not isinstance(state, dict) or not state:
        found = origin_of(state)
        if found:
            raise WeightsError(f"{refused}under {key!r} it holds a {found}{_SAVE_STATE}")
        keys = ", ".join(f"{name:.40}" for name in list(content)[:5] if isinstance(name, str))
        raise WeightsError(
            f"{refused}it has no weights under {' or '.join(map(repr, NET_KEYS))}; its keys are "
            f"{keys or 'none'}"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            where = "" if is_bare else f" under {key!r}"
            raise WeightsError(f"{checkpoint.path}: {name!r:.80}{where} is not a tensor")
    if all(name.startswith(_PARALLEL) for name in state):
        return {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    return dict(state)


def _read_zip(path: Path) -> Checkpoint:
    """Read the layout since torch 1.6: ROOT/data.pkl and ROOT/data/KEY in a zip archive."""
    with _open_archive(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}/constants.pkl" in names:
            raise _not_a_checkpoint(path)
        order = f"{roots[0]}/byteorder"
        if order in names and _read_entry(archive, order, 16, path) != b"little":
            raise WeightsError(f"{path} is not little-endian, which is not read here")
        data = _read_entry(archive, f"{roots[0]}/data.pkl", _MOST_PICKLE_BYTES, path)
    content = _InertUnpickler(io.BytesIO(data), path).read()
    return Checkpoint(path, content, partial(_read_zip_storages, path, roots[0]))


def _read_zip_storages(path: Path, root: str, storages: Iterable[Storage]) -> dict[str, bytes]:
    data = {}
    with _open_archive(path) as archive:
        for storage in storages:
            name = f"{root}/data/{storage.key}"
            data[storage.key] = _read_entry(archive, name, storage.nbytes, path)
            if len(data[storage.key]) < storage.nbytes:
                raise _damaged(path, f"storage {storage.key} is too short")
    return data


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _ARCHIVE_FAULTS as error:
        raise _damaged(path, str(error)) from error


def _read_entry(archive: zipfile.ZipFile, name: str, limit: int, path: Path) -> bytes:
    """Read an entry. torch never compresses, so a compressed entry (a bomb?) is refused."""
    try:
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
            raise _damaged(path, f"entry {name} is compressed or too large")
        return archive.read(entry)
    except KeyError as error:
        raise _damaged(path, f"entry {name} is missing") from error
    except _ARCHIVE_FAULTS as error:
        raise _damaged(path, str(error)) from error


def _read_legacy(path: Path) -> Checkpoint:
    """Read the layout before torch 1.6: five pickles, then each storage's length and bytes."""
    with open_regular(path, _MOST_FILE_BYTES) as stream:
        if _InertUnpickler(stream, path).read() != _LEGACY_MAGIC:
            raise _not_a_checkpoint(path)
        protocol = _InertUnpickler(stream, path).read()
        system = _InertUnpickler(stream, path).read()
        little = isinstance(system, dict) and system.get("little_endian") is True
        if protocol != _LEGACY_PROTOCOL or not little:
            raise WeightsError(f"{path} has a layout of torch.save that is not read here")
        unpickler = _InertUnpickler(stream, path)
        content = unpickler.read()
        keys = _InertUnpickler(stream, path).read()
        if not isinstance(keys, list) or any(key not in unpickler.storages for key in keys):
            raise _damaged(path, "its list of storages does not fit its tensors")
        offsets = _legacy_offsets(stream, [unpickler.storages[key] for key in keys], path)
    return Checkpoint(path, content, partial(_read_legacy_storages, path, offsets))


def _legacy_offsets(stream: IO[bytes], storages: list[Storage], path: Path) -> dict[str, int]:
    """Return where in the file the numbers of each storage begin, by key."""
    offsets: dict[str, int] = {}
    end = path.stat().st_size
    for storage in storages:
        header = stream.read(8)
        if len(header) < 8 or struct.unpack("<q", header)[0] != storage.numel:
            raise _damaged(path, f"storage {storage.key} has another size")
        offsets[storage.key] = stream.tell()
        if offsets[storage.key] + storage.nbytes > end:
            raise _damaged(path, f"storage {storage.key} is too short")
        stream.seek(storage.nbytes, io.SEEK_CUR)
    return offsets


def _read_legacy_storages(
    path: Path, offsets: dict[str, int], storages: Iterable[Storage]
) -> dict[str, bytes]:
    data = {}
    with path.open("rb") as stream:
        for storage in storages:
            if storage.key not in offsets:
                raise _damaged(path, f"storage {storage.key} is missing")
            stream.seek(offsets[storage.key])
            data[storage.key] = stream.read(storage.nbytes)
            if len(data[storage.key]) < storage.nbytes:
                raise _damaged(path, f"storage {storage.key} is too short")
    return data


class _InertUnpickler(pickle.Unpickler):
    """A pickle machine that can build containers and tensor descriptions, and nothing else.

    Args:
        stream: positioned at the pickle; left behind it.
        path: the file, for messages.

    Attributes:
        storages: every storage that the pickle referred to, by key.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream)
        self.storages: dict[str, Storage] = {}
        self._stream = stream
        self._path = path

    def read(self) -> Any:
        """Read one pickle.

        Raises:
            WeightsError: it is cut short or damaged.
        """
        start = self._stream.tell()
        try:
            _check_opcodes(self._stream)
            self._stream.seek(start)
            return self.load()
        except OSError:
            raise
        except Exception as error:  # a damaged pickle raises nearly every exception there is
            raise _damaged(self._path, f"{type(error).__name__}: {error}") from error

    def find_class(self, module: str, name: str) -> Any:
        """Answer every name in the pickle by an object without state, or made for this call."""
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if module == "torch._utils" and name in {"_rebuild_tensor", "_rebuild_tensor_v2"}:
            return _RebuildTensor()
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _RebuildParameter()
        if (module, name) == ("torch", "Size"):
            return _natural_tuple
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        return type("Inert", (_Inert,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Storage:
        """Answer the machine for every reference to a storage."""
        kind, storage_type, key, _, numel, *view = pid
        if (
            kind != "storage"
            or not isinstance(storage_type, _StorageType)
            or not isinstance(key, str)
            or view not in ([], [None])
        ):
            raise pickle.UnpicklingError("unknown reference")
        storage = Storage(key, storage_type.dtype, _natural(numel))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {storage.key} is described in two ways")
        return storage


def _check_opcodes(stream: IO[bytes]) -> None:
    """Walk through a pickle without running it, keeping account of its stack.

    Refuses what would let a short file take much memory or time, and the extension codes, which the
    machine may resolve from a cache of the process instead of asking for the name.
    """
    start = stream.tell()
    items: list[int] = []  # how many there are in each value on the stack
    marks: list[int] = []
    memo: dict[int, int] = {}
    names = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        names += opcode.name in {"GLOBAL", "STACK_GLOBAL", "INST"}
        is_long = count >= _MOST_OPCODES or names > _MOST_NAMES
        if is_long or (position or 0) - start > _MOST_PICKLE_BYTES:
            raise pickle.UnpicklingError("too large")
        if opcode.name in {"EXT1", "EXT2", "EXT4"}:
            raise pickle.UnpicklingError("extension codes are not read")
        before, after = opcode.stack_before, opcode.stack_after
        if opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
            index = len(memo) if argument is None else int(argument)
            if index > _MOST_MEMO_INDEX:
                raise pickle.UnpicklingError("memo index out of range")
            memo[index] = items[-1]
            continue
        if pickletools.markobject in after:
            marks.append(len(items))
            continue
        # What is below a mark counts from it, what is above goes with it.
        marked = pickletools.markobject in before
        taken = before.index(pickletools.markobject) if marked else len(before)
        place = (marks.pop() if marked else len(items)) - taken
        if place < 0:
            raise pickle.UnpicklingError("an empty stack")
        size = 1 + sum(items[place:])
        del items[place:]
        if opcode.name.endswith("GET"):
            size = memo[int(argument or 0)]
        elif isinstance(argument, int):
            size += argument.bit_length() // 64
        elif after and after[0] in _NO_KEYS:
            size = 1
        if size > _MOST_ITEMS and after:
            raise pickle.UnpicklingError("a value nested too deeply or too often")
        items += [size] * len(after)


class _StorageType(NamedTuple):
    """What a storage class of torch is here: the name of its element type."""

    dtype: str


class _RebuildTensor:
    """What torch's function that makes a tensor from a storage is here."""

    __slots__ = ()

    def __call__(
        self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any
    ) -> StoredTensor:
        fits = len(shape) == len(strides) <= _MOST_DIMENSIONS
        if not isinstance(storage, Storage) or not fits:
            raise pickle.UnpicklingError("a tensor without a storage")
        sizes = tuple(_natural(size) for size in shape)
        steps = tuple(_natural(step) for step in strides)
        return StoredTensor(storage, _natural(offset), sizes, steps)


class _RebuildParameter:
    """What torch's function that makes a parameter from a tensor is here."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _Dict(OrderedDict[Any, Any]):
    """What an OrderedDict is here: made empty, without attributes."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


class _Inert:
    """Stands for any other class, function or object: takes everything, keeps and does nothing.

    Attributes:
        origin: what it stands for.
    """

    origin = ""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Take what the machine puts into a placeholder of a list."""

    def extend(self, _: Any) -> None:
        """Take what the machine puts into a placeholder of a list."""

    def add(self, _: Any) -> None:
        """Take what the machine puts into a placeholder of a set."""


def origin_of(value: Any) -> str | None:
    """Return the class or function that a value of `Checkpoint.content` stands for, if it does."""
    return value.origin if isinstance(value, _Inert) else None


def _natural(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise pickle.UnpicklingError("a size that is no whole number from 0 on")
    return value


def _natural_tuple(values: Any) -> tuple[int, ...]:
    if len(values) > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError(f"{len(values)} dimensions")
    return tuple(_natural(value) for value in values)


def _fits(tensor: StoredTensor) -> bool:
    """Return whether a view stays inside its storage and is not larger than it."""
    count = prod(tensor.shape)
    if count == 0:
        return True
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    return tensor.offset + reach < tensor.storage.numel and count <= tensor.storage.numel


def _array(tensor: StoredTensor, data: Mapping[str, bytes]) -> NDArray[Any]:
    kind = np.dtype(tensor.dtype)
    if prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, kind)
    flat = np.frombuffer(data[tensor.storage.key], kind.newbyteorder("<"))[tensor.offset :]
    strides = [step * flat.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    return np.array(view, dtype=kind, order="C")


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"{path} is cut short or damaged ({reason}); fetch it again")


def _not_a_checkpoint(path: Path) -> WeightsError:
    return WeightsError(f"{path} is not a checkpoint written by torch.save")
