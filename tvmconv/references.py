"""One referee for every kind of spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.deform_spec import DeformSpec
from tvmconv.pool_spec import PoolSpec
from tvmconv.reference import conv_reference
from tvmconv.reference_deform import deform_reference
from tvmconv.reference_pool import pool_reference
from tvmconv.reference_quantised import quantised_reference
from tvmconv.specs import Spec


def reference_of(spec: Spec, arrays: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """What ``spec`` makes of ``arrays``, by the names of a function's arguments, in float64."""
    if isinstance(spec, PoolSpec):
        return pool_reference(spec, **arrays)
    if isinstance(spec, DeformSpec):
        return deform_reference(spec, **arrays)
    if spec.dtype in ("int8", "uint8"):
        return quantised_reference(spec, **arrays)
    return conv_reference(spec, **arrays)
