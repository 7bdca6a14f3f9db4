"""Element types by name: NumPy's types, and bfloat16, which NumPy lacks.

A bfloat16 array is a NumPy array of ``BFLOAT16``: 16-bit integers, marked so that they are not mistaken for
numbers. torch's and ml_dtypes' arrays are viewed that way without a copy; neither package is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BFLOAT16 = np.dtype([("bfloat16", "<u2")], align=True)

ITEMSIZE = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
}  # fmt: skip
"""Bytes per element."""

# The type of the accumulators.
ACCUMULATORS = {
    "float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32",
    "int8": "int32", "uint8": "int32",
}  # fmt: skip
FLOATS = ("float64", "float32", "float16", "bfloat16")
BYTES = ("int8", "uint8")

Array = np.ndarray[Any, Any]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype that holds elements of the type called ``name``. Raises TypeError."""
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def name_of(array: Any) -> str:
    """The name of the element type of a NumPy, ml_dtypes, torch or other array: "float32", "bfloat16"."""
    if array.dtype == BFLOAT16:
        return "bfloat16"
    return str(array.dtype).rpartition(".")[2]  # torch.float32


def epsilon(name: str) -> float:
    """The spacing of a floating-point type at 1; 0 for integers, which are exact."""
    if name not in FLOATS:
        return 0.0
    return 2.0**-7 if name == "bfloat16" else float(np.finfo(name).eps)


def is_bfloat16(array: Array) -> bool:
    """Whether a NumPy array holds bfloat16, as ``BFLOAT16`` or as ml_dtypes' type."""
    return array.dtype == BFLOAT16 or array.dtype.name == "bfloat16"


def widened(array: Array) -> Array:
    """bfloat16 as float32, which holds it exactly; other arrays as they are."""
    if not is_bfloat16(array):
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def rounded(values: Array, name: str) -> Array:
    """``values`` as an array of the type ``name``, floats rounded to nearest, ties to even."""
    if name != "bfloat16":
        return values.astype(name)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = values.astype(np.float32)
    bits = wide.view(np.uint32)
    near = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    near = np.where(np.isnan(wide), bits >> 16 | 0x40, near)
    return near.astype(np.uint16).view(BFLOAT16)
