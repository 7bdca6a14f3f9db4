"""DLPack capsules by ctypes: what NumPy does for arrays in CPU memory, for those on a GPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

CUDA, CUDA_MANAGED = 2, 13  # device types
_KINDS = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}
_NAMES = {code: kind for kind, code in _KINDS.items()}
_READ_ONLY = 1


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    )  # fmt: skip


_api = ctypes.pythonapi
_api.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_New.restype = ctypes.py_object


class View(NamedTuple):
    """What a capsule says; ``owner`` keeps the memory. ``contiguous``: dense and row-major."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    device_type: int
    device: int
    contiguous: bool
    writable: bool
    owner: Any


def view(capsule: Any) -> View:
    """A capsule read, not consumed: it frees the memory when it is deleted. Raises ValueError."""
    writable = True
    if _api.PyCapsule_IsValid(capsule, b"dltensor"):
        address = _api.PyCapsule_GetPointer(capsule, b"dltensor")
        tensor = _Managed.from_address(address).tensor
    elif _api.PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(_api.PyCapsule_GetPointer(capsule, b"dltensor_versioned"))
        if managed.major != 1:
            raise ValueError(f"DLPack version {managed.major}, expected 1")
        tensor, writable = managed.tensor, not managed.flags & _READ_ONLY
    else:
        raise ValueError("no DLPack capsule")
    if tensor.lanes != 1 or tensor.code not in _NAMES:
        raise ValueError(f"DLPack type {tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tensor.strides[: tensor.ndim] if tensor.strides else ()
    dense, expected = True, 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=False):
        dense &= size == 1 or stride == expected
        expected *= size
    return View((tensor.data or 0) + tensor.byte_offset, shape, f"{_NAMES[tensor.code]}{tensor.bits}",
                tensor.device_type, tensor.device_id, dense or 0 in shape, writable, capsule)


_alive: dict[int, list[Any]] = {}  # by address: structures in use, the owner, and the capsule


@_DELETER
def _delete(address: int) -> None:
    _alive.pop(address, None)


def _sweep() -> None:
    """Free what nobody took: capsules that only ``_alive`` still holds. A capsule cannot do that itself: a
    Python destructor must not run while an exception is being raised."""
    for address, parts in list(_alive.items()):
        if parts[-1] is None:
            continue
        if not _api.PyCapsule_IsValid(parts[-1], b"dltensor"):
            parts[-1] = None  # taken: its taker calls the deleter
        elif sys.getrefcount(parts[-1]) <= 2:
            _delete(address)


def capsule(pointer: int, shape: tuple[int, ...], dtype: str, device: int, owner: Any) -> Any:
    """A capsule of dense memory on GPU ``device``, which ``owner`` keeps."""
    _sweep()
    kind = dtype.rstrip("0123456789")
    extents = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    managed = _Managed()
    managed.tensor = _Tensor(pointer, CUDA, device, len(shape), _KINDS[kind], int(dtype[len(kind) :]), 1,
                             ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64)), None, 0)
    managed.deleter = _delete
    address = ctypes.addressof(managed)
    made = _api.PyCapsule_New(address, b"dltensor", None)
    _alive[address] = [managed, extents, owner, made]
    return made
