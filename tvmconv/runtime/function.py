"""Functions of a loaded library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tvmconv.base.errors import ArtifactError, Error, SpecError
from tvmconv.formats.order import call_order, prepack_order, run_order
from tvmconv.runtime import arrays, quantisation
from tvmconv.runtime.arrays import Argument
from tvmconv.runtime.bound import Bound

_ERR_CPU, _ERR_KERNEL = 4, 5  # of the C ABI; the other codes are the caller's mistakes


class Function:
    """One function of a loaded library; ``module[name]`` gives it.

    ``name``: its C name. ``descriptor``: what it computes. ``arguments``: name, shape, dtype, layout and role
    of each array in call order, the result last. ``baked``: whether the library holds the weights; then they
    may be left out.
    """

    __slots__ = (
        "_entry", "_inputs", "_last_error", "_origin", "_packed_bytes", "_prepack", "_weights", "arguments",
        "baked", "descriptor", "name",
    )  # fmt: skip

    _after = 0  # pointers after the arrays

    def __init__(
        self, library: ctypes.CDLL, facts: dict[str, Any], last_error: Callable[[], bytes | None]
    ) -> None:
        self._origin: Any = None
        self.name: str = facts["name"]
        self.descriptor: str = facts["descriptor"]
        self.arguments = tuple(
            Argument(a["name"], tuple(a["shape"]), a["dtype"], a["layout"], a["role"])
            for a in facts["arguments"]
        )
        self._inputs = tuple(a for a in self.arguments if a.role == "input")
        self._weights = tuple(a for a in self.arguments if a.role == "weight")
        self._last_error = last_error
        self._packed_bytes: int = facts["packed_bytes"]
        self.baked: bool = facts.get("baked", False)
        self._find(library, facts.get("symbol", self.name))

    def _find(self, library: ctypes.CDLL, symbol: str) -> None:
        """The C functions, and their arguments."""
        pointer = ctypes.c_void_p
        packed = [self._packed_bytes] if self._packed_bytes else []
        self._entry = library[symbol]
        self._entry.argtypes = [pointer] * (len(run_order(self._inputs, [1], packed)) + self._after)
        self._prepack = None
        if packed:
            self._prepack = library[f"{symbol}_prepack"]
            self._prepack.argtypes = [pointer] * (len(self._prepack_order({}, None)) + self._after)

    def __repr__(self) -> str:
        return f"<tvmconv function {self.name}: {self.descriptor}>"

    def come_from(self, origin: Any) -> None:
        """Note where the library is, by which a function is pickled: ``origin.function(name)`` and
        ``origin.bound(name, packed)`` give it again."""
        self._origin = origin

    def origin(self) -> Any:
        """Where the library is. Raises ArtifactError for one that has no file."""
        if self._origin is None:
            raise ArtifactError(f"pickle: {self.name}: of a library without a file, expected an exported one")
        return self._origin

    def __reduce__(self) -> tuple[Any, ...]:
        return self.origin().function, (self.name,)

    def __call__(self, x: Any, w: Any = None, bias: Any = None, *others: Any, out: Any = None) -> Any:
        """Compute the result for ``x`` with these weights, which are prepacked for this one call.

        Arrays are NumPy's or any DLPack arrays in CPU memory, in the shapes, dtypes and order of
        ``arguments``; ``others`` are those after bias. Inputs that are read-only or not contiguous are fine.
        ``out``: a contiguous writable array for the result; else a new one, of the kind that ``x`` is.
        Raises SpecError for arrays that do not fit, before anything is computed.
        """
        named = self._named((x, w, bias, *others))
        inputs = [named[a.name] for a in self._inputs]
        weights = {a.name: named[a.name] for a in self._weights if a.name in named}
        if out is not None:
            array = arrays.written(self.arguments[-1], out)
            for name, value in weights.items():
                arrays.check_apart(array, name, arrays.view(name, value))
        return Bound(self, weights).run(inputs, out, copy=True)

    def bind(self, w: Any = None, bias: Any = None, *others: Any) -> Bound:
        """This function with its weights copied and prepacked once; ``others`` are weights after bias.

        Raises SpecError for arrays that do not fit.
        """
        named = self._named((w, bias, *others), bind=True)
        return Bound(self, named)

    def _named(self, given: Sequence[Any], *, bind: bool = False) -> dict[str, Any]:
        """Arguments by name."""
        known = {a.name: a for a in (self._weights if bind else self.arguments[:-1])}
        order = call_order(known, bind=bind)
        if len(given) > len(order):
            raise SpecError(f"arguments: {len(given)}, expected at most {len(order)}: {', '.join(order)}")
        values = dict(zip(order, given, strict=False))
        weights = [a.name for a in self._weights]
        if self.baked and all(values.get(name) is None for name in weights):
            known = {name: a for name, a in known.items() if name not in weights}
        for name in order:
            value = values.get(name)
            if name not in known and value is not None:
                raise SpecError(f"{name}: {type(value).__name__}, expected None: {self.name} has none")
            if name in known and value is None and not quantisation.is_zero_point(name):
                raise SpecError(f"{name}: None, expected an array of shape {known[name].shape}")
        for name, wanted in known.items():
            if quantisation.is_quantisation(name):
                values[name] = quantisation.read(wanted, values.get(name))
        return {name: values[name] for name in known}

    def _prepack_order(self, pointers: Mapping[str, int], packed: int | None) -> list[int | None]:
        """Prepack's arguments: pointers to weights by name, NULL for missing ones."""
        weights = {a.name: pointers.get(a.name) for a in self._weights}
        return prepack_order(weights, packed, None)

    def _pack(self, weights: dict[str, Any]) -> np.ndarray[Any, Any] | None:
        if self.baked and not weights:
            return None
        packed = arrays.empty((self._packed_bytes,), np.dtype(np.uint8), self._packed_bytes)
        if self._prepack is not None:
            wanted = {a.name: a for a in self._weights}
            kept = {name: arrays.read(wanted[name], value, copy=True) for name, value in weights.items()}
            at = {name: arrays.address(array) for name, array in kept.items()}
            self._check(self._prepack(*self._prepack_order(at, arrays.address(packed))))
        return packed

    def _check(self, code: int) -> None:
        if code:
            text = (self._last_error() or b"").decode("utf-8", "replace")
            kind = {_ERR_CPU: ArtifactError, _ERR_KERNEL: Error}.get(code, SpecError)
            raise kind(text or f"{self.name}: error {code}")
