"""The reference for blocks: that of their parts, one after the other, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmconv.base.dtypes import widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.reference import conv
from tvmconv.specs.reference.floats import Float64


def reference(spec: BlockSpec, **arrays: Any) -> Float64:
    """The block that ``spec`` describes, for its signature's arrays: in between, floats are not rounded, and
    8-bit integers are quantised.

    Raises SpecError for arrays of other names or shapes.
    """
    wanted = {operand.name for operand in spec.signature()[:-1]}
    for name in sorted(wanted ^ set(arrays)):
        given = "given" if name in arrays else "missing"
        raise SpecError(f"{name}: {given}, expected as {spec} says")
    y = arrays["x"]
    names = spec.arguments()
    for name, part in spec.parts().items():
        if name == "project" and spec.scale:
            y = y * widened(np.asarray(arrays["scale"])).astype(np.float64)
        y = conv.reference(part, x=y, **{own: arrays[given] for own, given in names[name].items()})
    return y
