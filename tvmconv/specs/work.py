"""What a kernel can be compiled for: a layer, by its spec, or an operator of networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class Work:
    """What compiling asks of both; the defaults are those of work that logs know nothing about.

    Its ``str`` is its descriptor, under which caches and logs keep it.
    """

    __slots__ = ()

    builder: ClassVar[str]  # the package of tvmconv.compiler whose ``build_kernel`` compiles it

    @property
    def is_integer(self) -> bool:
        """Whether it computes in integers, for which records of floats of other targets are of no use."""
        return False

    @property
    def effort(self) -> int:
        """About how much there is to do, in operations: what compiles longest is begun first."""
        raise NotImplementedError

    def twins(self) -> tuple[Work, ...]:
        """What is scheduled alike, the nearest first."""
        return ()

    @property
    def dense(self) -> Work:
        """The same on arrays that are dense."""
        return self

    @property
    def pitches(self) -> Mapping[str, int]:
        """Of those of the kernel's arrays whose rows lie apart, by name: elements from the beginning of one
        row to that of the next. A row is what lies along the last dim: the channels of a pixel."""
        return {}

    def takes_pitch(self) -> frozenset[str]:
        """Names of the kernel's arrays whose rows may lie apart."""
        return frozenset()

    def check_supported(self) -> None:
        """Raises SpecError for well-formed work for which no kernel can be made yet."""
