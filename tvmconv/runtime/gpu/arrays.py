"""Arrays on a GPU, in and out: any DLPack array there, seen and checked without a copy, and our own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tvmconv.base.dtypes import name_of, numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.runtime import dlpack
from tvmconv.runtime.arrays import Argument, check_plain, shape_text
from tvmconv.runtime.gpu.driver import driver

_DEFAULT_STREAM = 1  # as DLPack counts them


class GpuArray:
    """A dense array on a GPU that this runtime allocated; ``to_gpu`` makes one of a NumPy array.

    ``shape``, ``dtype`` (a name: "float32", "bfloat16"), ``device``: its number. It supports DLPack, so
    torch.from_dlpack and cupy.from_dlpack take it without a copy.
    """

    __slots__ = ("__weakref__", "_pointer", "_stream", "device", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str, device: int, stream: int = 0) -> None:
        self._pointer = 0
        self.shape, self.dtype, self.device = tuple(shape), dtype, device
        self._stream = stream  # pending writes happen on it
        self._pointer = driver().allocate(self.nbytes, device)

    def __del__(self) -> None:
        if self._pointer:
            driver().free(self._pointer, self.device)

    def __repr__(self) -> str:
        return f"<tvmconv array {self.dtype} {self.shape} on GPU {self.device}>"

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy as a NumPy array; waits for pending work. Raises Error for what went wrong on the GPU."""
        array = np.empty(self.shape, numpy_dtype(self.dtype))
        if self.nbytes:
            cuda = driver()
            with cuda.on(self.device):
                cuda.check(cuda.cuStreamSynchronize(self._stream), "the GPU")
                cuda.check(cuda.cuMemcpyDtoH_v2(array.ctypes.data, self._pointer, self.nbytes), "copying")
        return array

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        if stream != -1:
            self._ready_on(stream or _DEFAULT_STREAM)
        return dlpack.capsule(self._pointer, self.shape, self.dtype, self.device, self)

    def _ready_on(self, stream: int) -> dlpack.View:
        """The array for work on ``stream``, numbered as in DLPack: after pending writes."""
        if stream != (self._stream or _DEFAULT_STREAM):
            cuda = driver()
            with cuda.on(self.device):
                cuda.check(cuda.cuStreamSynchronize(self._stream), "the GPU")
        return dlpack.View(self._pointer, self.shape, self.dtype, dlpack.CUDA, self.device, True, True, self)


def to_gpu(array: Any, device: int = 0) -> GpuArray:
    """A copy of a NumPy array (or what NumPy makes one of) in the memory of GPU ``device``.

    Raises ArtifactError if there is no driver or no GPU, Error if memory runs out.
    """
    host = np.ascontiguousarray(array).reshape(np.shape(array))
    found = GpuArray(host.shape, name_of(host), device)
    if host.nbytes:
        cuda = driver()
        with cuda.on(device):
            cuda.check(cuda.cuMemcpyHtoD_v2(found._pointer, host.ctypes.data, host.nbytes), "copying")
    return found


def device_of(name: str, value: Any) -> int:
    """The GPU that ``value`` is on. Raises SpecError if it is on none."""
    if not hasattr(value, "__dlpack_device__"):
        raise SpecError(f"{name}: {type(value).__name__}, expected a DLPack array on a GPU")
    kind, device = (int(part) for part in value.__dlpack_device__())
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        where = f"{type(value).__name__} on DLPack device {(kind, device)}"
        raise SpecError(f"{name}: {where}, expected one on a GPU (tvmconv.to_gpu, or .cuda() in torch)")
    return device


def view(want: Argument, value: Any, device: int, stream: int, name: str | None = None) -> dlpack.View:
    """``value`` on GPU ``device``, checked against ``want``, ready on ``stream``. Raises SpecError."""
    name = name or want.name
    found = device_of(name, value)
    if found != device:
        raise SpecError(f"{name}: on GPU {found}, expected GPU {device} as the others")
    try:
        stream = stream or _DEFAULT_STREAM
        own = isinstance(value, GpuArray)
        if not own:
            check_plain(name, value)
        seen = value._ready_on(stream) if own else dlpack.view(_capsule(value, stream))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        why = " ".join(str(error).split())
        raise SpecError(f"{name}: {type(value).__name__}, expected a DLPack array on a GPU: {why}") from None
    if seen.shape != want.shape:
        layout = f" ({want.layout})" if want.layout else ""
        raise SpecError(f"{name}: shape {shape_text(seen.shape)}, expected {shape_text(want.shape)}{layout}")
    if seen.dtype != want.dtype:
        raise SpecError(f"{name}: dtype {seen.dtype}, expected {want.dtype}")
    if not seen.contiguous:
        raise SpecError(f"{name}: strided, expected a contiguous array")
    return seen


def _capsule(value: Any, stream: int) -> Any:
    try:
        return value.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # an older array
        return value.__dlpack__(stream=stream)


def current_stream(value: Any, device: int) -> int:
    """The stream on which the library of ``value`` is working: torch's or CuPy's current one, else the
    default stream, 0."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch":
        import torch

        return torch.cuda.current_stream(device).cuda_stream
    if module == "cupy":
        import cupy

        return cupy.cuda.get_current_stream().ptr
    return 0


def empty(value: Any, want: Argument, device: int, stream: int) -> Any:
    """A new array for a result, of the same kind as ``value``."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch":
        import torch

        return torch.empty(want.shape, dtype=getattr(torch, want.dtype), device=value.device)
    if module == "cupy":
        import cupy

        with cupy.cuda.Device(device):
            return cupy.empty(want.shape, want.dtype)
    return GpuArray(want.shape, want.dtype, device, stream)
