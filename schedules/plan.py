"""Strategies: what each must say about a problem on a machine, and which one is chosen.

A backend, ``schedules.cpu`` or ``schedules.cuda``, has one ``TABLE`` of them. A strategy may be a module or
an object.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from tvmconv.base.errors import TargetError
from tvmconv.formats.choice import Choice

if TYPE_CHECKING:
    from tvm.s_tir import Schedule

    from tvmconv.compiler.ops.algorithm import Algorithm
    from tvmconv.schedules.gpu_machines import GpuMachine
    from tvmconv.schedules.machines import Machine

_MOST = (1 << 31) - 1  # TVM's loops count in 32 bits
LONGEST_STRIP = 64  # tiles

Space = dict[str, list[Any]]
"""The values of each knob."""


@dataclass(frozen=True)
class Plan:
    """A strategy's answer for one problem on one machine: an algorithm, how weights are packed for it (None
    without weights), and how its definition is scheduled.

    ``point`` holds the value of each of the strategy's knobs; ``exact``: whether sums of small integers are
    exact; ``pack``: the schedule of the function that packs weights, if it has one; ``otherwise``: the plan
    for weights that turn out not to suit this one (``Dot.checked``), if any may not.
    """

    strategy: str
    algorithm: Algorithm
    packing: Any
    apply: Callable[[Schedule], None]
    point: dict[str, Any] = field(default_factory=dict)
    exact: bool = True
    pack: Callable[[Schedule], None] | None = None
    otherwise: Plan | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What manifests state about it."""
        packing = {} if self.packing is None else {"packing": asdict(self.packing)}
        otherwise = {} if self.otherwise is None else {"otherwise": self.otherwise.facts}
        return {"source": "default", "strategy": self.strategy, "point": self.point,
                **self.algorithm.facts(self.exact), **packing, **otherwise}  # fmt: skip


class Strategy(Protocol):
    """One way to schedule some problems. ``p``: a problem of ``compiler.ops``."""

    @property
    def STRATEGY(self) -> str:
        """Its name, as used in logs."""

    def fits(self, p: Any, machine: Any) -> bool:
        """Whether it can schedule ``p`` for ``machine``."""

    def space(self, p: Any, machine: Any) -> Space:
        """The values worth trying for each of its knobs. None if its points have no knobs."""

    def plan_of(self, p: Any, machine: Any, point: Mapping[str, Any] | None = None) -> Plan:
        """The plan for the default point, or for ``point``. Raises ValueError where that does not fit."""


Test = Callable[[Any, Any], bool]
"""Of a problem and a machine."""


def always(p: Any, machine: Any) -> bool:
    """Wherever it fits."""
    return True


def never(p: Any, machine: Any) -> bool:
    """Only if it is requested, or tried."""
    return False


@dataclass(frozen=True)
class Row:
    """A strategy's place in a table. ``pays``: for which of the problems that it fits it is the default, if
    no row before it is; ``tried``: for which it is worth trying beside another default."""

    strategy: Strategy
    pays: Test = always
    tried: Test = always


Table = Mapping[tuple[str, str | None], Sequence[Row]]
"""By a problem's ``family`` and the requested algorithm, if any: the strategies in order of preference. The
last one takes whatever no other fits."""


@lru_cache(maxsize=64)  # a tuner asks for each of its candidates
def strategies(p: Any, machine: Machine | GpuMachine, algorithm: str | None = None) -> tuple[Strategy, ...]:
    """Those worth trying for ``p``, the default first. Raises TargetError for an algorithm without a strategy
    for ``machine``."""
    rows = _rows(p, machine, algorithm)
    default = next(row for row in rows if row.pays(p, machine))
    others = (row.strategy for row in rows if row is not default and row.tried(p, machine))
    return default.strategy, *others


def _rows(p: Any, machine: Machine | GpuMachine, algorithm: str | None) -> Sequence[Row]:
    table: Table = importlib.import_module(f"tvmconv.schedules.{machine.backend}").TABLE
    if (p.family, algorithm) not in table:
        have = " or ".join(repr(name) for family, name in table if family == p.family and name)
        raise TargetError(f"algorithm: {algorithm!r} for {machine.name}, expected {have}")
    rows = table[p.family, algorithm]
    return [row for row in rows if row.strategy.fits(p, machine)] or rows[-1:]


def plan(
    problems: Sequence[Any], machine: Machine | GpuMachine, algorithm: str | None = None,
    choice: Choice | None = None,
) -> tuple[Any, Plan]:  # fmt: skip
    """A problem and its plan: of ``problems``, forms of the same layer in order of preference, the first with
    its default strategy, or the one that ``choice`` is for. Raises ValueError if that does not fit."""
    if choice is None:
        return problems[0], strategies(problems[0], machine, algorithm)[0].plan_of(problems[0], machine)
    known = [(p, found) for p in problems for found in strategies(p, machine, algorithm)]
    for p, strategy in known:
        if choice.strategy == strategy.STRATEGY:
            return p, strategy.plan_of(p, machine, choice.point)
    names = ", ".join(strategy.STRATEGY for _, strategy in known)
    raise ValueError(f"strategy {choice.strategy!r}: expected one of {names}")


def spaces(
    problems: Sequence[Any], machine: Machine | GpuMachine, algorithm: str | None = None
) -> dict[str, Space]:
    """The space of each strategy that may be best, by name."""
    found = {s.STRATEGY: s.space(p, machine) for p in problems for s in strategies(p, machine, algorithm)}
    return {name: space for name, space in found.items() if space}


def settled(point: Mapping[str, Any] | None, default: dict[str, Any]) -> dict[str, Any]:
    """``default`` with the values of ``point``; knobs missing there, because they are newer, keep their
    defaults.

    Raises ValueError for an unknown knob, and for a value that is not of the default's type or not a valid
    loop extent.
    """
    for name, value in (point or {}).items():
        if name not in default:
            raise ValueError(f"knob {name!r}: expected one of {', '.join(default)}")
        number = isinstance(value, int)
        if type(value) is not type(default[name]) or (number and not 0 <= value <= _MOST):
            raise ValueError(f"{name}: {value!r}, expected a value as {default[name]!r}")
    return {**default, **(point or {})}


def require(fits: bool, point: Mapping[str, Any], name: str, expected: str) -> None:
    """Raise ValueError, in the words of the knob, unless its value fits."""
    if not fits:
        raise ValueError(f"{name}: {point[name]!r}, expected {expected}")


def require_within(point: Mapping[str, Any], **most: int) -> None:
    """Raise ValueError unless each knob's value is from 1 to its maximum."""
    for name, value in most.items():
        require(1 <= point[name] <= value, point, name, f"1 to {value}")


def require_divides(point: Mapping[str, Any], **numbers: int) -> None:
    """Raise ValueError unless each knob's value divides its number."""
    for name, number in numbers.items():
        require(point[name] > 0 and number % point[name] == 0, point, name, f"a divisor of {number}")


def require_block(point: Mapping[str, Any], lanes: int, channels: int) -> None:
    """Raise ValueError unless "block" is whole vectors, or all channels."""
    block = point["block"]
    require(0 < block <= channels and (block % lanes == 0 or block == channels), point, "block",
            f"a multiple of {lanes} up to {channels}")


def require_strip(point: Mapping[str, Any], able: bool, unable: str) -> None:
    """Raise ValueError unless "strip" is 0, or within the number of tiles if the strategy is ``able`` to have
    strips."""
    most = LONGEST_STRIP if able else 0
    require(point["strip"] <= most, point, "strip", f"0 to {most}" if able else f"0 {unable}")


def require_registers(point: Mapping[str, Any], name: str, sums: int, registers: int) -> None:
    """Raise ValueError unless this many vectors of sums leave a register for the operands."""
    require(sums < registers, point, name, f"{sums} vectors of sums to fit {registers} registers")


def at_most(most: int, default: int | None = None) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to ``most``, including it and ``default``."""
    values, size = {1, 3, most}, 2
    while size < most:
        values |= {size, size * 3 // 2}
        size *= 2
    return sorted(v for v in values | ({default} if default else set()) if 0 < v <= most)
