"""Weights packed while compiling, for a library to hold: what a function's own prepack would make."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvmconv.artifact.kernel import Kernel, Param
from tvmconv.dtypes import name_of, widened
from tvmconv.errors import SpecError
from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import problem_of
from tvmconv.ops.transposed_problem import TransposedPacking, transposed_problem_of
from tvmconv.ops.winograd import WinogradPacking
from tvmconv.spec import ConvSpec


def packed_weights(kernel: Kernel, weights: Mapping[str, np.ndarray]) -> bytes:
    """The packed blob of ``kernel`` for ``weights``: "w" and, where it has them, "bias" and "slopes".

    For any target, on any machine. Raises SpecError for arrays that do not fit.
    """
    for param in kernel.weights:
        _check(param, weights.get(param.name))
    spec = ConvSpec.parse(kernel.descriptor)
    if spec.transposed:
        kind, problem = TransposedPacking, transposed_problem_of(spec)
    else:
        kind = WinogradPacking if kernel.schedule["algorithm"] == "winograd" else Packing
        problem = problem_of(spec)
    w = kind(**kernel.schedule["packing"]).pack_array(problem, weights["w"])
    order = problem.own_channel(np.arange(spec.out_channels))
    parts = {"packed_w": w}
    parts |= {f"packed_{name}": weights[name][order] for name in ("bias", "slopes") if name in weights}
    blob = bytearray(kernel.packed_bytes)
    for param, offset in zip(kernel.packed, kernel.packed_offsets(), strict=True):
        array = parts.get(param.name)
        if array is None or array.size != param.elements:
            raise SpecError(f"{param.name} of {kernel.descriptor}: expected {param.elements} elements")
        # Every machine of the table is little-endian.
        little = np.ascontiguousarray(widened(array), np.dtype(param.dtype).newbyteorder("<"))
        blob[offset : offset + param.nbytes] = little.tobytes()
    return bytes(blob)


def _check(param: Param, array: np.ndarray | None) -> None:
    if array is None:
        raise SpecError(f"{param.name}: None, expected an array of shape {param.shape}")
    if array.shape != param.shape or name_of(array) != param.dtype:
        found = f"{name_of(array)} {array.shape}"
        raise SpecError(f"{param.name}: {found}, expected {param.dtype} {param.shape}")
