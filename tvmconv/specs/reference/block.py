"""The reference for blocks: that of their parts, one after the other, in float64."""

from __future__ import annotations

from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.reference.floats import Float64, conv_reference

_PREFIX = {"expand": "expand_", "depthwise": "", "project": "project_"}


def reference(spec: BlockSpec, **arrays: Any) -> Float64:
    """The block that ``spec`` describes, for its signature's arrays: nothing is rounded in between.

    Raises SpecError for arrays of other names or shapes.
    """
    wanted = {operand.name for operand in spec.signature()[:-1]}
    for name in sorted(wanted ^ set(arrays)):
        given = "given" if name in arrays else "missing"
        raise SpecError(f"{name}: {given}, expected as {spec} says")
    y = arrays["x"]
    for name, part in spec.parts().items():
        prefix = _PREFIX[name]
        y = conv_reference(part, y, arrays[f"{prefix}w"], arrays.get(f"{prefix}bias"),
                           arrays["residual"] if part.residual else None)  # fmt: skip
    return y
