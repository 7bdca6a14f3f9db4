"""Arrays in and out: NumPy, and any DLPack array in CPU memory, seen as NumPy without a copy, and checked."""

from __future__ import annotations

import ctypes
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tvmconv.base.dtypes import BFLOAT16, name_of, numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.base.memory import PAGE

# From Python 3.12 on, NumPy's types declare that its arrays are buffers.
from_buffer: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer

ALIGNMENT = 64  # of what the runtime allocates
_STEP = 11 * ALIGNMENT  # between arrays' offsets in a page; no power of two is a small multiple of it
_places = itertools.count()
_NUMPY_HEARS = tuple(int(part) for part in np.__version__.split(".")[:2]) >= (2, 1)
_CPU_DEVICES = (1, 3, 11, 13)  # DLPack: CPU, and host memory pinned for, or shared with, a device


class Argument(NamedTuple):
    """What a function takes or gives: dense, row-major. ``role`` is "input", "weight" or "output"."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    role: str

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype for NumPy; for bfloat16, which it lacks, the one that ``view`` uses."""
        return numpy_dtype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense array."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize


def view(name: str, value: Any) -> np.ndarray[Any, Any]:
    """``value`` as a NumPy array that shares its memory; bfloat16 as ``BFLOAT16``. Raises SpecError."""
    if isinstance(value, np.ndarray):
        check_unmasked(name, value)
        return value.view(BFLOAT16) if value.dtype.name == "bfloat16" else value
    if not hasattr(value, "__dlpack__"):
        what = type(value).__name__
        raise SpecError(f"{name}: {what}, expected a NumPy array, or a DLPack array in CPU memory")
    check_plain(name, value)
    plain = torch_views([value])
    if plain is not None:  # a device as DLPack states it is also something that torch.compile cannot trace
        return plain[0]
    try:
        device = tuple(int(part) for part in value.__dlpack_device__())
        if device[0] not in _CPU_DEVICES:
            raise SpecError(f"{name}: on DLPack device {device}, expected an array in CPU memory")
        if hasattr(value, "dtype") and name_of(value) == "bfloat16":  # NumPy takes it as integers only
            return np.from_dlpack(value.view(_module(value).int16)).view(BFLOAT16)
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SpecError):
            raise
        why = " ".join(str(error).split())
        raise SpecError(f"{name}: {type(value).__name__}, expected plain data in CPU memory: {why}") from None


def check_unmasked(name: str, value: Any) -> None:
    """Raises SpecError for NumPy's masked arrays."""
    if type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray):
        raise SpecError(f"{name}: MaskedArray, expected an array without a mask (x.filled(value) makes one)")


def check_plain(name: str, value: Any) -> None:
    """Raises SpecError for a PyTorch tensor whose memory does not hold its elements."""
    tensor = _tensor()
    if tensor is None or not isinstance(value, tensor):
        return
    why = ""
    if type(value).__torch_dispatch__ is not tensor.__torch_dispatch__:
        why = "its elements are elsewhere"  # a FakeTensor, which has none, or one that wraps others
    elif value.requires_grad:
        why = "it requires a gradient, use detach()"
    elif value.is_neg():
        why = "its negative bit is set, use resolve_neg()"
    elif value.is_conj():
        why = "its conjugate bit is set, use resolve_conj()"
    if why:
        raise SpecError(f"{name}: {type(value).__name__}, expected plain data in CPU memory: {why}")


def _tensor() -> Any:
    """PyTorch's type, None where it is not imported."""
    return getattr(sys.modules.get("torch"), "Tensor", None)


def torch_views(values: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    """PyTorch tensors as NumPy arrays that share their memory, by PyTorch's own method, the fastest. None
    unless all are plain tensors in CPU memory, of a dtype that NumPy has; ``view`` makes the error for
    others."""
    tensor = _tensor()
    if tensor is None or any(type(value) is not tensor for value in values):
        return None
    try:
        return [value.numpy() for value in values]
    except (RuntimeError, TypeError):  # a gradient, a negative bit, a GPU; bfloat16
        return None


def read(want: Argument, value: Any, *, copy: bool) -> np.ndarray[Any, Any]:
    """``value`` as a contiguous array to read, checked against ``want``.

    ``copy``: make a contiguous copy if ``value`` is not contiguous, rather than refuse it. Raises SpecError.
    """
    array = view(want.name, value)
    _check(want, array)
    if not array.flags.c_contiguous:
        if not copy:
            raise SpecError(
                f"{want.name}: strides {array.strides}, expected a contiguous array (np.ascontiguousarray)"
            )
        array = np.ascontiguousarray(array)
    return array


def written(want: Argument, value: Any, name: str = "out") -> np.ndarray[Any, Any]:
    """``value``, given as ``name``, as the array to write a result to: contiguous and writable. Raises
    SpecError."""
    array = view(name, value)
    _check(want._replace(name=name), array)
    if not array.flags.c_contiguous:
        raise SpecError(f"{name}: strides {array.strides}, expected a contiguous array")
    if not array.flags.writeable and _is_read_only(value):
        raise SpecError(f"{name}: read-only, expected a writable array")
    return array


def _is_read_only(value: Any) -> bool:
    """Whether an array whose view NumPy marks as read-only really is. With the older DLPack protocol, or
    NumPy before 2.1, this is not communicated; such arrays are treated as writable."""
    if isinstance(value, np.ndarray):
        return True
    try:
        capsule = value.__dlpack__(max_version=(1, 0))
    except TypeError:
        return False
    return "versioned" in repr(capsule) and _NUMPY_HEARS


def _check(want: Argument, array: np.ndarray[Any, Any]) -> None:
    if array.shape != want.shape:
        layout = f" ({want.layout})" if want.layout else ""
        found = shape_text(array.shape)
        raise SpecError(f"{want.name}: shape {found}, expected {shape_text(want.shape)}{layout}")
    if array.dtype != want.numpy_dtype:
        raise SpecError(f"{want.name}: dtype {name_of(array)}, expected {want.dtype}")
    if not array.flags.aligned and array.size:
        raise SpecError(
            f"{want.name}: data at address {address(array):#x}, expected a multiple of {array.itemsize}"
        )


def check_apart(out: np.ndarray[Any, Any], name: str, array: Any) -> None:
    """Raises SpecError if ``out`` overlaps ``array``, the argument called ``name``."""
    if np.may_share_memory(out, array):
        raise SpecError(f"out: overlaps {name}, expected memory of its own")


def address(array: np.ndarray[Any, Any]) -> int:
    """Where the data begin."""
    if array.flags.carray and array.size:  # the fastest public way, for writable contiguous memory only
        return ctypes.addressof(from_buffer(array))
    return int(array.__array_interface__["data"][0])


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> np.ndarray[Any, Any]:
    """A new array aligned to a cache line; NumPy's own are not, and vectors would straddle lines.

    Large ones begin at different offsets in their page. If the lowest 12 bits of their addresses are equal, a
    CPU mistakes a load for one of data just stored; for two arrays with equal offsets and rows a power of two
    apart, that is nearly every load.
    """
    if nbytes < PAGE:
        memory, place = np.empty(nbytes + ALIGNMENT, np.uint8), 0
    else:
        memory, place = np.empty(nbytes + PAGE, np.uint8), next(_places) * _STEP % PAGE
    start = ctypes.addressof(from_buffer(memory))
    return np.ndarray(shape, dtype, memory, (place - start) % (ALIGNMENT if nbytes < PAGE else PAGE))


def aligned(array: Any) -> np.ndarray[Any, Any]:
    """A copy of a NumPy array, row-major, that begins on a cache line, as our functions' results do.

    Kernels take any array, but load vectors from an aligned one faster: on others a depthwise convolution
    takes up to 1.6 times as long. NumPy's own arrays begin at any multiple of 16 bytes. Shape and dtype stay.
    Raises SpecError for a masked array.
    """
    check_unmasked("array", array)
    values = np.asarray(array)
    made = empty(values.shape, values.dtype, max(values.nbytes, 1))
    made[...] = values
    return made


def like(value: Any, array: np.ndarray[Any, Any]) -> Any:
    """``array`` as the same kind as ``value``: its module imports it by DLPack, without a copy."""
    if isinstance(value, np.ndarray):
        return array.view(value.dtype) if value.dtype.name == "bfloat16" == name_of(array) else array
    module = _module(value)
    take = getattr(module, "from_dlpack", None)
    if take is None:
        return array
    return take(array.view(np.int16)).view(module.bfloat16) if array.dtype == BFLOAT16 else take(array)


def _module(value: Any) -> Any:
    """The module that an array belongs to: torch for a tensor."""
    space = getattr(value, "__array_namespace__", None)
    return space() if space is not None else sys.modules.get(type(value).__module__.partition(".")[0])


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape for an error's sentence."""
    return f"{shape} of rank {len(shape)}"
