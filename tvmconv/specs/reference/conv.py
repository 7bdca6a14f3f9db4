"""The reference for convolutions, of floats or of integers."""

from __future__ import annotations

from typing import Any

from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import Float64, conv_reference
from tvmconv.specs.reference.quantised import quantised_reference


def reference(spec: ConvSpec, **arrays: Any) -> Float64:
    """The result of ``spec`` for its signature's arrays."""
    return quantised_reference(spec, **arrays) if spec.is_integer else conv_reference(spec, **arrays)
