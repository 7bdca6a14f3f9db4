"""From the sums of an integer convolution to its results: the arrays needed, and the computation."""

from __future__ import annotations

from tvm import te, tirx

from tvmconv.compiler.ops import requantise
from tvmconv.compiler.ops.algorithm import Epilogue
from tvmconv.compiler.ops.problem import Problem


class Result:
    """The placeholders of a kernel that turn its sums into results, None for what ``q`` lacks.

    ``residual`` is an input. The others are packed: ``own`` before what the sums may need, ``scales`` after
    it. ``always_bias``: there is always a bias.
    """

    def __init__(
        self, p: Problem, q: Epilogue, result_shape: tuple[int, ...], always_bias: bool = False
    ) -> None:
        channels, one = (p.groups, p.out_group), (1,)

        def array(there: bool, shape: tuple[int, ...], dtype: str, name: str) -> te.Tensor | None:
            return te.placeholder(shape, dtype, name=name) if there else None

        self.q = q
        self.residual = array(q.residual, result_shape, q.out_dtype, "r")
        self.bias = array(q.bias or always_bias, channels, "int32", "b")
        self.multiplier = array(q.scaled, channels, "float32", "scale")
        self.limits = array(q.scaled, (2,), "float32", "limits")
        self.y_zero = array(q.scaled, one, "int32", "y_zero")
        self.y_scale = array(q.real, one, "float32", "y_scale")
        self.r_multiplier = array(q.residual and q.scaled, one, "float32", "r_scale")
        self.r_zero = array(q.residual and q.scaled, one, "int32", "r_zero")

    @property
    def scales(self) -> tuple[te.Tensor | None, ...]:
        return self.multiplier, self.limits, self.y_zero, self.y_scale, self.r_multiplier, self.r_zero

    def of(self, total: tirx.Expr, g, o, place: tuple) -> tirx.Expr:
        """The result from a sum, bias included, of output channel o of group g; ``place`` is its index."""
        r = None if self.residual is None else self.residual(*place).astype("int32")
        if not self.q.scaled:
            return requantise.clamped(total if r is None else total + r, self.q.activation)
        added = None
        if r is not None:
            added = (r - self.r_zero(0)).astype("float32") * self.r_multiplier(0)
        return requantise.requantised(
            total, self.multiplier(g, o), self.limits(0), self.limits(1), self.y_zero(0), added=added,
            activation=self.q.activation, y_scale=self.y_scale(0) if self.q.real else None,
            out_dtype=self.q.out_dtype,
        )  # fmt: skip


def packed_scales(
    p: Problem, q: Epilogue, x_scale: te.Tensor, w_scale: te.Tensor, y_scale: te.Tensor, y_zero: te.Tensor,
    r_scale: te.Tensor | None, r_zero: te.Tensor | None,
) -> list[te.Tensor]:  # fmt: skip
    """``Result.scales``, those that exist, from the user's arrays."""
    one = (1,)

    def multiplier(g, o):
        own = w_scale(p.own_channel(g * p.out_group + o))
        return requantise.multiplier(q.activation, x_scale(0) * own, y_scale(0))

    packed = [
        te.compute((p.groups, p.out_group), multiplier, name="packed_multiplier"),
        requantise.limits(q.activation, q.out_dtype, y_scale, y_zero),
        te.compute(one, lambda i: requantise.shift(y_zero(i)), name="packed_y_zero"),
    ]
    if q.real:
        packed.append(te.compute(one, lambda i: y_scale(i), name="packed_y_scale"))
    if r_scale is not None:
        packed += [
            te.compute(one, lambda i: requantise.multiplier(q.activation, r_scale(i), y_scale(i)),
                       name="packed_r_multiplier"),
            te.compute(one, lambda i: r_zero(i).astype("int32"), name="packed_r_zero"),
        ]  # fmt: skip
    return packed
