"""What kernels take and return: their specs' signatures, in the shapes that the compiled code sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tvm_ffi
from tvm import tirx

from tvmconv.formats.kernel import Param
from tvmconv.specs.kinds import Spec
from tvmconv.specs.operand import ROLES


class Params(NamedTuple):
    """The arrays of a signature as a kernel has them."""

    inputs: tuple[Param, ...]
    weights: tuple[Param, ...]
    output: Param


def params(spec: Spec, kernel_shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """The arrays of ``spec``'s signature; ``kernel_shapes``: by name, if the kernel sees another shape."""
    found: dict[str, list[Param]] = {role: [] for role in ROLES}
    for o in spec.signature():
        found[o.role].append(Param(o.name, o.shape, o.dtype, o.layout, kernel_shapes.get(o.name)))
    (output,) = found["output"]
    return Params(tuple(found["input"]), tuple(found["weight"]), output)


def with_params(func: tirx.PrimFunc, fresh: Sequence[tirx.Var]) -> tirx.PrimFunc:
    """``func`` over other buffers in the place of its parameters."""

    def swap(var: tirx.Var) -> tirx.Var:
        return next((new for old, new in zip(func.params, fresh, strict=True) if old.same_as(var)), var)

    return tvm_ffi.structural_map(func, [(tirx.Var, swap)])
