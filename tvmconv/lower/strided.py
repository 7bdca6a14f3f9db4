"""Strided vector loads as contiguous ones: every s-th element of a stretch is picked out of it in registers.

LLVM would load such a vector element by element. The stretch ends with the last element wanted, so nothing is
read that the program did not read before.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.lower.rewrite import func_pass

_LARGEST_STRIDE = 4  # further apart, most of the stretch would be loaded for nothing


def _contiguous(load: tvm.ir.TensorLoad) -> tvm.ir.TensorLoad | tirx.Shuffle:
    if len(load.indices) != 1 or not isinstance(load.indices[0], tirx.Ramp):
        return load
    ramp = load.indices[0]
    stride, lanes = ramp.stride, int(ramp.lanes)
    if not (isinstance(stride, tirx.IntImm) and 2 <= stride.value <= _LARGEST_STRIDE):
        return load
    stretch = (lanes - 1) * stride.value + 1
    whole = tirx.BufferLoad(load.source, [tirx.Ramp(ramp.base, 1, stretch)])
    return tirx.Shuffle([whole], [tirx.const(lane * stride.value, "int32") for lane in range(lanes)])


ShuffleStrided = func_pass(
    "tvmconv.ShuffleStrided",
    lambda body: tvm_ffi.structural_map(body, [(tvm.ir.TensorLoad, _contiguous)]),
)
