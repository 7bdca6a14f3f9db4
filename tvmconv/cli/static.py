"""`tvmconv bench --static`: what LLVM's model of a CPU says about kernels, on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tvmconv.base.errors import TargetError
from tvmconv.cli import console

if TYPE_CHECKING:
    from tvmconv.bench.static_cost.cost import LoopCost
    from tvmconv.cli.specs import Named

_COLUMNS = ("layer", "loop", "depth", "cycles", "bound", "ports", "FMA", "loads", "stores", "spills",
            "% FMA", "% load/store", "% both")  # fmt: skip


def report(layers: Sequence[Named], target: str, as_json: bool) -> None:
    """Print the hot loops of each layer's kernel for ``target``, or JSON. Raises Error and TargetError."""
    from tvmconv.bench.static_cost import mca
    from tvmconv.bench.static_cost.cost import cost
    from tvmconv.schedules.gpu_machines import GpuMachine
    from tvmconv.schedules.machines import resolve

    machine, costs = resolve(target), []
    if isinstance(machine, GpuMachine):
        raise TargetError(f"--static --target {target}: expected a CPU, which llvm-mca has a model of")
    mca.find()
    for _, spec in layers:
        spec.check_supported()
    with console.progress("llvm-mca") as step:
        for number, (_, spec) in enumerate(layers):
            step(number, len(layers), str(spec))
            costs.append(cost(spec, machine))
    if as_json:
        console.print_json({"target": machine.name, "cpu": machine.cpu, "layers": [
            {"name": name, "descriptor": str(spec), "loops": [c.facts() for c in found]}
            for (name, spec), found in zip(layers, costs, strict=True)
        ]})  # fmt: skip
        return
    rows = []
    for (name, spec), found in zip(layers, costs, strict=True):
        rows += _rows(f"{name}={spec}" if name else str(spec), found)
    console.print_table(_COLUMNS, rows, right=_COLUMNS[2:5] + _COLUMNS[6:])
    models = sorted({c.estimate.model for found in costs for c in found})
    print(f"llvm-mca for {machine.cpu}, scheduling model {' '.join(models) or 'unknown'}: an iteration of "
          "each loop, all data in the nearest cache")  # fmt: skip


def _rows(layer: str, costs: list[LoopCost]) -> Iterator[list[str]]:
    if not costs:
        yield [layer, "none with multiply-adds", *[""] * (len(_COLUMNS) - 2)]
    for c in costs:
        yield [
            layer, c.loop.label, str(c.loop.depth), f"{c.estimate.cycles:.1f}", f"{c.estimate.bound:.1f}",
            " ".join(c.busiest), *(str(c.count(what)) for what in ("fma", "load", "store", "spill")),
            f"{c.percent_fma:.0f}", f"{c.percent_memory:.0f}",
            f"{c.percent_work:.0f}",
        ]  # fmt: skip
