"""recurrent: LSTM and GRU, forward, in reverse, or both, as ONNX has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import Array, Operator, Type, float_type

GATES = {"lstm": 4, "gru": 3}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
ACTIVATIONS = {
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh, "relu": lambda v: np.maximum(v, 0),
    "softsign": lambda v: v / (1 + np.abs(v)), "softplus": lambda v: np.logaddexp(v, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Recurrent(Operator):
    """``recurrent:12x1x8,1x16x8,1x16x4,1x32:float32:lstm:forward:sigmoid,tanh,tanh``.

    Inputs, with D directions, S steps, N sequences, I elements of x, H of the state, G gates: x (S, N, I),
    w (D, G*H, I), r (D, G*H, H), b (D, 2*G*H); with ``initial`` the first state h (D, N, H), and of an LSTM
    c (D, N, H); with ``peephole`` (LSTM) p (D, 3*H). Gates in ONNX's order: i, o, f, c; z, r, h.
    Results: y (S, D, N, H), the last h (D, N, H), of an LSTM also the last c.
    activations: three (LSTM) or two (GRU) a direction. linear_before_reset: of a GRU, as ONNX has it.
    """

    kind: ClassVar[str] = "recurrent"

    cell: str
    direction: str
    activations: tuple[str, ...]
    initial: bool = False
    peephole: bool = False
    linear_before_reset: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        if self.cell not in GATES or self.direction not in DIRECTIONS:
            raise SpecError(f"recurrent: {self.cell!r} {self.direction!r}, expected one of "
                            f"{', '.join(GATES)} and one of {', '.join(DIRECTIONS)}")  # fmt: skip
        lstm, directions = self.cell == "lstm", DIRECTIONS[self.direction]
        if (self.peephole and not lstm) or (self.linear_before_reset and lstm):
            raise SpecError("recurrent: peephole is an LSTM's alone, linear_before_reset a GRU's")
        count = (3 if lstm else 2) * directions
        if len(self.activations) != count or set(self.activations) - set(ACTIVATIONS):
            raise SpecError(f"recurrent: activations {', '.join(self.activations)}, expected {count} of "
                            f"{', '.join(ACTIVATIONS)}")  # fmt: skip
        self._check_count(4 + self.initial * (1 + lstm) + self.peephole)
        x = self.inputs[0]
        if len(x.shape) != 3 or len(self.inputs[2].shape) != 3:
            raise SpecError(f"recurrent: x {x}, r {self.inputs[2]}, expected 3 dims each")
        steps, batch, width = x.shape
        hidden, rows = self.inputs[2].shape[2], GATES[self.cell] * self.inputs[2].shape[2]
        wanted = [(steps, batch, width), (directions, rows, width), (directions, rows, hidden),
                  (directions, 2 * rows), *[(directions, batch, hidden)] * (self.initial * (1 + lstm)),
                  *[(directions, 3 * hidden)] * self.peephole]  # fmt: skip
        for number, (one, shape) in enumerate(zip(self.inputs, wanted, strict=True)):
            float_type("recurrent", one.dtype)
            if one != Type(shape, x.dtype):
                raise SpecError(f"recurrent: input {number}: {one}, expected {Type(shape, x.dtype)}")

    @property
    def macs(self) -> int:
        steps, batch, _ = self.inputs[0].shape
        return steps * batch * (self.inputs[1].size + self.inputs[2].size)

    def infer(self) -> tuple[Type, ...]:
        (steps, batch, _), dtype = self.inputs[0]
        directions, hidden = DIRECTIONS[self.direction], self.inputs[2].shape[2]
        state = Type((directions, batch, hidden), dtype)
        return (Type((steps, directions, batch, hidden), dtype), *[state] * (1 + (self.cell == "lstm")))

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        x, w, r, b, *more = arrays
        lstm = self.cell == "lstm"
        states = [np.zeros(self.infer()[1].shape)] * (1 + lstm)
        if self.initial:
            states, more = list(more[: 1 + lstm]), more[1 + lstm :]
        results, last = [], []
        for d in range(DIRECTIONS[self.direction]):
            back = self.direction == "reverse" or d == 1
            state, outputs = [one[d] for one in states], []
            for step in x[::-1] if back else x:
                state = self._step(d, step, state, w[d], r[d], b[d], more[0][d] if self.peephole else None)
                outputs.append(state[0])
            results.append(np.reshape(outputs[::-1] if back else outputs, (len(x), *state[0].shape)))
            last.append(state)
        return (np.stack(results, 1), *(np.stack(parts) for parts in zip(*last, strict=True)))

    def _step(self, d: int, x: Array, state: list[Array], w: Array, r: Array, b: Array,
              p: Array | None) -> list[Array]:  # fmt: skip
        count = len(self.activations) // DIRECTIONS[self.direction]
        f = [ACTIVATIONS[name] for name in self.activations[d * count : (d + 1) * count]]
        h = state[0]
        bw, br = np.split(b, 2)
        if self.cell == "lstm":
            i, o, forget, c = np.split(x @ w.T + h @ r.T + bw + br, 4, axis=-1)
            pi, po, pf = np.split(p, 3) if p is not None else (0.0, 0.0, 0.0)
            cell = f[0](forget + pf * state[1]) * state[1] + f[0](i + pi * state[1]) * f[1](c)
            return [f[0](o + po * cell) * f[2](cell), cell]
        (xz, xr, xh), (wz, wr, wh) = np.split(x @ w.T + bw, 3, axis=-1), np.split(r, 3)
        bz, brr, bh = np.split(br, 3)
        z, reset = f[0](xz + h @ wz.T + bz), f[0](xr + h @ wr.T + brr)
        inner = reset * (h @ wh.T + bh) if self.linear_before_reset else (reset * h) @ wh.T + bh
        return [(1 - z) * f[1](xh + inner) + z * h]

    def options(self) -> tuple[str, ...]:
        words = [self.cell, self.direction, ",".join(self.activations)]
        flags = ("initial", "peephole", "linear_before_reset")
        return (*words, *(flag for flag in flags if getattr(self, flag)))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Recurrent:
        cell, direction, activations, *flags = options
        unknown = set(flags) - {"initial", "peephole", "linear_before_reset"}
        if unknown:
            raise SpecError(f"recurrent: {':'.join(sorted(unknown))!r}, expected initial, peephole, "
                            "linear_before_reset")  # fmt: skip
        return cls(inputs, cell, direction, tuple(activations.split(",")), **dict.fromkeys(flags, True))
