"""The part of the CUDA driver API that the runtime needs: contexts and memory. Only ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from tvmconv.base.errors import ArtifactError, Error

_POINTER = ctypes.c_void_p
_Function = Callable[..., int]
_SIGNATURES: dict[str, list[Any]] = {
    "cuInit": [ctypes.c_uint],
    "cuGetErrorString": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
    "cuDeviceGetCount": [ctypes.POINTER(ctypes.c_int)],
    "cuDeviceGetAttribute": [ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [ctypes.POINTER(_POINTER), ctypes.c_int],
    "cuCtxPushCurrent_v2": [_POINTER],
    "cuCtxPopCurrent_v2": [ctypes.POINTER(_POINTER)],
    "cuMemAlloc_v2": [ctypes.POINTER(_POINTER), ctypes.c_size_t],
    "cuMemFree_v2": [_POINTER],
    "cuMemcpyHtoD_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cuMemcpyDtoH_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cuStreamSynchronize": [_POINTER],
}


class Driver:
    """libcuda.so.1, initialised. Raises ArtifactError if there is none, or no GPU."""

    cuInit: _Function
    cuGetErrorString: _Function
    cuDeviceGetCount: _Function
    cuDeviceGetAttribute: _Function
    cuDevicePrimaryCtxRetain: _Function
    cuCtxPushCurrent_v2: _Function
    cuCtxPopCurrent_v2: _Function
    cuMemAlloc_v2: _Function
    cuMemFree_v2: _Function
    cuMemcpyHtoD_v2: _Function
    cuMemcpyDtoH_v2: _Function
    cuStreamSynchronize: _Function

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise ArtifactError("no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded") from None
        for name, arguments in _SIGNATURES.items():
            function = self._lib[name]
            function.argtypes = arguments
            setattr(self, name, function)
        self._contexts: dict[int, _POINTER] = {}
        status = self.cuInit(0)
        if status:
            raise ArtifactError(f"no GPU that the NVIDIA driver can use: {self.text(status)}")

    def text(self, status: int) -> str:
        """A CUDA error in words."""
        found = ctypes.c_char_p()
        self.cuGetErrorString(status, ctypes.byref(found))
        return f"CUDA error {status}, {(found.value or b'unknown').decode()}"

    def check(self, status: int, what: str) -> None:
        """Raises Error for any status other than success."""
        if status:
            raise Error(f"{what}: {self.text(status)}")

    def capability(self, device: int) -> int:
        """The compute capability of a GPU: 80 for 8.0."""
        parts = [ctypes.c_int(), ctypes.c_int()]
        for part, attribute in zip(parts, (75, 76), strict=True):  # major, minor
            self.check(self.cuDeviceGetAttribute(ctypes.byref(part), attribute, device), f"device {device}")
        return parts[0].value * 10 + parts[1].value

    @contextmanager
    def on(self, device: int) -> Iterator[None]:
        """With the primary context of ``device`` as this thread's current one."""
        context = self._contexts.get(device)
        if context is None:
            context = _POINTER()
            self.check(self.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), f"device {device}")
            self._contexts[device] = context  # kept as long as the process
        self.check(self.cuCtxPushCurrent_v2(context), f"device {device}")
        try:
            yield
        finally:
            self.cuCtxPopCurrent_v2(ctypes.byref(_POINTER()))

    def allocate(self, nbytes: int, device: int) -> int:
        """The address of new memory on ``device``; 0 for none. Raises Error, for example when out of
        memory."""
        if nbytes == 0:
            return 0
        pointer = _POINTER()
        with self.on(device):
            status = self.cuMemAlloc_v2(ctypes.byref(pointer), nbytes)
            self.check(status, f"{nbytes} bytes on device {device}")
        return pointer.value or 0

    def free(self, pointer: int, device: int) -> None:
        """Free memory."""
        with self.on(device):
            self.cuMemFree_v2(pointer)


def why_not(sms: Sequence[int]) -> str | None:
    """Why no GPU of this machine can run code for the compute capabilities ``sms`` (80 for 8.0); None if one
    can."""
    try:
        cuda = driver()
    except ArtifactError as error:
        return str(error)
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    found = [cuda.capability(device) for device in range(count.value)]
    if any(have // 10 == sm // 10 and have >= sm for have in found for sm in sms):
        return None
    return f"its GPUs are of compute capability {', '.join(f'{have / 10:.1f}' for have in found) or 'none'}"


@lru_cache(maxsize=1)
def driver() -> Driver:
    """The one driver of this process."""
    return Driver()
