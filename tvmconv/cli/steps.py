"""What each step of a network takes: a table, next to what it could take on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvmconv.base.cpus import available
from tvmconv.base.errors import TargetError
from tvmconv.cli import console
from tvmconv.cli.layer_times import warn_exceeding

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline
    from tvmconv.runtime import Module


def timed(
    module: Module, name: str, inputs: Sequence[Any], repeat: int | None, threads: int | None
) -> tuple[list[dict[str, Any]], Roofline | None]:
    """(what is reported about each step of a function, the machine's limits). Medians of `repeat` runs of the
    whole (None: as many as take a second, 3 to 1000). "roof", "roof_us" and "bound" are missing where the
    limits cannot be measured; they are measured again if a step is faster. `threads`: that were asked for."""
    import numpy as np

    from tvmconv.runtime.steps import Steps

    steps = Steps(module, name, *inputs)
    steps.run()
    once = sum(steps.run())
    count = repeat or int(min(1000, max(3, 1 / max(once, 1e-9))))
    seconds = np.median([steps.run() for _ in range(count)], axis=0)
    rows = []
    for number, (facts, took) in enumerate(zip(steps.facts, seconds, strict=True)):
        rows.append({
            "step": number + 1,
            "source": facts["source"],
            "descriptor": facts["descriptor"],
            "microseconds": took * 1e6,
            "gflops": facts["flops"] / max(took, 1e-9) / 1e9,
            "share": took / max(float(seconds.sum()), 1e-9),
            "flops": facts["flops"],
            "bytes": max(facts["bytes"], 1),
            "algorithm": facts.get("algorithm"),
            "combines": facts.get("combines", False),
        })  # fmt: skip
    dtypes = [_sums(row["descriptor"]) for row in rows]
    roof = _roof(module, dtypes, threads)
    if roof is not None and _under(roof, rows, dtypes):
        again = _roof(module, dtypes, threads)
        roof = roof if again is None else roof.best_with(again)
        warn_exceeding(_under(roof, rows, dtypes))
    return rows, roof


def _sums(descriptor: str) -> str:
    """The element type whose multiply-adds limit a step."""
    from tvmconv.base.dtypes import ACCUMULATORS
    from tvmconv.specs.pitched import parse_work

    dtype = getattr(parse_work(descriptor).dense, "dtype", "float32")
    return dtype if dtype in ACCUMULATORS else "float32"


def _roof(module: Module, dtypes: Sequence[str], threads: int | None) -> Roofline | None:
    """The limits of this machine for the kernels of a library; None, and a line on stderr, without a
    compiler."""
    from tvmconv.bench import roofline
    from tvmconv.runtime.threads import threads_asked
    from tvmconv.schedules.machines import Machine, resolve

    machine = resolve(module.variant)
    assert isinstance(machine, Machine)  # networks are for CPUs
    count = threads or threads_asked() or available()
    try:
        return roofline.measure(machine, dtypes, count)
    except TargetError as error:
        console.log(f"no roof: {error}")
        return None


def _under(roof: Roofline, rows: Sequence[dict[str, Any]], dtypes: Sequence[str]) -> list[float]:
    """Say of each step what the roof lets it take at least; percentages of the roof of those above it."""
    from tvmconv.bench.own import is_above

    for row, dtype in zip(rows, dtypes, strict=True):
        least, row["bound"] = roof.seconds(row["flops"], row["bytes"], dtype)
        row["roof_us"], row["roof"] = least * 1e6, least * 1e6 / max(row["microseconds"], 1e-3)
    return [100 * row["roof"] for row in rows if is_above(100 * row["roof"], row)]


def print_steps(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A row a step, and the total."""
    columns = ["step", "from", "µs", "GFLOP/s", *(["% of roof"] if "roof" in rows[0] else []), "share"]
    cells = []
    total = sum(row["microseconds"] for row in rows)
    flops = sum(row["gflops"] * row["microseconds"] for row in rows)
    every = {"microseconds": total, "gflops": flops / total if total else 0.0, "share": 1.0}
    if "roof" in rows[0]:
        every["roof"] = sum(row["roof"] * row["microseconds"] for row in rows) / total if total else 0.0
    for row in (*rows, every):
        cells.append([
            row.get("step", ""),
            ", ".join(row["source"]) or row["descriptor"] if "step" in row else f"{name}, {len(rows)} steps",
            f"{row['microseconds']:.1f}",
            f"{row['gflops']:.2f}",
            *([f"{100 * row['roof']:.0f}"] if "roof" in row else []),
            f"{100 * row['share']:.1f}%",
        ])
    console.print_table(columns, cells, right=[column for column in columns if column != "from"])
