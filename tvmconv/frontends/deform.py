"""One call: deformable convolution."""

from __future__ import annotations

from typing import Any

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import SpecError
from tvmconv.frontends.api import _shape, function
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.window import Ints, Padding


def deform_conv(
    x: Any,
    w: Any,
    offset: Any,
    mask: Any = None,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    offset_groups: int = 1,
    target: str = "native",
) -> Any:
    """Deformable convolution v1, or v2 with ``mask``: ONNX's DeformConv, torchvision's deform_conv2d.

    ``x``: (N, C, H, W) float32, NumPy or any CPU DLPack array; the result is of the same kind. ``w``:
    (out, in/groups, kh, kw). ``offset``: (N, offset_groups*kh*kw*2, OH, OW), vertical before horizontal.
    ``mask``: (N, offset_groups*kh*kw, OH, OW). ``bias``: (out,). The rest as in DeformSpec.
    Raises SpecError for arguments that do not fit, TargetError where the kernel is neither cached nor can be
    compiled.
    """
    spec = spec_of(x, w, mask, bias, stride=stride, padding=padding, dilation=dilation, groups=groups,
                   offset_groups=offset_groups)
    inputs = [offset] if mask is None else [offset, mask]
    return function(spec, target)(x, w, bias, *inputs)


def spec_of(x: Any, w: Any, mask: Any, bias: Any, *, groups: int, **options: Any) -> DeformSpec:
    """The DeformSpec of a call with these arrays. Raises SpecError."""
    x_shape, w_shape = _shape("x", x), _shape("w", w)
    if len(w_shape) != 4:
        raise SpecError(f"w: shape {w_shape}, expected 4 dims: deformable convolution is 2-D only")
    spec = DeformSpec(x_shape, w_shape[0], w_shape[2:], groups=groups, mask=mask is not None,
                      bias=bias is not None, dtype=name_of(x), **options)
    if w_shape != spec.weight_shape:
        channels = f"x has {spec.in_channels} channels in {spec.groups} group{'s' if spec.groups > 1 else ''}"
        raise SpecError(f"w: shape {w_shape}, expected {spec.weight_shape}: {channels}")
    return spec
