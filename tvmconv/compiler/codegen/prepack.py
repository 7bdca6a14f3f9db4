"""Weights packed while compiling: a kernel's own prepack function, compiled for this machine whatever the
kernel's target is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import tirx

from tvmconv.compiler.codegen import quantised
from tvmconv.compiler.codegen.kernel import named
from tvmconv.compiler.lower import lower_cpu
from tvmconv.compiler.ops import deform, integer
from tvmconv.compiler.ops.packing import Packing
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.dots import DOTS
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.kinds import parse_spec


def packed_here(kernel: Kernel, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays ``kernel.packed`` by name, for a kernel of 8-bit integers or a deformable one; ``weights``
    are as ``kernel.weights`` says. Raises TargetError on a machine that nothing can be compiled for."""
    built = lower_cpu(named({"prepack": _prepack_of(kernel)}), llvm_target(resolve("native")))
    given = [tvm.runtime.tensor(weights[p.name].reshape(p.kernel_shape or p.shape)) for p in kernel.weights]
    made = [tvm.runtime.empty(p.kernel_shape or p.shape, p.dtype) for p in kernel.packed]
    built["prepack"](*given, *made)
    return {p.name: array.numpy() for p, array in zip(kernel.packed, made, strict=True)}


def _prepack_of(kernel: Kernel) -> tirx.PrimFunc:
    spec, facts = parse_spec(kernel.descriptor), kernel.schedule
    if isinstance(spec, DeformSpec):
        return deform.prepack_func(deform.DeformProblem(spec, 1, **facts["packing"]))
    dot = None if facts["dot"] is None else DOTS[facts["dot"]]
    p, q = quantised.integer_problem_of(spec), quantised.quantised_of(spec)
    return integer.prepack_func(p, Packing(**facts["packing"]), dot, q)
