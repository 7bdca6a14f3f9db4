"""What kernels take and return: their specs' signatures, in the shapes that the compiled code sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
