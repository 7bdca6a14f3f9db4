"""The workload of a record: a spec's definition, unscheduled, the same for every machine."""

from __future__ import annotations

import base64
import json
import struct

import tvm
from tvm import tirx
from tvm.s_tir import meta_schedule as ms

from tvmconv.compiler.codegen import quantised, traced
from tvmconv.compiler.ops import conv, deform, integer, transposed
from tvmconv.compiler.ops import pooling as pool
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.compiler.ops.transposed_problem import TransposedPacking, transposed_problem_of
from tvmconv.formats.logs.traces import SPEC
from tvmconv.specs.conv import ConvSpec, without_borders
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.kinds import Spec
from tvmconv.specs.pooling import PoolSpec


def module_of(spec: Spec) -> tvm.IRModule:
    """``main``, the kernel of ``spec`` as TE defines it, with weights packed one channel to a block."""
    named = {"global_symbol": "main", SPEC: str(spec)}
    return tvm.IRModule({"main": _function(spec).with_attr(named)})


def _function(spec: Spec) -> tirx.PrimFunc:
    if isinstance(spec, PoolSpec):
        return pool.windows_func(pool.problem_of(spec))
    if isinstance(spec, DeformSpec):
        return deform.kernel_func(deform.DeformProblem(spec, 1, 1))
    return _convolution(spec)


def _convolution(spec: ConvSpec) -> tirx.PrimFunc:
    spec = without_borders(spec)
    if spec.dtype in ("int8", "uint8"):
        p, does = quantised.integer_problem_of(spec), quantised.quantised_of(spec)
        if spec.transposed:
            return integer.transposed_func(p, TransposedPacking(1), None, does, planes=False)
        return integer.kernel_func(p, Packing(1), None, does)
    extras = {"bias": spec.bias, "residual": spec.residual, "activation": spec.activation,
              "out_dtype": spec.out_dtype}
    if spec.transposed:
        p = transposed_problem_of(spec)
        return transposed.kernel_func(p, TransposedPacking(1), **extras, planes=False)
    return conv.kernel_func(problem_of(spec), Packing(1), **extras)


def workload_of(spec: Spec, meta: bool) -> list[str]:
    """The workload of ``spec``'s records, of meta_schedule's own space or of the strategies', as the log has
    it."""
    func = traced.function(spec).with_attr("global_symbol", "main") if meta else None
    module = module_of(spec) if func is None else tvm.IRModule({"main": func})
    return workload_json(ms.database.MemoryDatabase().commit_workload(module))


def workload_json(workload: ms.database.Workload) -> list[str]:
    """A workload as meta_schedule's log has it, without the white space that would be half of it."""
    shash, encoded = workload.as_json()
    raw = base64.b64decode(encoded)
    text = json.dumps(json.loads(raw[8:]), separators=(",", ":")).encode()  # after the length
    return [str(shash), base64.b64encode(struct.pack("<Q", len(text)) + text).decode()]
