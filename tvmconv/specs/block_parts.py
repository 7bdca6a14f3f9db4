"""Whether convolutions are the parts of a block."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from tvmconv.base.errors import SpecError
from tvmconv.specs.conv import ConvSpec


def check_chain(parts: Sequence[tuple[str, ConvSpec]], dtypes: Collection[str]) -> None:
    """Raises SpecError unless these, "expand", "depthwise" and "project", are what their names say, of one of
    ``dtypes``, and each reads what the one before makes; the message names the part."""
    for name, part in parts:
        if name == "depthwise":
            _check_part(name, part, part.groups == part.in_channels == part.out_channels, dtypes)
        else:
            _check_part(name, part, part.kind == "pointwise" and set(part.stride) == {1}, dtypes)
    for (first, before), (name, part) in pairwise(parts):
        if part.input_shape != before.output_shape or part.dtype != before.dtype:
            made = f"{before.output_shape} {before.dtype}"
            raise SpecError(f"{name}: an input {part.input_shape} {part.dtype}, expected {made}")
        if part.weight_dtype != before.weight_dtype:
            raise SpecError(f"{name}: weights of {part.weight_dtype}, expected {before.weight_dtype}")
        if before.residual:
            raise SpecError(f"{first}: a residual in {before}, expected one of project alone")


def _check_part(name: str, part: ConvSpec, fits: bool, dtypes: Collection[str]) -> None:
    """Raises SpecError unless ``part`` is of the kind that it should be, in two dimensions."""
    kind = "depthwise, one channel each" if name == "depthwise" else "pointwise, stride 1"
    padded = name != "depthwise" and any(map(any, part.padding))
    if not fits or part.transposed or padded or part.rank != 2 or part.layout != "NHWC":
        raise SpecError(f"{name}: {part}, expected a 2-D convolution of NHWC, {kind}")
    if part.dtype not in dtypes or part.out_dtype != part.dtype:
        raise SpecError(f"{name}: {part}, expected one of {', '.join(dtypes)} throughout")
    if part.shuffle != 1 or part.padding_mode != "zeros" or part.algorithm is not None:
        raise SpecError(f"{name}: {part}, expected no shuffle, no algorithm, and zeros as its padding")
