"""map: one element-wise expression over inputs that broadcast against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators import expression as ex
from tvmconv.specs.operators.base import Array, Operator, Type, check_shape


@dataclass(frozen=True)
class Map(Operator):
    """``map:1x56x56x64,1x1x1x64:float32:mul(a,sigmoid(b))``: an expression of each element.

    inputs: shapes that broadcast as NumPy's do; the result has the broadcast shape and the expression's type.
    Every input occurs in the expression.
    """

    kind: ClassVar[str] = "map"

    expression: str

    def __post_init__(self) -> None:
        self._check_types()
        tree = self.tree
        if ex.text_of(tree) != self.expression:
            object.__setattr__(self, "expression", ex.text_of(tree))
        if ex.parts(tree) > ex.MOST_PARTS:
            raise SpecError(f"map: {ex.parts(tree)} parts, expected at most {ex.MOST_PARTS}")
        used = ex.inputs_of(tree)
        if used != set(range(len(self.inputs))) or not used:
            names = ", ".join(map(ex.name_of_input, sorted(used))) or "none"
            raise SpecError(f"map: {len(self.inputs)} inputs, expected just those that it reads ({names})")
        try:
            shape = np.broadcast_shapes(*(one.shape for one in self.inputs))
        except ValueError:
            shapes = ", ".join(str(one.shape) for one in self.inputs)
            raise SpecError(f"map: shapes {shapes}, expected ones that broadcast") from None
        check_shape("map: result", shape)
        ex.dtype_of(tree, [one.dtype for one in self.inputs])

    @property
    def tree(self) -> ex.Expression:
        """The expression as a tuple."""
        return ex.parse(self.expression)

    def infer(self) -> tuple[Type, ...]:
        shape = np.broadcast_shapes(*(one.shape for one in self.inputs))
        dtype = ex.dtype_of(self.tree, [one.dtype for one in self.inputs])
        return (Type(tuple(map(int, shape)), dtype or self.inputs[0].dtype),)

    def takes_pitch(self) -> frozenset[str]:
        return frozenset({"y", *(f"x{number}" for number in range(len(self.inputs)))})

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        value = ex.evaluate(self.tree, arrays, [one.dtype for one in self.inputs])
        return (np.array(np.broadcast_to(value, self.infer()[0].shape)),)

    def options(self) -> tuple[str, ...]:
        return (self.expression,)

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Map:
        (expression,) = options
        return cls(inputs, expression)
