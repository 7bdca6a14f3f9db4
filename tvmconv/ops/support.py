"""Which specs can be compiled. Imports no TVM, so that a refusal is quick."""

from __future__ import annotations

from tvmconv.dtypes import FLOATS
from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec
from tvmconv.specs import Spec


def check_supported(spec: Spec) -> None:
    """Raises SpecError for a well-formed spec that no kernel can be made for yet."""
    if not isinstance(spec, ConvSpec):
        return  # the other kinds know the dtypes that they have
    if spec.dtype not in FLOATS:
        if spec.transposed:
            raise SpecError(f"dtype: {spec.dtype!r} in {spec}, expected a float type if transposed")
        if spec.out_dtype in FLOATS:
            raise SpecError(f"out_dtype: {spec.out_dtype!r} in {spec}, expected int32, int8 or uint8")
        if spec.activation or spec.residual:
            what = "residual" if spec.residual else "activation"
            raise SpecError(f"{what}: {getattr(spec, what)!r} in {spec}, expected none with integers")
        return
    if spec.out_dtype not in FLOATS:
        raise SpecError(f"out_dtype: {spec.out_dtype!r} in {spec}, expected a float type as dtype is")
