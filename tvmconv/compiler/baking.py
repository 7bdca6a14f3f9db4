"""Weights packed while compiling, for a library to hold: what a function's own prepack would make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.base.dtypes import name_of, widened
from tvmconv.base.errors import SpecError
from tvmconv.compiler.ops import algorithm
from tvmconv.compiler.ops.block_packing import BlockPacking
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.compiler.ops.transposed_problem import (
    TRANSPOSED,
    TransposedPacking,
    flipped_problem_of,
    ordinary_array,
    transposed_problem_of,
)
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.formats.program import Program
from tvmconv.runtime import quantisation
from tvmconv.runtime.arrays import Argument
from tvmconv.specs.pitched import parse_work


def packed_weights(kernel: Kernel | Program, weights: Mapping[str, Any]) -> bytes:
    """The packed blob of ``kernel`` for ``weights``: what ``bind`` takes, as NumPy arrays by name.

    For any target, on any machine. Raises SpecError for arrays that do not fit, and for a program, whose
    weights are among its constants.
    """
    if not isinstance(kernel, Kernel):
        raise SpecError(f"{kernel.descriptor}: {len(kernel.steps)} steps, expected a kernel alone")
    given = {param.name: _fitting(param, weights.get(param.name)) for param in kernel.weights}
    spec: Any = parse_work(kernel.descriptor).dense
    if spec.family == "conv" and not spec.is_integer:
        parts = _packed_floats(kernel, spec, given)
    elif spec.family == "block" and not spec.is_integer:
        parts = BlockPacking(**kernel.schedule["packing"]).pack_arrays(spec, given)
    else:
        from tvmconv.compiler.codegen.prepack import packed_here

        parts = packed_here(kernel, given)
    blob = bytearray(kernel.packed_bytes)
    for param, offset in zip(kernel.packed, kernel.packed_offsets(), strict=True):
        # Every machine of the table is little-endian.
        little = np.ascontiguousarray(widened(parts[param.name]), np.dtype(param.dtype).newbyteorder("<"))
        if little.nbytes != param.nbytes:
            raise SpecError(f"{param.name} of {kernel.descriptor}: expected {param.elements} elements")
        blob[offset : offset + param.nbytes] = little.tobytes()
    return bytes(blob)


def _packed_floats(
    kernel: Kernel, spec: Any, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What is packed, by name, of a convolution of floats: in NumPy, which compiles nothing."""
    w, kind = weights["w"], algorithm.named(kernel.schedule["algorithm"]).packing
    if not spec.transposed:
        problem = problem_of(spec)
    elif kernel.schedule["strategy"].startswith(TRANSPOSED):
        kind, problem = TransposedPacking, transposed_problem_of(spec)
    else:
        problem = flipped_problem_of(spec)
        w = ordinary_array(problem, w)
    w = kind(**kernel.schedule["packing"]).pack_array(problem, w)
    order = problem.own_channel(np.arange(spec.out_channels))
    return {"packed_w": w, **{f"packed_{name}": a[order] for name, a in weights.items() if name != "w"}}


def _fitting(param: Param, array: Any) -> np.ndarray:
    if quantisation.is_quantisation(param.name):
        want = Argument(param.name, param.shape, param.dtype, param.layout, "weight")
        return quantisation.read(want, array)
    if array is None:
        raise SpecError(f"{param.name}: None, expected an array of shape {param.shape}")
    if array.shape != param.shape or name_of(array) != param.dtype:
        found = f"{name_of(array)} {array.shape}"
        raise SpecError(f"{param.name}: {found}, expected {param.dtype} {param.shape}")
    return array
