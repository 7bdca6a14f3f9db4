"""One referee for every kind of spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.kinds import Spec
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.reference.conv import conv_reference
from tvmconv.specs.reference.deformable import deform_reference
from tvmconv.specs.reference.pooling import pool_reference
from tvmconv.specs.reference.quantised import quantised_reference


def reference_of(spec: Spec, arrays: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """What ``spec`` makes of ``arrays``, by the names of a function's arguments, in float64."""
    if isinstance(spec, PoolSpec):
        return pool_reference(spec, **arrays)
    if isinstance(spec, DeformSpec):
        return deform_reference(spec, **arrays)
    if spec.dtype in ("int8", "uint8"):
        return quantised_reference(spec, **arrays)
    return conv_reference(spec, **arrays)
