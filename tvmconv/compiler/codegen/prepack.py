"""Weights packed while compiling: a kernel's own prepack function, compiled for this machine whatever the
kernel's target is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm

from tvmconv.compiler.codegen.family import family_of
from tvmconv.compiler.codegen.kernel import named
from tvmconv.compiler.lower import lower_cpu
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import native
from tvmconv.specs.pitched import parse_work


def packed_here(kernel: Kernel, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays ``kernel.packed`` by name, for a kernel of 8-bit integers or a deformable one; ``weights``
    are as ``kernel.weights`` says. Raises TargetError on a machine for which nothing can be compiled."""
    spec: Any = parse_work(kernel.descriptor).dense
    func = family_of(spec).prepack(spec, kernel.schedule)
    built = lower_cpu(named({"prepack": func}), llvm_target(native()))
    given = [tvm.runtime.tensor(weights[p.name].reshape(p.kernel_shape or p.shape)) for p in kernel.weights]
    made = [tvm.runtime.empty(p.kernel_shape or p.shape, p.dtype) for p in kernel.packed]
    built["prepack"](*given, *made)
    return {p.name: array.numpy() for p, array in zip(kernel.packed, made, strict=True)}
