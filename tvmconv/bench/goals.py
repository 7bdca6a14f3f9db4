"""How fast each kind of layer is meant to be, and whether a timed one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvmconv.bench.ratios import OURS, XNNPACK, Row, geometric_mean, kind_of
from tvmconv.specs.kinds import Spec


@dataclass(frozen=True)
class Goal:
    """``ratio``: the best peer's time over ours; ``without_xnnpack``: that of the best of the others, which
    must be reached as well. It is enough to come within ``share`` of ``bound``: "fma", the measured peak of
    multiply-adds, or "copy", the measured bandwidth of copying as many bytes as the layer has. ``floor``: the
    ratio to the best peer below which no layer should be in any case."""

    ratio: float
    without_xnnpack: float | None = None
    bound: str | None = None
    share: float = 0.85
    floor: float | None = None


_DEPTHWISE = Goal(1.5, without_xnnpack=2.0, bound="copy", floor=1.0)
_GROUPED = Goal(2.0)
_DENSE = Goal(1.1)
GOALS = {
    "depthwise": _DEPTHWISE, "dilated depthwise": _DEPTHWISE,
    "grouped": _GROUPED, "dilated grouped": _GROUPED,
    "pointwise": Goal(1.15, bound="fma", floor=0.95),
    "dense": _DENSE, "dilated dense": _DENSE,
}  # fmt: skip
"""By kind, as ``ratios.kind_of`` says it; the others have none."""
GROUPS = range(2, 65)  # of the grouped layers that have a goal


@dataclass(frozen=True)
class Verdict:
    """``fma_percent``, ``copy_percent``: of the measured limits. ``goal_ratio``: to the best peer, that this
    layer has to reach: the lower one of its kind's ratio and of what its bound leaves. ``met``: by "ratio" or
    "bound", else "missed", or "partly" where only the ratio to the best without XNNPACK is not reached;
    ``attained``: the ratio over the goal. None where there is nothing to say."""

    fma_percent: float | None = None
    copy_percent: float | None = None
    goal_ratio: float | None = None
    met: str | None = None
    attained: float | None = None
    floor: float | None = None
    below_floor: bool = False

    def facts(self) -> dict[str, Any]:
        """For JSON and CSV."""
        return asdict(self)


def goal_of(spec: Spec) -> Goal | None:
    """The goal of a layer, if its kind has one."""
    grouped: Any = spec
    if spec.kind == "grouped" and grouped.groups not in GROUPS:
        return None
    return GOALS.get(kind_of(spec))


def judge(row: Row) -> Verdict:
    """The verdict on a timed layer."""
    if OURS not in row.us:
        return Verdict()
    ours, limits = row.us[OURS], _limit_us(row)
    fma, copy = (100 * limits[name] / ours if limits.get(name, 0) > 0 else None for name in ("fma", "copy"))
    goal, best = goal_of(row.spec), row.best()
    if goal is None or best is None:
        return Verdict(fma, copy)
    wanted = row.us[best] / goal.ratio
    others = row.best(without=(XNNPACK,))
    if goal.without_xnnpack is not None and others is not None:
        wanted = min(wanted, row.us[others] / goal.without_xnnpack)
    bound = 0.0 if goal.bound is None else limits.get(goal.bound, 0.0)
    enough = max(wanted, bound / goal.share)
    met = "ratio" if ours <= wanted else "bound" if ours <= enough else "missed"
    if met == "missed" and row.ratio(best) >= goal.ratio:
        met = "partly"
    below = goal.floor is not None and row.ratio(best) < goal.floor
    return Verdict(fma, copy, goal_ratio=row.us[best] / enough, met=met, attained=enough / ours,
                   floor=goal.floor, below_floor=below)  # fmt: skip


def _limit_us(row: Row) -> dict[str, float]:
    """µs that the layer would take at each measured limit."""
    work: Mapping[str, float] = {"fma": row.spec.flops, "copy": row.spec.bytes}
    return {name: work[name] / rate * 1e6 for name, rate in row.limits.items()}


def count(rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
    """For all layers that have a goal, and for each kind of them: how many there are, met it by what, and are
    below the floor; the ``lowest`` ratio; ``attained``, the geometric mean of ratio over goal."""
    judged = [(kind_of(row.spec), judge(row), row.ratio(row.best())) for row in rows]
    judged = [one for one in judged if one[1].met is not None]
    kinds = [kind for kind in GOALS if any(kind == other for other, *_ in judged)]
    table = {}
    for name in ["all", *kinds] if len(kinds) > 1 else kinds:
        members = [(verdict, ratio) for kind, verdict, ratio in judged if name in ("all", kind)]
        met = Counter(verdict.met for verdict, _ in members)
        table[name] = {
            "layers": len(members), "by ratio": met["ratio"], "by bound": met["bound"],
            "partly": met["partly"], "missed": met["missed"],
            "below floor": sum(verdict.below_floor for verdict, _ in members),
            "lowest": min(ratio for _, ratio in members),
            "attained": geometric_mean(verdict.attained for verdict, _ in members),
        }  # fmt: skip
    return table
