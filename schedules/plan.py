"""What a scheduling rule returns: which weights layout it wants, and how to schedule the kernel.

A rule's module has ``space(p, machine)``, the values of each of its knobs that are worth trying, and
``plan_of(p, machine, point=None)``: the plan for the default point, or for a given one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tvmconv.formats.choice import Choice

if TYPE_CHECKING:
    from tvm.s_tir import Schedule

    from tvmconv.compiler.ops.packing import Packing
    from tvmconv.compiler.ops.winograd import WinogradPacking
    from tvmconv.compiler.ops.winograd_rows import RowsPacking

_MOST = (1 << 31) - 1  # TVM's loops count in 32 bits
_LONGEST_STRIP = 64  # tiles

Space = dict[str, list[Any]]
"""The values of each knob."""


@dataclass(frozen=True)
class Plan:
    """A strategy's answer for one problem on one machine. ``point`` holds the value of each of its knobs;
    ``exact``: whether sums of small integers are; ``pack``: the schedule of the function that packs weights,
    where that has one."""

    strategy: str
    packing: Packing | WinogradPacking | RowsPacking
    apply: Callable[[Schedule], None]
    point: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "direct"
    exact: bool = True
    pack: Callable[[Schedule], None] | None = None


def chosen(rivals: list[ModuleType], problem: Any, machine: Any, choice: Choice) -> Plan:
    """The plan of ``choice``, of one of ``rivals``. Raises ValueError where it does not fit."""
    for module in rivals:
        if choice.strategy == module.STRATEGY:
            return module.plan_of(problem, machine, choice.point)
    names = ", ".join(module.STRATEGY for module in rivals)
    raise ValueError(f"strategy {choice.strategy!r}: expected one of {names}")


def settled(point: Mapping[str, Any] | None, default: dict[str, Any]) -> dict[str, Any]:
    """``default`` with the values of ``point``; knobs that it lacks, because they are newer, keep theirs.

    Raises ValueError for an unknown knob, and for a value that is not of the default's type or is no number
    that a loop's extent may be.
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
    """Raise ValueError unless each knob's value is from 1 to its most."""
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
    """Raise ValueError unless "strip" is 0, or so few tiles where a strategy is ``able`` to have strips."""
    most = _LONGEST_STRIP if able else 0
    require(point["strip"] <= most, point, "strip", f"0 to {most}" if able else f"0 {unable}")


def require_registers(point: Mapping[str, Any], name: str, sums: int, registers: int) -> None:
    """Raise ValueError unless so many vectors of sums leave a register for the operands."""
    require(sums < registers, point, name, f"{sums} vectors of sums to fit {registers} registers")


def at_most(most: int, default: int | None = None) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to ``most``, which is in it, as is ``default``."""
    values, size = {1, 3, most}, 2
    while size < most:
        values |= {size, size * 3 // 2}
        size *= 2
    return sorted(v for v in values | ({default} if default else set()) if 0 < v <= most)
