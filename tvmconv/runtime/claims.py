"""Whether a library's functions take what its manifest states, by asking the library itself.

Each checks the tensors that TVM would pass, so it is called that way, with tensors of the stated shapes and
types and no data: one that fits is refused only for being NULL, which is checked last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from tvmconv.formats.order import prepack_order, run_order

_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}  # DLPack's
_CPU, _TENSOR = 1, 7  # kDLCPU, kTVMFFIDLTensorPtr
_NULL = " is NULL"
_Kind = tuple[Sequence[int], str]  # shape and dtype


class _Tensor(ctypes.Structure):  # DLTensor
    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


class _Any(ctypes.Structure):  # TVMFFIAny
    _fields_ = (("type", ctypes.c_int32), ("padding", ctypes.c_uint32), ("value", ctypes.c_int64))


def unlike(
    library: ctypes.CDLL, facts: dict[str, Any], last_error: Callable[[], bytes | None], *, gpu: bool
) -> str:
    """What of the stated ``facts`` about a function the library contradicts, empty if nothing. Raises
    AttributeError where the library lacks a function."""
    name, packed = facts.get("symbol", facts["name"]), facts["packed_bytes"]
    if packed:
        size = library[f"{name}_packed_bytes"]
        size.argtypes, size.restype = [], ctypes.c_size_t
        if size() != packed:
            return f"function {name}: packed_bytes {packed}, expected {size()}"
    if gpu:  # its functions are not for TVM
        return ""
    by_role: dict[str, dict[str, _Kind]] = {"input": {}, "weight": {}, "output": {}}
    for a in facts["arguments"]:
        by_role[a["role"]][a["name"]] = a["shape"], a["dtype"]
    inputs, outputs = (list(by_role[role].values()) for role in ("input", "output"))
    blob = [packed], "uint8"
    if why := _refused(library, name, run_order(inputs, outputs, [blob] if packed else []), last_error):
        return why
    absent = (), "uint8"  # passed as the bias if there is none; its value does not matter
    weights = prepack_order(by_role["weight"], blob, absent)
    return _refused(library, f"{name}_prepack", weights, last_error) if packed else ""


def _refused(
    library: ctypes.CDLL, name: str, arguments: Sequence[_Kind],
    last_error: Callable[[], bytes | None],
) -> str:  # fmt: skip
    """Why a function does not take such tensors; empty if it does."""
    values = (_Any * len(arguments))()
    held = []
    for value, (shape, dtype) in zip(values, arguments, strict=True):
        extents = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        kind = dtype.rstrip("0123456789")
        tensor = _Tensor(None, _CPU, 0, len(shape), _CODES[kind], int(dtype[len(kind) :] or 8), 1,
                         ctypes.addressof(extents))
        held += [extents, tensor]
        value.type, value.value = _TENSOR, ctypes.addressof(tensor)
    entry = library[f"__tvm_ffi_{name}"]
    entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
    if not entry(None, values, len(arguments), ctypes.byref(_Any())):
        return ""  # an empty batch
    text = (last_error() or b"").decode("utf-8", "replace")
    return "" if text.endswith(_NULL) else text
