"""Which specs can be compiled. Imports no TVM, so that a refusal is quick."""

from __future__ import annotations

import math

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.descriptor import clamp_of
from tvmconv.specs.kinds import Spec


def check_supported(spec: Spec) -> None:
    """Raises SpecError for a well-formed spec that no kernel can be made for yet."""
    if not isinstance(spec, ConvSpec):
        return  # the other kinds know the dtypes that they have
    if spec.dtype not in FLOATS:
        if spec.out_dtype in FLOATS:
            raise SpecError(f"out_dtype: {spec.out_dtype!r} in {spec}, expected int32, int8 or uint8")
        _check_integer_epilogue(spec)
        return
    if spec.out_dtype not in FLOATS:
        raise SpecError(f"out_dtype: {spec.out_dtype!r} in {spec}, expected a float type as dtype is")


def _check_integer_epilogue(spec: ConvSpec) -> None:
    if spec.slopes:
        raise SpecError(f"activation: 'prelu' in {spec}, expected one without slopes with integers")
    if spec.activation and spec.out_dtype == "int32":
        bounds = clamp_of(spec.activation)
        if bounds is None or any(math.isfinite(b) and not b.is_integer() for b in bounds):
            what = "relu, relu6 or a clip to integers where the result is int32"
            raise SpecError(f"activation: {spec.activation!r} in {spec}, expected {what}")
