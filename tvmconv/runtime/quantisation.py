"""Scales and zero points, arguments of quantised functions: numbers or arrays, checked before native code."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmconv.base.dtypes import numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.runtime.arrays import Argument, view


def is_zero_point(name: str) -> bool:
    """Whether the argument called ``name`` may be omitted, meaning zero."""
    return name.endswith("_zero_point")


def is_quantisation(name: str) -> bool:
    """Whether the argument called ``name`` is a scale or a zero point."""
    return name.endswith(("_zero_point", "_scale"))


def read(want: Argument, value: Any) -> np.ndarray[Any, Any]:
    """``value`` as the array that ``want`` describes: one number stands for every channel, None for zero
    points of 0. Raises SpecError for a zero point that its type cannot hold, or a scale that is not positive
    and finite."""
    if value is None:
        value = 0
    size = want.shape[0]
    expected = f"expected one number{f' or {size}' * (size > 1)}"
    try:
        array = np.asarray(value) if np.isscalar(value) or isinstance(value, list) else view(want.name, value)
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{want.name}: nested lists of several lengths, {expected}") from None
    if array.shape not in ((), (1,), want.shape):
        raise SpecError(f"{want.name}: shape {array.shape}, {expected}")
    given = array.dtype
    if is_zero_point(want.name):
        limits = np.iinfo(want.dtype)
        if given.kind not in "iu" or array.min() < limits.min or array.max() > limits.max:
            what = array.ravel()[0] if array.size == 1 else f"{given} values"
            raise SpecError(f"{want.name}: {what}, expected integers from {limits.min} to {limits.max}")
    else:
        with np.errstate(over="ignore", under="ignore"):
            narrow = array.astype(np.float32) if given.kind in "iuf" else np.zeros(1, np.float32)
        wrong = ~(np.isfinite(narrow) & (narrow > 0))
        if wrong.any():
            what = array[wrong].ravel()[0] if given.kind in "iuf" else f"{given} values"
            raise SpecError(f"{want.name}: {what}, expected positive finite numbers")
    dtype = numpy_dtype(want.dtype)
    return np.array(np.broadcast_to(array.reshape(array.shape or (1,)).astype(dtype), want.shape))
