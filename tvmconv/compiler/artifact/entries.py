"""The C functions of a library, each with its program for every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvmconv.base.errors import SpecError
from tvmconv.formats import manifest as manifests
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import ALIGNMENT, Argument, Program, arrays_of, prepack_of, run_of


@dataclass(frozen=True)
class Entry:
    """A C function, and its program for each of the library's variants; ``packed_bytes``: of a prepack, which
    comes with a function that returns it. ``by_arrays``: it takes its inputs in one array of pointers, its
    outputs in another, and the workspace."""

    name: str
    programs: tuple[Program, ...]
    packed_bytes: int = 0
    by_arrays: bool = False

    @property
    def scratch(self) -> int:
        """Bytes that each computing thread needs at most, with what keeping blocks apart takes."""
        kernels = (kernel for program in self.programs for kernel in program.kernels)
        most = max((sum(kernel.workspace) for kernel in kernels), default=0)
        return most + 1024 if most else 0

    @property
    def bytes_name(self) -> str:
        """The function that returns a prepack's ``packed_bytes``."""
        return f"{self.name.removesuffix('_prepack')}_packed_bytes"

    @property
    def steps_name(self) -> str:
        """The function that runs some of the steps, of one by arrays on a CPU."""
        return manifests.steps_symbol(self.name)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Those of its programs, with room for what takes most; the workspace is one, of those by arrays."""
        columns = zip(*(program.arguments for program in self.programs), strict=True)
        found = [replace(each[0], nbytes=max(a.nbytes for a in each)) for each in columns]
        if self.by_arrays:
            most = max(program.workspace for program in self.programs)
            found.append(Argument("workspace", most, ALIGNMENT, "workspace"))
        return tuple(found)


def entries_of(
    symbol: str, functions: Sequence[Kernel | Program], baked: Sequence[bytes | None]
) -> list[Entry]:
    """The C functions of a library's function; ``functions`` and ``baked`` weights: of each variant. Raises
    SpecError where these do not take the same."""
    kernels = [f for f in functions if isinstance(f, Kernel)]
    taken = {
        tuple((a.name, a.shape, a.dtype, a.layout, role) for a, role in arrays_of(f)) for f in functions
    }  # fmt: skip
    if len(kernels) not in (0, len(functions)) or len(taken) > 1:
        raise SpecError(f"function {symbol}: other arrays on another target, expected the same on each")
    if not kernels:
        return [Entry(symbol, tuple(f for f in functions if isinstance(f, Program)), by_arrays=True)]
    runs = tuple(run_of(kernel, held) for kernel, held in zip(kernels, baked, strict=True))
    if not kernels[0].packed:
        return [Entry(symbol, runs)]
    size = max(kernel.packed_bytes for kernel in kernels)
    return [Entry(symbol, runs), Entry(f"{symbol}_prepack", tuple(map(prepack_of, kernels)), size)]
