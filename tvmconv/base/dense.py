"""What is known about a dense array without its data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.base.errors import SpecError


@dataclass(frozen=True)
class Dense:
    """An array that is row-major and dense, its data aligned to one element.

    ``layout`` names the axes of ``shape`` ("NHWC", "OIHW"; "" when it has no name worth stating).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""

    def __post_init__(self) -> None:
        if self.dtype not in ITEMSIZE:
            raise SpecError(f"dtype of {self.name}: {self.dtype!r}, expected one of {', '.join(ITEMSIZE)}")

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return ITEMSIZE[self.dtype]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense array."""
        return self.elements * self.itemsize
