"""The arrays of a model's tensors, checked first: their stated sizes match their data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.base.errors import Error

if TYPE_CHECKING:
    from onnx import TensorProto

_HALF_BYTES = {"UINT4", "INT4", "FLOAT4E2M1"}
_QUARTER_BYTES = {"UINT2", "INT2"}


def array_of(tensor: TensorProto) -> np.ndarray:
    """The array of a tensor. Raises Error for one that is damaged."""
    from onnx import numpy_helper

    check_tensor(tensor)
    try:
        with np.errstate(all="ignore"):
            return numpy_helper.to_array(tensor)
    except Exception as error:  # numbers that their type does not have
        raise Error(f"tensor {tensor.name!r}: {error}") from None


def byte_count(tensor: TensorProto) -> int:
    """How many bytes the elements of a tensor take, packed. Raises Error for impossible dims or types."""
    kind, elements = _kind(tensor), _elements(tensor)
    if kind.startswith("FLOAT6"):
        raise Error(f"tensor {tensor.name!r}: numbers of 6 bits, which nothing here reads")
    bits = {**dict.fromkeys(_HALF_BYTES, 4), **dict.fromkeys(_QUARTER_BYTES, 2)}.get(kind)
    if bits:
        return -(-elements * bits // 8)
    from onnx import helper

    return elements * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def check_tensor(tensor: TensorProto) -> None:
    """Raise Error for a tensor (not one of external weights) whose dims, type and data do not agree."""
    from onnx import TensorProto, helper

    kind, elements = _kind(tensor), _elements(tensor)
    what = f"tensor {tensor.name!r}"
    if tensor.HasField("segment"):
        raise Error(f"{what}: a segment of a tensor, expected a whole one")
    if kind == "STRING":
        stated, wanted = len(tensor.string_data), elements
    elif tensor.HasField("raw_data"):
        stated, wanted = len(tensor.raw_data), byte_count(tensor)
    else:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        per_entry = 2 if kind in _HALF_BYTES else 4 if kind in _QUARTER_BYTES else 1
        stated = len(getattr(tensor, field))
        wanted = 2 * elements if kind.startswith("COMPLEX") else -(-elements // per_entry)
    if tensor.data_location == TensorProto.EXTERNAL or stated == wanted:
        return
    unit = "bytes" if tensor.HasField("raw_data") and kind != "STRING" else "numbers"
    dims = "x".join(map(str, tensor.dims)) or "scalar"
    raise Error(f"{what}: {stated} {unit} of data, expected {wanted} for {dims} of type {kind.lower()}")


def type_of(elem_type: int) -> np.dtype | None:
    """NumPy's type for one of ONNX's element types of numbers; None for any other."""
    from onnx import TensorProto, helper

    no_numbers = (TensorProto.UNDEFINED, TensorProto.STRING)
    if elem_type not in TensorProto.DataType.values() or elem_type in no_numbers:
        return None
    return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))


def _kind(tensor: TensorProto) -> str:
    from onnx import TensorProto

    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise Error(f"tensor {tensor.name!r}: element type {tensor.data_type}, which is none of ONNX's")
    return TensorProto.DataType.Name(tensor.data_type)


def _elements(tensor: TensorProto) -> int:
    if any(dim < 0 for dim in tensor.dims):
        raise Error(f"tensor {tensor.name!r}: dims {list(tensor.dims)}, expected none below 0")
    return math.prod(tensor.dims)
