"""What a kernel can be compiled for: a layer, by its spec, or an operator of networks."""

from __future__ import annotations

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

    def check_supported(self) -> None:
        """Raises SpecError for well-formed work for which no kernel can be made yet."""
