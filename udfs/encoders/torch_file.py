"""Reads a PyTorch checkpoint of tensors without PyTorch, and without running what a pickle may ask for."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from udfs.errors import EncoderError

Array = NDArray[Any]

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_STORAGES = {
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor_v2; the data come after the pickle, so the tensor waits."""
    return _Tensor(storage, offset, shape, strides)


class _TensorsOnly(pickle.Unpickler):
    """Knows tensors and the dictionary around them; refuses any other name that a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) in _STORAGES:
            return _STORAGES[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only tensors are read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _length, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError("it holds something that is not a plain tensor")
        return _Storage(str(key), dtype)


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a state dictionary, by name, as NumPy arrays.

    Reads the format that torch.save wrote before PyTorch 1.6: three pickles of header, one of the
    dictionary, one with the storages' keys, then each storage's length and raw little-endian data.
    Raises EncoderError naming the file when it is anything else.
    Source: torch/serialization.py, _legacy_load.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; install its package again") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EncoderError(f"{path}: not a file of PyTorch tensors ({error}); install its package again") from error


def _read(file: BinaryIO) -> dict[str, Array]:
    magic, protocol, system, tensors, keys = (_TensorsOnly(file).load() for _ in range(5))
    if magic != MAGIC or protocol != PROTOCOL or system["little_endian"] is not True:
        raise ValueError("it lacks the header of torch.save's first format")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds more than a dictionary of tensors")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    data = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {name: _as_array(tensor, data[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> bytes:
    length = int.from_bytes(file.read(8), "little") * dtype.itemsize
    data = file.read(length)
    if len(data) != length:
        raise ValueError("it ends too early")
    return data


def _as_array(tensor: _Tensor, data: bytes) -> Array:
    """A view of the storage; NumPy refuses one that would reach outside it."""
    size = tensor.storage.dtype.itemsize
    strides = tuple(stride * size for stride in tensor.strides)
    return np.ndarray(tensor.shape, tensor.storage.dtype, data, tensor.offset * size, strides)
