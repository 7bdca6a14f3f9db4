"""Functions of a CUDA library: the same calls as on a CPU, with arrays on a GPU, on the caller's stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.formats.order import run_order
from tvmconv.runtime.arrays import Argument
from tvmconv.runtime.bound import BoundFunction
from tvmconv.runtime.function import Function
from tvmconv.runtime.gpu import arrays as gpu_arrays
from tvmconv.runtime.gpu.arrays import GpuArray, to_gpu
from tvmconv.runtime.gpu.driver import driver
from tvmconv.runtime.quantisation import is_quantisation


class GpuFunction(Function):
    """One function of a loaded CUDA library; ``module[name]`` gives it.

    Arrays are DLPack arrays on one GPU: torch's, CuPy's, or those of ``tvmconv.to_gpu``. Scales and zero
    points are numbers or NumPy arrays. A call launches its kernels on a stream and returns: ``stream``, a
    CUstream as a number, or if None torch's or CuPy's current one for their arrays, else the default stream.
    """

    __slots__ = ()
    _after = 1  # pointers after the arrays: the stream

    def placed(self, arrays: Mapping[str, np.ndarray[Any, Any]], device: int = 0) -> dict[str, Any]:
        """NumPy arrays, by argument, copied to where this function takes them."""
        return {name: a if is_quantisation(name) else to_gpu(a, device) for name, a in arrays.items()}

    def __call__(
        self, x: Any, w: Any = None, bias: Any = None, *others: Any, out: Any = None,
        stream: int | None = None,
    ) -> Any:  # fmt: skip
        """Compute the result for ``x`` with these weights, which are prepacked for this one call.

        Arrays in the shapes, dtypes and order of ``arguments``, contiguous; ``out`` for the result, else a
        new one of the kind that ``x`` is. Raises SpecError for arrays that do not fit, before anything is
        launched.
        """
        named = self._named((x, w, bias, *others))
        weights = {a.name: named[a.name] for a in self._weights if a.name in named}
        device = gpu_arrays.device_of("x", x)
        stream = gpu_arrays.current_stream(x, device) if stream is None else stream
        bound = GpuBound(self, weights, device, stream)
        return bound(*(named[a.name] for a in self._inputs), out=out, stream=stream)

    def bind(self, w: Any = None, bias: Any = None, *others: Any, stream: int | None = None) -> GpuBound:
        """This function with its weights prepacked once, on their GPU; ``others`` are weights after bias.

        Raises SpecError for arrays that do not fit.
        """
        weights = self._named((w, bias, *others), bind=True)
        if not self._weights:
            return GpuBound(self, {}, None, 0)
        device = gpu_arrays.device_of("w", w)
        stream = gpu_arrays.current_stream(w, device) if stream is None else stream
        return GpuBound(self, weights, device, stream)

    def _packed_on(self, weights: dict[str, Any], device: int, stream: int) -> GpuArray:
        """The packed weights; the arrays read for them are kept alive until packing is done."""
        packed = GpuArray((self._packed_bytes,), "uint8", device, stream)
        wanted = {a.name: a for a in self._weights}
        views = {}
        for name, value in weights.items():
            if is_quantisation(name):
                value = to_gpu(value, device)
            views[name] = (gpu_arrays.view(wanted[name], value, device, stream), value)
        at = {name: seen.pointer for name, (seen, _) in views.items()}
        pointers = self._prepack_order(at, packed._pointer)
        cuda = driver()
        with cuda.on(device):
            self._check(self._prepack(*pointers, stream))
            cuda.check(cuda.cuStreamSynchronize(stream), "packing weights")
        return packed


class GpuBound(BoundFunction):
    """A function with its weights on a GPU; ``function.bind(w, bias)`` makes it. Immutable, and safe to call
    from several threads at once."""

    __slots__ = ("_device", "_packed")

    def __init__(
        self, function: GpuFunction, weights: dict[str, Any], device: int | None, stream: int
    ) -> None:
        super().__init__(function)
        self._device = device
        self._packed = None if device is None else function._packed_on(weights, device, stream)

    def __call__(self, x: Any, *others: Any, out: Any = None, stream: int | None = None) -> Any:
        """The result for ``x`` (and ``others``, where the function has more inputs), on the GPU.

        ``out``: a contiguous writable array, apart from the inputs, for the result; else a new one, of the
        kind that ``x`` is. Raises SpecError for arrays that do not fit, before anything is launched.
        """
        function = self._function
        wanted: Sequence[Argument] = function._inputs
        if len(others) + 1 != len(wanted):
            names = ", ".join(a.name for a in wanted)
            raise SpecError(f"inputs: {len(others) + 1}, expected {len(wanted)}: {names}")
        device = gpu_arrays.device_of("x", x)
        if self._device not in (None, device):
            raise SpecError(f"x: on GPU {device}, expected GPU {self._device} as the weights")
        stream = gpu_arrays.current_stream(x, device) if stream is None else stream
        views = [gpu_arrays.view(a, value, device, stream)
                 for a, value in zip(wanted, (x, *others), strict=True)]  # fmt: skip
        y = function.arguments[-1]
        result = gpu_arrays.empty(x, y, device, stream) if out is None else out
        written = gpu_arrays.view(y, result, device, stream, "out")
        if not written.writable:
            raise SpecError("out: read-only, expected a writable array")
        packed = [] if self._packed is None else [self._packed._pointer]
        pointers = run_order([seen.pointer for seen in views], [written.pointer], packed)
        if y.nbytes:
            with driver().on(device):
                function._check(function._entry(*pointers, stream))
        if isinstance(result, GpuArray):
            result._stream = stream
        return result
