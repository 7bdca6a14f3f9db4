"""Functions of several steps in a loaded library: they have inputs and outputs; the library holds the
weights."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.formats.manifest import steps_symbol
from tvmconv.runtime import arrays
from tvmconv.runtime.function import Function


class ProgramFunction(Function):
    """A function of several steps; ``module[name]`` gives it. ``arguments``: inputs in call order, then
    outputs. ``workspace_bytes``: what a call takes besides. Safe to call from several threads at once: the
    library keeps a workspace for each, unless they give their own."""

    __slots__ = ("_in", "_out", "_outputs", "_some", "workspace_bytes")

    def __init__(
        self, library: ctypes.CDLL, facts: dict[str, Any], last_error: Callable[[], bytes | None]
    ) -> None:
        self.workspace_bytes: int = facts["workspace_bytes"]
        super().__init__(library, facts, last_error)

    def _find(self, library: ctypes.CDLL, symbol: str) -> None:
        self._outputs = tuple(a for a in self.arguments if a.role == "output")
        self._prepack, self._entry = None, library[symbol]
        self._entry.argtypes = [ctypes.c_void_p] * 3
        self._some = library[steps_symbol(symbol)]
        self._some.argtypes = [*self._entry.argtypes, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
        self._in, self._out = ctypes.c_void_p * len(self._inputs), ctypes.c_void_p * len(self._outputs)

    def __call__(self, *inputs: Any, out: Any = None, workspace: Any = None) -> Any:
        """The result for these inputs; a tuple where there are several.

        Arrays are NumPy's or any DLPack arrays in CPU memory, in the shapes, dtypes and order of
        ``arguments``. Inputs that are read-only or not contiguous are fine. ``out``: a contiguous writable
        array for the result, or a sequence of as many as there are; else new ones, of the kind that the first
        input is. ``workspace``: a contiguous writable array of at least ``workspace_bytes``, at a multiple of
        64, that no other call uses meanwhile; None: the library's own for this thread. Raises SpecError for
        arrays that do not fit, before anything is computed.
        """
        read, results = self._operands(inputs, out, copy=True)
        self._check(self.unchecked(read, results, self._workspace(workspace))())
        if out is not None:
            return out
        made = tuple(arrays.like(inputs[0], result) for result in results)
        return made if len(made) > 1 else made[0]

    def bind(self) -> ProgramFunction:
        """Itself: there are no weights to bind."""
        return self

    def on(self, *inputs: Any, out: Any, workspace: Any = None) -> Callable[[], Any]:
        """A function without arguments that computes ``out`` from the current contents of these NumPy arrays,
        and returns it. The arrays are checked here, once. ``workspace``: as for a call. Raises SpecError for
        those that do not fit."""
        for array in (*inputs, *self._given(out)):
            if not isinstance(array, np.ndarray):
                raise SpecError(f"arrays: {type(array).__name__}, expected NumPy arrays")
        held = *self._operands(inputs, out, copy=False), self._workspace(workspace)
        call = self.unchecked(*held)

        def run(held: Any = held) -> Any:  # alive as long as the call is
            if code := call():
                self._check(code)
            return out

        return run

    def unchecked(
        self, read: Sequence[np.ndarray], results: Sequence[np.ndarray], workspace: np.ndarray | None = None
    ) -> Callable[[], int]:
        """The C function's call on these arrays, which must outlive it and are not checked; it returns the
        error code."""
        given, written = (map(arrays.address, each) for each in (read, results))
        place = None if workspace is None else arrays.address(workspace)
        return partial(self._entry, self._in(*given), self._out(*written), place)

    def _workspace(self, given: Any) -> np.ndarray[Any, Any] | None:
        """A caller's workspace, checked; the library checks its alignment, and that nothing else is there."""
        if given is None:
            return None
        array = arrays.view("workspace", given)
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise SpecError("workspace: read-only or not contiguous, expected writable contiguous memory")
        if array.nbytes < self.workspace_bytes:
            wanted = f"expected {self.workspace_bytes} or more"
            raise SpecError(f"workspace: {array.nbytes} bytes, {wanted}")
        return array

    def _given(self, out: Any) -> Sequence[Any]:
        if len(self._outputs) == 1 and not isinstance(out, list | tuple):
            return (out,)
        if not isinstance(out, list | tuple) or len(out) != len(self._outputs):
            what = len(out) if isinstance(out, list | tuple) else type(out).__name__
            names = ", ".join(a.name for a in self._outputs)
            raise SpecError(f"out: {what}, expected a sequence of {len(self._outputs)}: {names}")
        return out

    def _operands(
        self, inputs: Sequence[Any], out: Any, *, copy: bool
    ) -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        """The arrays to read, and those to write to, all checked."""
        if len(inputs) != len(self._inputs):
            names = ", ".join(a.name for a in self._inputs)
            raise SpecError(f"inputs: {len(inputs)}, expected {len(self._inputs)}: {names}")
        views = [arrays.view(a.name, value) for a, value in zip(self._inputs, inputs, strict=True)]
        read = [arrays.read(a, array, copy=copy) for a, array in zip(self._inputs, views, strict=True)]
        if out is None:
            return read, [arrays.empty(a.shape, a.numpy_dtype, a.nbytes) for a in self._outputs]
        single = len(self._outputs) == 1
        results = [
            arrays.written(a, value, "out" if single else f"out[{i}]")
            for i, (a, value) in enumerate(zip(self._outputs, self._given(out), strict=True))
        ]
        for result in results:
            for a, array in zip(self._inputs, views, strict=True):
                arrays.check_apart(result, a.name, array)
        return read, results
