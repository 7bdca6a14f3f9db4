"""An algorithm as seen by scheduling and compilation: its definition, and how its weights are packed.

A strategy's plan names one as an object. Those for convolutions of floats are named after modules of this
package; they import no TVM, so that weights can be packed into a library without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.copies import Copy
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, flat, reach_of, split
from tvmconv.formats.kernel import Param
from tvmconv.specs.activations import clamp_of

if TYPE_CHECKING:
    from tvm import te, tirx

    from tvmconv.specs.conv import ConvSpec

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Epilogue:
    """What a convolution's kernel does besides the sums: types, what is added, the activation."""

    weight_dtype: str
    out_dtype: str
    bias: bool = False
    residual: bool = False
    activation: str | None = None

    @staticmethod
    def of(spec: ConvSpec) -> Epilogue:
        """That of ``spec``."""
        return Epilogue(spec.weight_dtype, spec.out_dtype, spec.bias, spec.residual, spec.activation)

    @property
    def scaled(self) -> bool:
        """For 8-bit integers: whether their sums are scaled to ``out_dtype``."""
        return self.out_dtype != "int32"

    @property
    def real(self) -> bool:
        """For 8-bit integers: whether the activation is computed on real numbers, and does more than
        clamp."""
        return self.scaled and clamp_of(self.activation) is None

    @property
    def slopes(self) -> bool:
        """Whether there are PReLU's slopes."""
        return self.activation == "prelu"

    @property
    def channel_arrays(self) -> tuple[str, ...]:
        """Names of the arrays with one value per output channel."""
        return ("bias",) * self.bias + ("slopes",) * self.slopes


class Algorithm:
    """How a kernel computes its problem ``p``, given the ``packing`` of its weights and what it ``does``
    besides (its ``Epilogue``; None for kinds of layers that have none)."""

    def definition(self, p: Any, packing: Any, does: Epilogue | None) -> tirx.PrimFunc:
        """``(inputs..., packed..., output)``, unscheduled."""
        raise NotImplementedError

    def prepack(self, p: Any, packing: Any, does: Epilogue | None) -> tirx.PrimFunc | None:
        """``(weights..., packed...)``, unscheduled; None where there are no weights."""
        return None

    def shapes(self, p: Any, packing: Any) -> Shapes:
        """For the arrays of a call, by name: the shapes in which these functions see them."""
        raise NotImplementedError

    def packed(self, p: Any, packing: Any, does: Epilogue | None) -> tuple[Param, ...]:
        """The arrays in between."""
        return ()

    def facts(self, exact: bool) -> dict[str, Any]:
        """What manifests state about it; ``exact``: whether sums of small integers are exact."""
        return {}


@dataclass(frozen=True)
class LoopNest(Algorithm):
    """No TE, but a loop nest that is written for a plan's point (``codegen.block``)."""

    name: str

    def facts(self, exact: bool) -> dict[str, Any]:
        """See ``Algorithm``."""
        return {"algorithm": self.name, "exact": exact}


class FloatConvolution(Algorithm):
    """What algorithms for convolutions of floats have in common.

    ``combines``: whether it takes fewer products than the definition, of sums of elements, each for several
    results: what does not belong in one cancels there, so that all of a tile err alike."""

    name: str
    combines: bool = False

    def seen(self, p: Problem) -> Problem:
        """The problem that weights and result are shaped for."""
        return p

    def prepack(self, p: Problem, packing: Any, does: Epilogue) -> tirx.PrimFunc:
        """See ``conv.prepack_func``."""
        from tvmconv.compiler.ops import conv

        return conv.prepack_func(self.seen(p), packing, channel_arrays=does.channel_arrays)

    def shapes(self, p: Problem, packing: Any) -> Shapes:
        """See ``Algorithm``."""
        done, channels = self.seen(p), (p.groups, p.out_group)
        result = done.result_shape
        return {"x": p.x_shape(), "w": done.given_weight_shape, "bias": channels, "slopes": channels,
                "residual": result, "y": result}  # fmt: skip

    def packed(self, p: Problem, packing: Any, does: Epilogue) -> tuple[Param, ...]:
        """See ``Algorithm``."""
        done, channels = self.seen(p), (p.groups, p.out_group)
        flat_shape = (p.groups * p.out_group,)
        return (
            Param("packed_w", packing.shape(done), packing.dtype(done)),
            *(Param(f"packed_{name}", flat_shape, p.acc_dtype, "", channels) for name in does.channel_arrays),
        )

    def facts(self, exact: bool) -> dict[str, Any]:
        """See ``Algorithm``."""
        combines = {"combines": True} if self.combines else {}
        return {"algorithm": self.name, "exact": exact, **combines}


@dataclass(frozen=True)
class Sums(FloatConvolution):
    """An algorithm, given by how it makes the stage ``conv`` from x and weights: ``sums(p, packing, x, w)``,
    x a ``conv.Padded``.

    ``packing``: the class of its packings. ``flat``: the result's pixels are in one dimension, and so are the
    kernel's taps. If ``conv`` isn't shaped as the result: its ``shape``, the ``place`` of its elements in the
    result as ``(n, g, o, spatial)`` with conditions, and the ``reach`` of each dimension into x; each a
    function of (p, packing). ``copy``: how it has a copy of x lie.
    """

    name: str
    sums: Callable[[Problem, Any, Any, te.Tensor], Any]
    packing: type = Packing
    flat: bool = False
    shape: Callable[[Problem, Any], tuple[int, ...]] | None = None
    place: Callable[[Problem, Any, Sequence], tuple[tuple, list]] | None = None
    reach: Callable[[Problem, Any], tuple[int, ...]] | None = None
    copy: type[Copy] = Copy
    combines: bool = False

    def seen(self, p: Problem) -> Problem:
        """The problem that weights and result are shaped for."""
        return flat(p) if self.flat else p

    def sums_shape(self, p: Problem, packing: Any) -> tuple[int, ...]:
        """Of the result as it is computed."""
        return self.seen(p).y_shape if self.shape is None else self.shape(p, packing)

    def placed(self, p: Problem, packing: Any, at: Sequence) -> tuple[tuple, list]:
        """(n, g, o, spatial) of an element of that shape, and when there is such an output."""
        return (split(self.seen(p), tuple(at)), []) if self.place is None else self.place(p, packing, at)

    def reaches(self, p: Problem, packing: Any) -> tuple[int, ...]:
        """Positions of each padded dimension that are read."""
        if self.reach is not None:
            return self.reach(p, packing)
        return tuple(reach_of(p, d) for d in range(len(p.spatial)))

    def definition(self, p: Problem, packing: Any, does: Epilogue) -> tirx.PrimFunc:
        """See ``conv.kernel_func``."""
        from tvmconv.compiler.ops import conv

        return conv.kernel_func(self, p, packing, does)


def named(name: str) -> Sums:
    """The algorithm that a manifest names."""
    return importlib.import_module(f"{__package__}.{name}").ALGORITHM
