"""One table: every layer on every engine at one number of threads."""

from __future__ import annotations

from tvmconv.base.clock import FEWEST_CLEAN
from tvmconv.bench import goals
from tvmconv.bench.engines.session import Session
from tvmconv.bench.ratios import OURS, Row, kind_of, summarise
from tvmconv.specs.kinds import Spec


class Table:
    """All layers and engines at one number of threads."""

    def __init__(
        self, engines: list[str], threads: int, cpus: list[int], options: dict, rounds: int,
        cold: bool = False,
    ):  # fmt: skip
        self.engines, self.threads, self.cpus, self.cold = engines, threads, cpus, cold
        self.session = Session(engines, threads, cpus, options, rounds)

    def run(self, specs: list[Spec], nothing: Spec, cpu: str) -> dict:
        """Print the table; return it for --json. Raises EngineError."""
        with self.session as session:
            versions = {name: worker.version for name, worker in session.workers.items()}
            where = ",".join(map(str, self.cpus))
            print(f"\n{cpu}, {self.threads} thread(s) on CPU {where}, µs a call")
            print("; ".join(f"{name}: {version}" for name, version in versions.items()))
            width = max(len(str(spec)) for spec in specs)
            heads = ["ratio", "fma %", "copy %", "goal", "verdict", "floor"]
            print(self.line("layer", width, {n: n for n in self.engines}, "GFLOP/s", heads, "best"))
            rows, cold = [], {}
            for number, spec in enumerate(specs, 1):
                step = f"{self.threads} threads: {number}/{len(specs)}"
                rows.append(session.time(spec, step))
                print(self.show(rows[-1], str(spec), width), flush=True)
                if self.cold and (copies := session.copies(spec)):
                    cold[spec] = session.time(spec, f"{step} cold", copies)
                    print(self.show(cold[spec], f"  cold, {copies} copies", width, judged=False), flush=True)
                elif self.cold:
                    print("  cold: its weights are too small to leave the nearer caches")
            rows = [session.at_peak(row) for row in rows]
            busy = session.busy(max(specs, key=lambda spec: spec.flops))
            overhead = session.time(nothing, f"{self.threads} threads: cost of a call")
            print(self.show(overhead, "(a call that does next to nothing)", width))
            told = (f"{name} {b['threads']} ({b['cores']:.1f})" for name, b in busy.items())
            print("threads that worked, and cores that they filled:", ", ".join(told))
            if any(said["doubtful"] for row in rows for said in row.detail.values()):
                print(f"! fewer than {FEWEST_CLEAN} samples without other processes on our cores")
            means = summarise(rows, [name for name in self.engines if name != OURS])
            cold_means = summarise(list(cold.values()), [name for name in self.engines if name != OURS])
            verdicts = goals.count(rows)
            if OURS in self.engines:
                show_groups("geometric mean of ratios", means)
            if OURS in self.engines and cold:
                show_groups("the same, cold weights", cold_means)
            if verdicts:
                show_groups("goals", verdicts)
            return {
                "threads": self.threads, "cpus": self.cpus, "versions": versions, "busy": busy,
                "call_us": overhead.us, "layers": [as_json(row, cold.get(row.spec)) for row in rows],
                "means": means, "goals": verdicts, **({"cold_means": cold_means} if cold else {}),
            }  # fmt: skip

    def line(self, layer: str, width: int, cells: dict, gflops: str, judged: list[str], best: str) -> str:
        columns = [f"{layer:{width}}"]
        for name in self.engines:
            columns.append(f"{cells.get(name, '-'):>9}")
            if name == OURS:
                columns.append(f"{gflops:>8}")
        columns += [f"{cell:>{size}}" for cell, size in zip(judged, _JUDGED, strict=True)]
        return " ".join([*columns, best]).rstrip()

    def show(self, row: Row, title: str, width: int, judged: bool = True) -> str:
        cells = {name: f"{us:.1f}{'!' * row.detail[name]['doubtful']}" for name, us in row.us.items()}
        best, verdict = row.best(), goals.judge(row)
        marks = [
            number(row.ratio(best)), number(verdict.fma_percent, 0), number(verdict.copy_percent, 0),
            number(verdict.goal_ratio),
            f"{verdict.met or '-'}{'!' * (verdict.met is not None and row.doubtful)}",
            f"<{verdict.floor:.2f}" if verdict.below_floor else "",
        ]  # fmt: skip
        if not judged:
            marks[1:] = [""] * (len(marks) - 1)
        return self.line(title, width, cells, number(row.gflops, 1), marks, best or "-")


_JUDGED = (6, 5, 6, 5, 8, 5)  # widths of the columns about ratios and goals


def show_groups(title: str, groups: dict[str, dict]) -> None:
    """A table with one line per kind of layer."""
    columns = list(next(iter(groups.values())))
    print("\n" + " ".join([f"{title:26}", *(f"{c:>{max(9, len(c))}}" for c in columns)]))
    for kind, values in groups.items():
        cells = [str(v) if isinstance(v, int) else number(v) for v in values.values()]
        sized = (f"{cell:>{max(9, len(c))}}" for cell, c in zip(cells, columns, strict=True))
        print(" ".join([f"{kind:26}", *sized]))


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def as_json(row: Row, cold: Row | None = None) -> dict:
    """``cold``: the same with cold weights."""
    best = row.best()
    colder = {}
    if cold is not None:
        colder["cold"] = {"engines": dict(cold.detail), "ratio": cold.ratio(cold.best())}
    return {
        "descriptor": str(row.spec), "kind": kind_of(row.spec), "flops": row.spec.flops,
        "bytes": row.spec.bytes, "gflops": row.gflops, "best": best, "ratio": row.ratio(best),
        "engines": dict(row.detail), "limits": dict(row.limits), "goal": goals.judge(row).facts(),
        **colder,
    }  # fmt: skip
