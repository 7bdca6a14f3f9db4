"""recurrent: all steps' products with x first, as one; then a task a direction and sequence, step by step:
the state in its cache, the gates of a block of units in registers, and their arithmetic behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from tvmconv.base.memory import LINE
from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    held,
    in_blocks,
    itemsize,
    loop,
    spread,
    tile,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators.copy import transposed
from tvmconv.compiler.operators.expression import function
from tvmconv.compiler.operators.matmul import Factor, product
from tvmconv.compiler.operators.values import number
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Recurrent
from tvmconv.specs.operators.recurrent import DIRECTIONS, GATES

_VECTORS = 2  # of units at a time, for each gate


@dataclass(frozen=True)
class _Layer:
    """Sizes and arrays: ``gx`` (direction, step, sequence, gates) the products with x, ``rt`` (direction,
    unit before, gates) r transposed."""

    op: Recurrent
    lanes: int
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    gx: Array
    rt: Array

    @property
    def units(self) -> int:
        return self.op.inputs[2].shape[2]

    @property
    def gates(self) -> int:
        return GATES[self.op.cell] * self.units

    @property
    def kind(self) -> str:
        return self.gx.kind


def body(op: Recurrent, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    x, w, r, b = inputs[:4]
    steps, batch, _ = op.inputs[0].shape
    directions, units = DIRECTIONS[op.direction], op.inputs[2].shape[2]
    gates, kind = GATES[op.cell] * units, x.kind
    lanes = machine.lanes(itemsize(kind))
    gx, made = held(directions * steps * batch * gates, kind, "gx")
    rt, more = held(directions * units * gates, kind, "rt")
    # A GRU that multiplies by the reset gate last adds the bias of r before that.
    late = 2 * units if op.linear_before_reset else gates

    def store(at: tuple[Index, ...], value: tirx.Expr) -> tirx.Stmt:
        return gx.put(at[0], value + b.at(at[1]) + b.at(at[1] + gates))

    def alone(at: tuple[Index, ...], value: tirx.Expr) -> tirx.Stmt:
        return gx.put(at[0], value + b.at(at[1]))

    stmts = [made, more]
    for first, stop, put in ((0, late, store), (late, gates, alone)):
        if stop > first:
            stmts.append(_products(op, machine, (x, w, gx), first, stop, put))
    stmts.append(transposed(
        r, rt, [Loop(directions, (gates * units, units * gates))] * (directions > 1),
        Loop(units, (1, gates)), Loop(gates, (units, 1)), (0, 0), lanes, LINE // itemsize(kind),
        directions * gates * units))  # fmt: skip
    layer = _Layer(op, lanes, inputs, outputs, gx, rt)

    def task(at: tuple[Index, ...]) -> tirx.Stmt:
        parts = [_sequence(layer, d, at[1]) for d in range(directions)]
        return parts[0] if directions == 1 else tirx.IfThenElse(tirx.EQ(at[0], 0), *parts)

    work = directions * batch * steps * gates * units
    return sequence([*stmts, spread([Loop(directions, (1, 0)), Loop(batch, (0, 1))], task, 2, work)])


def _products(op: Recurrent, machine: Machine, arrays: tuple[Array, Array, Array], first: int, stop: int,
              store: Callable) -> tirx.Stmt:  # fmt: skip
    """x times w of the gates [first, stop), for all steps and directions."""
    x, w, _ = arrays
    steps, batch, width = op.inputs[0].shape
    directions, gates = DIRECTIONS[op.direction], op.inputs[1].shape[1]
    rows = steps * batch
    # w and the results begin at the first gate.
    loops = [Loop(directions, (0, gates * width, rows * gates, 2 * gates))] if directions > 1 else []

    def put(at: tuple[Index, ...], value: tirx.Expr) -> tirx.Stmt:
        return store((at[0] + first, at[1] + first), value)

    from_first = Factor(w, 1, width)
    return product((rows, width, stop - first), Factor(x, width, 1), from_first, loops,
                   [(gates, 1), (0, 1)], put, machine, first * width)  # fmt: skip


def _sequence(layer: _Layer, d: int, n: Index) -> tirx.Stmt:
    """All steps of one direction and sequence."""
    op, units, kind, lanes = layer.op, layer.units, layer.kind, layer.lanes
    steps, batch, _ = op.inputs[0].shape
    lstm, back = op.cell == "lstm", op.direction == "reverse" or d == 1
    h, made = held(units, kind, "h")
    fresh, more = held(units, kind, "fresh")
    cell, last = held(units, kind, "cell")  # of a GRU: reset times h
    stmts, place = [made, more, last], (d * batch + n) * units
    for number_, state in enumerate([h, cell][: 1 + lstm]):
        first = layer.inputs[4 + number_] if op.initial else None
        stmts.append(vectors(units, lanes, lambda i, state=state, first=first: state.put(
            i, first.at(place + i) if first else tirx.const(0.0, kind))))  # fmt: skip

    def step(s: Index) -> tirx.Stmt:
        at = (steps - 1 - s) if back else s
        x = ((d * steps + at) * batch + n) * layer.gates
        y = ((at * DIRECTIONS[op.direction] + d) * batch + n) * units
        parts = _lstm(layer, d, x, h, cell, fresh) if lstm else _gru(layer, d, x, h, cell, fresh)
        return sequence([*parts, vectors(units, lanes, lambda i: h.put(i, fresh.at(i))),
                         vectors(units, lanes, lambda i: layer.outputs[0].put(y + i, fresh.at(i)))])

    stmts.append(loop(steps, step))
    for state, result in zip([h, cell], layer.outputs[1:], strict=False):
        stmts.append(vectors(units, lanes, lambda i, state=state, result=result: result.put(
            place + i, state.at(i))))  # fmt: skip
    return sequence(stmts)


def _blocks(layer: _Layer, task: Callable[[Index, int], tirx.Stmt]) -> tirx.Stmt:
    """``task(first, width)`` for the units, some vectors at a time."""
    block = min(_VECTORS * layer.lanes, layer.units)
    return in_blocks([], Loop(layer.units, (1,)), block, lambda at, width: task(at[0], width), 0)


def _sums(layer: _Layer, d: int, x: Index, state: Array, gates: Sequence[int], j: Index, width: int,
          zero: Sequence[int] = ()) -> tuple[Array, list[tirx.Stmt]]:  # fmt: skip
    """What ``gates`` of ``width`` units from j on sum up to, one after the other; of those in ``zero``
    without what comes from x."""
    units, lanes = layer.units, layer.lanes
    sums, made = held(len(gates) * width, layer.kind, "sums")
    stmts = [made]
    for slot, g in enumerate(gates):
        stmts.append(tile(width, lanes, lambda i, slot=slot, g=g: sums.put(
            slot * width + i,
            tirx.const(0.0, layer.kind) if g in zero else layer.gx.at(x + g * units + j + i))))  # fmt: skip

    def term(k: Index) -> tirx.Stmt:
        row = (d * units + k) * layer.gates
        return sequence([
            tile(width, lanes, lambda i, slot=slot, g=g: sums.put(
                slot * width + i,
                sums.at(slot * width + i) + state.at(k) * layer.rt.at(row + g * units + j + i)))
            for slot, g in enumerate(gates)
        ])  # fmt: skip

    return sums, [*stmts, loop(units, term)]


def _functions(layer: _Layer, d: int) -> list[Callable[[tirx.Expr], tirx.Expr]]:
    count = len(layer.op.activations) // DIRECTIONS[layer.op.direction]
    return [function(name) for name in layer.op.activations[d * count : (d + 1) * count]]


def _lstm(layer: _Layer, d: int, x: Index, h: Array, cell: Array, fresh: Array) -> list[tirx.Stmt]:
    f, g, out = _functions(layer, d)
    units, p = layer.units, layer.inputs[-1] if layer.op.peephole else None

    def block(j: Index, width: int) -> tirx.Stmt:
        sums, stmts = _sums(layer, d, x, h, range(4), j, width)

        def gate(slot: int, i: Index, peephole: int) -> tirx.Expr:
            value = sums.at(slot * width + i)
            if p is None:
                return value
            return value + p.at((3 * d + peephole) * units + j + i) * cell.at(j + i)

        def next_cell(i: Index) -> tirx.Stmt:
            kept = f(gate(2, i, 2)) * cell.at(j + i)
            return cell.put(j + i, kept + f(gate(0, i, 0)) * g(sums.at(3 * width + i)))

        return sequence([*stmts, tile(width, layer.lanes, next_cell), tile(
            width, layer.lanes, lambda i: fresh.put(j + i, f(gate(1, i, 1)) * out(cell.at(j + i))))])

    return [_blocks(layer, block)]


def _gru(layer: _Layer, d: int, x: Index, h: Array, reset: Array, fresh: Array) -> list[tirx.Stmt]:
    f, g = _functions(layer, d)
    units, lanes, late = layer.units, layer.lanes, layer.op.linear_before_reset
    bias = layer.inputs[3]

    def gates(j: Index, width: int) -> tirx.Stmt:
        """z in ``fresh``, and in ``reset`` the reset gate times h, or what of the new state is not from z."""
        sums, stmts = _sums(layer, d, x, h, range(3 if late else 2), j, width, zero=[2])

        def second(i: Index) -> tirx.Stmt:
            share = f(sums.at(width + i))
            if not late:
                return reset.put(j + i, share * h.at(j + i))
            inner = sums.at(2 * width + i) + bias.at((2 * d + 1) * layer.gates + 2 * units + j + i)
            return reset.put(j + i, layer.gx.at(x + 2 * units + j + i) + share * inner)

        return sequence([*stmts, tile(width, lanes, lambda i: fresh.put(j + i, f(sums.at(i)))),
                         tile(width, lanes, second)])  # fmt: skip

    def mixed(j: Index, i: Index, new: tirx.Expr) -> tirx.Stmt:
        z = fresh.at(j + i)
        return fresh.put(j + i, (number(1, z) - z) * g(new) + z * h.at(j + i))

    def last(j: Index, width: int) -> tirx.Stmt:
        sums, stmts = _sums(layer, d, x, reset, [2], j, width)
        return sequence([*stmts, tile(width, lanes, lambda i: mixed(j, i, sums.at(i)))])

    if late:
        return [_blocks(layer, gates), vectors(units, lanes, lambda i: mixed(0, i, reset.at(i)))]
    return [_blocks(layer, gates), _blocks(layer, last)]
