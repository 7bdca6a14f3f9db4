"""What a kernel costs by its machine code alone: its innermost loops under LLVM's model of the target's CPU.

No such machine is needed. Caches and memory are not in it: everything is in the nearest cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvmconv.bench.static_cost import mca
from tvmconv.bench.static_cost.assembly import Loop, loops, weight
from tvmconv.schedules.machines import Machine
from tvmconv.specs.kinds import Spec

_SHOWN = 0.1  # loops of at least so much of the heaviest one's weight


@dataclass(frozen=True)
class LoopCost:
    """An iteration of a loop. ``fma_bound``, ``memory_bound``, ``work_bound``: the cycles that its
    multiply-adds, its loads and stores (spills apart), and both would take with nothing else to do. Stores
    take the ports of multiply-adds on some CPUs; then both are what binds."""

    loop: Loop
    estimate: mca.Estimate
    fma_bound: float
    memory_bound: float
    work_bound: float

    @property
    def percent_fma(self) -> float:
        return 100 * self.fma_bound / self.estimate.cycles

    @property
    def percent_memory(self) -> float:
        return 100 * self.memory_bound / self.estimate.cycles

    @property
    def percent_work(self) -> float:
        return 100 * self.work_bound / self.estimate.cycles

    @cached_property
    def busiest(self) -> list[str]:
        """The resources that are taken for the most cycles."""
        pressure = self.estimate.pressure
        return [name for name, cycles in pressure.items() if cycles > 0.98 * max(pressure.values())]

    def count(self, what: str) -> int:
        """Instructions of the loop that are an "fma", a "load", a "store", a "spill"."""
        return sum(getattr(instruction, what) for instruction in self.loop.body)

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "function": self.loop.function, "label": self.loop.label, "depth": self.loop.depth,
            "instructions": len(self.loop.body), "branches": self.loop.branches,
            "fmas": self.loop.fmas, "loads": self.count("load"), "stores": self.count("store"),
            "spills": self.count("spill"), "model": self.estimate.model, "cycles": self.estimate.cycles,
            "bound": self.estimate.bound, "pressure": self.estimate.pressure, "busiest": self.busiest,
            "fma_bound": self.fma_bound, "memory_bound": self.memory_bound,
            "work_bound": self.work_bound, "percent_fma": self.percent_fma,
            "percent_memory": self.percent_memory, "percent_work": self.percent_work,
        }  # fmt: skip


def cost(spec: Spec, machine: Machine) -> list[LoopCost]:
    """The innermost loops with multiply-adds of the default kernel of ``spec`` for ``machine``, the one
    where the time goes first. Raises Error where llvm-mca is missing or does not know the CPU."""
    from tvmconv.compiler.codegen.kernel import assembly_of

    mca.find()
    return cost_of(assembly_of(spec, machine), machine)


def cost_of(assembly: str, machine: Machine) -> list[LoopCost]:
    """As ``cost``, of a function's assembly."""
    found = [loop for loop in loops(assembly, machine.arch) if loop.fmas]
    found.sort(key=weight, reverse=True)
    return [_cost(loop, machine) for loop in found if weight(loop) >= _SHOWN * weight(found[0])]


def _cost(loop: Loop, machine: Machine) -> LoopCost:
    fmas = [i for i in loop.body if i.fma]
    moves = [i for i in loop.body if (i.load or i.store) and not i.spill]
    work = [i for i in loop.body if i.fma or ((i.load or i.store) and not i.spill)]
    bounds = (mca.busiest(part, machine) for part in (fmas, moves, work))
    return LoopCost(loop, mca.estimate(loop.body, machine), *bounds)
