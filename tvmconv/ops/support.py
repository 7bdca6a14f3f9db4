"""Which specs can be compiled. Imports no TVM, so that a refusal is quick."""

from __future__ import annotations

from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec
from tvmconv.specs import Spec


def check_supported(spec: Spec) -> None:
    """Raises SpecError for a well-formed spec that no kernel can be made for yet."""
    if not isinstance(spec, ConvSpec):
        return  # the other kinds know the dtypes that they have
    if (spec.dtype, spec.out_dtype) != ("float32", "float32"):
        dtypes = spec.dtype if spec.dtype == spec.out_dtype else f"{spec.dtype}/{spec.out_dtype}"
        raise SpecError(f"dtype: {dtypes!r} in {spec}, expected 'float32': others cannot be compiled yet")
