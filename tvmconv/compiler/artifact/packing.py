"""Weights that a library packs at the first call: where, by which steps, and the tables that say so in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvmconv.formats.program import Place, Prepared, Program


@dataclass
class Packing:
    """Of one of a library's targets. ``name``: for symbols. ``bytes``: of memory; equal weights of several
    programs have one place."""

    name: str
    bytes: int = 0
    slots: dict[str, tuple[int, Prepared, Program]] = field(default_factory=dict)

    def add(self, program: Program) -> None:
        """Make room for what a program needs."""
        for one in program.prepared:
            if one.digest not in self.slots:
                self.slots[one.digest] = self.bytes, one, program
                self.bytes += one.step.kernel.packed_bytes  # a multiple of 64

    def offset(self, program: Program, place: Place) -> int:
        """Where a program's prepared place lies in the memory."""
        return self.slots[program.prepared[place.index].digest][0] + place.offset

    def steps(self) -> list[tuple[Program, Prepared]]:
        """What packs, in order, and a program that has it."""
        return [(program, one) for _, one, program in self.slots.values()]

    def tables(self, name: str, program: Program) -> tuple[list[str], str]:
        """Definitions for a program, and the members of its tcv_program that refer to them."""
        if not program.prepared:
            return [], "0, 0"
        order = {digest: i for i, digest in enumerate(self.slots)}
        numbers: Sequence[int] = [order[one.digest] for one in program.prepared]
        rows = (f"  {{&tcv_steps_{self.name}[{i}], &tcv_done_{self.name}[{i}]}}," for i in numbers)
        lines = [
            f"static const tcv_packing tcv_packing_{name}[] = {{", *rows, "  {0, 0},", "};",
            f"static int tcv_packed_{name};",
        ]  # fmt: skip
        return lines, f"tcv_packing_{name}, &tcv_packed_{name}"
