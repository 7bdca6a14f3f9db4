"""Functions bound to their weights."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.formats.order import run_order
from tvmconv.runtime import arrays

if TYPE_CHECKING:
    from tvmconv.runtime.function import Function

_from_buffer = arrays.from_buffer
_addressof = ctypes.addressof
_ndarray = np.ndarray


class BoundFunction:
    """What functions with their weights have in common, on CPUs and GPUs."""

    __slots__ = ("_function",)

    def __init__(self, function: Function) -> None:
        self._function = function

    def __repr__(self) -> str:
        return f"<tvmconv bound function {self.name}: {self.descriptor}>"

    @property
    def name(self) -> str:
        """The C name of the function."""
        return self._function.name

    @property
    def descriptor(self) -> str:
        """What the function computes."""
        return self._function.descriptor


class Bound(BoundFunction):
    """A function with its weights; ``function.bind(w, bias)`` makes it. Immutable, and safe to call from
    several threads at once."""

    __slots__ = (
        "_dtype", "_entry", "_kinds", "_out_bytes", "_out_dtype", "_out_shape", "_packed", "_pointer",
        "_shape",
    )  # fmt: skip

    def __init__(
        self, function: Function, weights: dict[str, Any], packed: np.ndarray[Any, Any] | None = None
    ) -> None:
        super().__init__(function)
        x, y = function.arguments[0], function.arguments[-1]
        entry = function._entry
        self._entry = entry if function._packed_bytes else lambda x, packed, *others: entry(x, *others)
        self._packed = function._pack(weights) if packed is None else _aligned(packed)
        self._pointer = None if self._packed is None else arrays.address(self._packed)
        self._out_shape, self._out_dtype, self._out_bytes = y.shape, y.numpy_dtype, y.nbytes
        short = len(function._inputs) == 1 and y.nbytes
        self._shape = x.shape if short else None  # no array has the shape None
        self._dtype = x.numpy_dtype
        self._kinds = [(a.shape, a.numpy_dtype) for a in function._inputs] if y.nbytes else []

    def __reduce__(self) -> tuple[Any, ...]:
        return self._function.origin().bound, (self.name, self._packed)

    @property
    def packed_bytes(self) -> int:
        """Size of the packed weights that it holds; 0 if it holds none."""
        return 0 if self._packed is None else self._packed.nbytes

    def copy(self) -> Bound:
        """The same with its own copy of the packed weights."""
        made = object.__new__(Bound)  # copy.copy would pickle it, and load its library again
        for name in (*BoundFunction.__slots__, *Bound.__slots__):
            setattr(made, name, getattr(self, name))
        if self._packed is not None:
            made._packed = arrays.aligned(self._packed)
            made._pointer = arrays.address(made._packed)
        return made

    def __call__(self, x: Any, *others: Any, out: Any = None) -> Any:
        """The result for ``x`` (and ``others``, where the function has more inputs).

        Arrays are NumPy's or any DLPack arrays in CPU memory, contiguous, aligned to one element. ``out``: a
        contiguous writable array, apart from the inputs, for the result; else a new one, of the kind that
        ``x`` is. Raises SpecError for arrays that do not fit, before anything is computed.
        """
        # The fast path, for the usual arguments. The C function checks alignment and overlap itself; anything
        # invalid takes the slow path, which makes the error.
        if type(x) is _ndarray and x.shape == self._shape and x.dtype == self._dtype and not others:
            y = arrays.empty(self._out_shape, self._out_dtype, self._out_bytes) if out is None else out
            if type(y) is _ndarray and y.shape == self._out_shape and y.dtype == self._out_dtype:
                try:  # from_buffer takes writable contiguous memory only
                    x_at, y_at = _addressof(_from_buffer(x)), _addressof(_from_buffer(y))
                except (BufferError, TypeError, ValueError):
                    pass
                else:
                    if not self._entry(x_at, self._pointer, y_at):
                        return y
        elif others and (y := self._shortly((x, *others), out)) is not None:
            return y
        if type(x) is not _ndarray and (
            views := arrays.torch_views((x, *others) if out is None else (x, *others, out))
        ):
            y = self(*views) if out is None else self(*views[:-1], out=views[-1])
            return sys.modules["torch"].from_numpy(y) if out is None else out
        return self.run((x, *others), out, copy=False)

    def _shortly(self, inputs: tuple[Any, ...], out: Any) -> Any:
        """The fast path for several inputs; None if they do not fit it. ``__call__`` has its own for one
        input, which this would make a third slower."""
        if [(a.shape, a.dtype) if type(a) is _ndarray else None for a in inputs] != self._kinds:
            return None
        y = arrays.empty(self._out_shape, self._out_dtype, self._out_bytes) if out is None else out
        if type(y) is not _ndarray or y.shape != self._out_shape or y.dtype != self._out_dtype:
            return None
        try:
            x_at, *others_at = [_addressof(_from_buffer(a)) for a in (*inputs, y)]
        except (BufferError, TypeError, ValueError):
            return None
        return None if self._entry(x_at, self._pointer, *others_at) else y

    def on(self, *inputs: Any, out: Any) -> Callable[[], Any]:
        """A function without arguments that computes ``out`` from the current contents of these NumPy arrays,
        and returns it. The arrays are checked here, once, which is most of the cost of a short call.

        Arrays as for a call, not to be resized (``resize``) afterwards. Raises SpecError for those that do
        not fit.
        """
        function = self._function
        for name, array in (*zip((a.name for a in function._inputs), inputs, strict=False), ("out", out)):
            if not isinstance(array, np.ndarray):
                raise SpecError(f"{name}: {type(array).__name__}, expected a NumPy array")
        read, result = self._operands(inputs, out, copy=False)
        if not result.size:
            return lambda: out
        held = self, read, result  # alive as long as the call is
        call = partial(function._entry, *self._pointers(read, result))

        def run() -> Any:
            if code := call():
                held[0]._function._check(code)
            return out

        return run

    def run(self, inputs: Sequence[Any], out: Any, *, copy: bool) -> Any:
        """As a call, with all inputs in a sequence; ``copy``: copy inputs that are not contiguous rather than
        refuse them. Raises SpecError."""
        read, result = self._operands(inputs, out, copy=copy)
        if result.size:
            self._function._check(self._function._entry(*self._pointers(read, result)))
        return out if out is not None else arrays.like(inputs[0], result)

    def _operands(
        self, inputs: Sequence[Any], out: Any, *, copy: bool
    ) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
        """The arrays to read, and the one to write to, all checked."""
        wanted = self._function._inputs
        if len(inputs) != len(wanted):
            names = ", ".join(a.name for a in wanted)
            raise SpecError(f"inputs: {len(inputs)}, expected {len(wanted)}: {names}")
        views = [arrays.view(a.name, value) for a, value in zip(wanted, inputs, strict=True)]
        read = [arrays.read(a, array, copy=copy) for a, array in zip(wanted, views, strict=True)]
        if out is None:
            result = arrays.empty(self._out_shape, self._out_dtype, self._out_bytes)
        else:
            result = arrays.written(self._function.arguments[-1], out)
            for argument, array in zip(wanted, views, strict=True):
                arrays.check_apart(result, argument.name, array)
        return read, result

    def _pointers(
        self, read: Sequence[np.ndarray[Any, Any]], result: np.ndarray[Any, Any]
    ) -> list[int | None]:
        packed = [self._pointer] if self._function._packed_bytes else []
        return run_order([arrays.address(array) for array in read], [arrays.address(result)], packed)


def _aligned(packed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Packed weights, where prepack would have put them: pickle aligns nothing."""
    copy = arrays.empty(packed.shape, packed.dtype, packed.nbytes)
    copy[...] = packed
    return copy
