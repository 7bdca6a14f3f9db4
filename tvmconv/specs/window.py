"""What specs have in common whose layers slide a window over an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvmconv.base.errors import SpecError
from tvmconv.specs import checks
from tvmconv.specs.spec import Spec

Ints = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class WindowSpec(Spec):
    """A layer with ``kernel``, ``stride``, ``padding`` and ``dilation``, each by spatial dim."""

    input_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    layout: str
    dtype: str

    def _read_window(self, kernel: Ints, stride: Ints, dilation: Ints) -> None:
        """Store these, checked. Raises SpecError."""
        for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
            self._store(name, checks.read_per_dim(name, value, self.rank, 1))

    def _check_window(self) -> None:
        """Raises SpecError where no window fits into the padded input."""
        for dim, (size, (lo, hi)) in enumerate(zip(self.in_spatial, self.padding, strict=True)):
            if self.extent(dim) > size + lo + hi:
                raise SpecError(
                    f"kernel: {self.kernel[dim]}{self._dilated_text(dim)} in spatial dim {dim}, expected at "
                    f"most the padded input's {size + lo + hi}"
                )

    def _dilated_text(self, dim: int) -> str:
        """What messages say after a kernel's size."""
        return f" dilated by {self.dilation[dim]}" if self.dilation[dim] > 1 else ""

    def size_text(self, dim: int) -> str:
        """The arithmetic of the result's size in a spatial dim: "floor((224 + 3 + 3 - 7) / 2) + 1 = 112"."""
        lo, hi = self.padding[dim]
        total = f"({self.in_spatial[dim]} + {lo} + {hi} - {self._extent_text(dim)})"
        return f"floor({total} / {self.stride[dim]}) + 1 = {self.out_spatial[dim]}"

    def _out_dim(self, dim: int) -> int:
        return (self.in_spatial[dim] + sum(self.padding[dim]) - self.extent(dim)) // self.stride[dim] + 1

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return math.prod(self.kernel)

    @property
    def is_dilated(self) -> bool:
        """Whether any dilation is over 1."""
        return max(self.dilation) > 1

    def extent(self, dim: int) -> int:
        """Elements from the first to the last that a window covers in a spatial dim."""
        return self.dilation[dim] * (self.kernel[dim] - 1) + 1

    def reach(self, dim: int, outputs: int) -> int:
        """Elements that so many neighbouring windows cover together."""
        return (outputs - 1) * self.stride[dim] + self.extent(dim)

    def _extent_text(self, dim: int) -> str:
        kernel, dilation = self.kernel[dim], self.dilation[dim]
        return f"{kernel}" if dilation == 1 else f"({dilation}*({kernel} - 1) + 1)"
