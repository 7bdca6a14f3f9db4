"""map: one loop over vectors of the dims that all inputs go along, the others around it."""

from __future__ import annotations

from tvm import tirx

from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    along,
    broadcast_steps,
    further,
    itemsize,
    loop,
    merged,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators.expression import cost_of, value_of
from tvmconv.compiler.operators.power import computed, taken_apart
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Map


def body(op: Map, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (result,), (y,) = op.infer(), outputs
    dtypes = [one.dtype for one in op.inputs]
    arrays = zip((*inputs, y), (*op.inputs, result), strict=True)
    loops = merged(result.shape, *(a.steps(broadcast_steps(one.shape, result.shape)) for a, one in arrays))
    lanes = machine.lanes(max(itemsize(dtype) for dtype in (*dtypes, result.dtype)))
    steps = loops[-1].steps if loops else (0,) * (len(inputs) + 1)

    tree, powers = taken_apart(op.tree, dtypes)
    every = [*dtypes, *(dtype for _, dtype in powers)]

    def row(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        def element(lane: Index) -> tirx.Stmt:
            found = [x.at(further(a, lane, step)) for x, a, step in zip(inputs, at, steps, strict=False)]
            stmts = []
            for power, dtype in powers:
                value, made = computed(power, dtype, found, every)
                found.append(value)
                stmts.append(made)
            put = y.put(further(at[-1], lane, steps[-1]), value_of(tree, found, every, dtypes[0]))
            return sequence([*stmts, put])

        return loop(width, element) if powers else vectors(width, lanes, element)

    work = result.size * cost_of(op.tree)
    return along(loops, lanes, row, work, len(inputs) + 1)
