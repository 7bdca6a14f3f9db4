"""The arrays of a block's kernel."""

from __future__ import annotations

from collections.abc import Sequence

from tvmconv.compiler.codegen.nest import Array, image, parameter
from tvmconv.formats.kernel import Param
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.operators.base import Type


def block_arrays(spec: BlockSpec, packed: Sequence[Param]) -> dict[str, Array]:
    """Those of the kernel's parameters, by name and in order: inputs, packed weights, y; of at least one
    image."""
    batch = max(spec.batch, 1)
    types = {o.name: Type((batch, *o.shape[1:]), o.dtype) for o in (*spec.inputs, spec.output)}
    types |= {param.name: Type(param.shape, param.dtype) for param in packed}
    order = [*(o.name for o in spec.inputs), *(param.name for param in packed), "y"]
    arrays = {name: parameter(name, types[name]) for name in order}
    for name in ("residual", "y") if spec.is_integer else ("x", "residual", "y"):
        if name in types:
            arrays[name] = image(name, types[name].shape, types[name].dtype)
    return arrays
