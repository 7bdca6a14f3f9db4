"""The arithmetic of convolutions for people: sizes, padding, receptive fields, costs. Pure integers, no TVM.

Letters as in Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016): size i, kernel
k, stride s, padding p on each side, output o; dilation d spreads a kernel over k + (k-1)(d-1) elements.
Receptive fields as in Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks"
(2019). Sizes are of one spatial dim; a spec's dims are independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import shown
from tvmconv.specs.checks import read_integer, read_items
from tvmconv.specs.shorthand import depthwise, pointwise
from tvmconv.specs.spec import Spec

Pair = int | tuple[int, int]
"""A padding: as many elements on both sides, or (low, high)."""


def output_size(size: int, kernel: int, *, stride: int = 1, padding: Pair | str = 0, dilation: int = 1,
                ceil_mode: bool = False) -> int:
    """o = floor((i + lo + hi - d(k-1) - 1) / s) + 1: results of a window that slides over ``size`` elements.

    ``padding``: an int p for lo = hi = p, (lo, hi), "SAME", "VALID" or "FULL". ``ceil_mode``: a pooling's,
    round up, unless the last window would begin beyond the image and its low padding.

    ``output_size(224, 7, stride=2, padding=3)`` = floor(223/2) + 1 = 112. Raises SpecError.
    """
    reach = _extent(kernel, dilation) - 1
    read_integer("size", size, 1)
    read_integer("stride", stride, 1)
    lo, hi = _resolve(padding, size, kernel, stride, dilation)
    room = size + lo + hi - reach - 1
    if room < 0:
        raise SpecError(f"kernel: {kernel} spread over {reach + 1} elements, expected at most the padded "
                        f"input's {size + lo + hi}")
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + lo else out


def padding_needed(size: int, out: int, kernel: int, *, stride: int = 1,
                   dilation: int = 1) -> tuple[int, int]:
    """(lo, hi): the least padding with which ``size`` elements give ``out`` results, odd element high.

    lo + hi = max(0, (o-1)s + d(k-1) + 1 - i). ``padding_needed(224, 112, 3, stride=2)`` = (0, 1), since
    111*2 + 3 - 224 = 1. Raises SpecError where no padding is already too much.
    """
    extent = _extent(kernel, dilation)
    total = max((read_integer("out", out, 1) - 1) * read_integer("stride", stride, 1) + extent
                - read_integer("size", size, 1), 0)
    unpadded = (size - extent) // stride + 1
    if unpadded > out:
        raise SpecError(f"out: {out}, expected at least {unpadded}, which is without any padding")
    return total // 2, total - total // 2


def same_padding(size: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """(lo, hi) of TensorFlow's SAME: what ceil(i/s) results need, the odd element on the high side.

    ``same_padding(224, 7, stride=2)`` = (2, 3), where torch's models have 3 on both sides;
    ``same_padding(5, 1, stride=2)`` = (0, 0). Raises SpecError.
    """
    wanted = -(-read_integer("size", size, 1) // read_integer("stride", stride, 1))
    total = max((wanted - 1) * stride + _extent(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def transposed_size(size: int, kernel: int, *, stride: int = 1, padding: Pair = 0, dilation: int = 1,
                    output_padding: int = 0) -> int:
    """o' = s(i'-1) + a + k - 2p, k spread by the dilation, a the output padding: a transposed convolution.

    It turns the o of a convolution back into its i, where a = (i + 2p - k) mod s, what the division lost.
    ``transposed_size(112, 3, stride=2, padding=1, output_padding=1)`` = 222 + 1 + 3 - 2 = 224.
    Raises SpecError.
    """
    lo, hi = _pair(padding)
    stride, extra = read_integer("stride", stride, 1), read_integer("output_padding", output_padding, 0)
    extent = _extent(kernel, dilation)
    if extra and extra >= max(stride, dilation):
        raise SpecError(f"output_padding: {extra}, expected less than the larger of stride {stride} and "
                        f"dilation {dilation}")
    out = stride * (read_integer("size", size, 1) - 1) + extra + extent - lo - hi
    if out < 1:
        raise SpecError(f"padding: {shown(padding)}, expected to leave something of {out + lo + hi} elements")
    return out


def input_size_for(out: int, kernel: int, *, stride: int = 1, padding: Pair = 0,
                   dilation: int = 1) -> tuple[int, int]:
    """(least, most): the input sizes that give ``out`` results; there are s of them unless some are below 1.

    i = s(o-1) + d(k-1) + 1 - lo - hi is the least, i + s - 1 the most.
    ``input_size_for(112, 7, stride=2, padding=3)`` = (223, 224). Raises SpecError where none does.
    """
    lo, hi = _pair(padding)
    stride = read_integer("stride", stride, 1)
    least = stride * (read_integer("out", out, 1) - 1) + _extent(kernel, dilation) - lo - hi
    if least + stride - 1 < 1:
        raise SpecError(f"out: {out}, expected more: one element with padding {shown(padding)} gives "
                        f"{output_size(1, kernel, stride=stride, padding=padding, dilation=dilation)}")
    return max(least, 1), least + stride - 1


@dataclass(frozen=True)
class Window:
    """One layer in one dim, as needed for the receptive field: ``kernel``, ``stride`` and ``dilation``, the
    ``padding`` of the low side, and whether it is ``transposed``."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class Field:
    """What the results of a stack see of its input, in one dim.

    ``size``: elements from the first to the last that a result sees (the maximum over results; dilation
    leaves holes). ``jump``: elements between the centres of neighbouring fields. ``start``: the centre of the
    first result's field; the first element of the input is at 0, so it is negative if the centre is in the
    padding.
    """

    size: int
    jump: Fraction
    start: Fraction


def field_of(windows: Sequence[Window]) -> Field:
    """The receptive field of a stack in one dim.

    Without transposed layers: size = 1 + sum of d(k-1) * (product of the strides before), jump = product of
    the strides, start = sum of (d(k-1)/2 - p) * (product of the strides before). Two 3-wide layers see 5
    elements as one 5-wide does; with stride 2 in the first, 7. A transposed layer divides the jump by its
    stride; its size is found by tracing back from every phase of the results.
    """
    jump, start, size = Fraction(1), Fraction(0), Fraction(1)
    for window in windows:
        reach = window.dilation * (window.kernel - 1)
        if window.transposed:
            jump /= window.stride
            start += jump * (window.padding - Fraction(reach, 2))
        else:
            size += reach * jump
            start += jump * (Fraction(reach, 2) - window.padding)
            jump *= window.stride
    if not any(window.transposed for window in windows):
        return Field(int(size), jump, start)
    phases = min(math.prod(window.stride for window in windows if window.transposed), 1 << 12)
    spans = [seen_by(windows, result) for result in range(phases)]
    return Field(max(last - first + 1 for first, last in spans), jump, start)


def seen_by(windows: Sequence[Window], result: int) -> tuple[int, int]:
    """(first, last) element of a stack's input that the result at index ``result`` sees, in one dim.

    Outside the input where the padding is seen; last < first if a transposed layer's result sees nothing.
    What a dilated transposed layer sees may begin later and end sooner than this.
    """
    first = last = result
    for window in reversed(windows):
        reach = window.dilation * (window.kernel - 1)
        if window.transposed:
            first = -((reach - first - window.padding) // window.stride)
            last = (last + window.padding) // window.stride
        else:
            first = first * window.stride - window.padding
            last = last * window.stride - window.padding + reach
    return first, last


def windows_of(layers: Sequence[Spec], dim: int) -> list[Window]:
    """The windows of specs in spatial dim ``dim``."""
    return [
        Window(layer.kernel[dim], layer.stride[dim], layer.padding[dim][0], layer.dilation[dim],
               layer.transposed)
        for layer in layers
    ]  # fmt: skip


def receptive_field(layers: Sequence[Spec]) -> tuple[Field, ...]:
    """The receptive field of a stack of specs of any kind, one Field per spatial dim.

    Deformable convolutions count with offsets of 0. Raises SpecError for an empty stack or one whose shapes
    do not fit together.
    """
    check_chain(layers)
    return tuple(field_of(windows_of(layers, dim)) for dim in range(layers[0].rank))


def check_chain(layers: Sequence[Spec], names: Sequence[str] = ()) -> None:
    """SpecError unless each layer takes the previous one's result; ``names`` are used in messages."""
    if not layers:
        raise SpecError("layers: none, expected at least one")
    called = names or [f"layer {number}" for number in range(1, len(layers) + 1)]
    for (before, previous), (name, layer) in pairwise(zip(called, layers, strict=True)):
        for what, value, wanted in (
            ("layout", layer.layout, previous.layout),
            ("input_shape", layer.input_shape, previous.output_shape),
            ("dtype", layer.dtype, previous.out_dtype),
        ):
            if value != wanted:
                raise SpecError(f"{name}: {what} {_text(value)}, expected {_text(wanted)} as {before} gives")


def parameters(*layers: Spec) -> int:
    """Learnt numbers of a layer or a stack: weights, bias, PReLU's slopes; none in a pooling.

    K*K*M*N (+ N with a bias) for M channels to N: 3*3*3*64 + 64 = 1792 in VGG's first layer.
    """
    return sum(layer.parameters for layer in layers)


def multiply_adds(*layers: Spec) -> int:
    """Multiply-adds of a layer or a stack, those on padding included; none in a pooling.

    K*K*M*N a result: 112*112 * 3*3*3*32 = 10838016 in MobileNet's first layer.
    """
    return sum(layer.macs for layer in layers)


@dataclass(frozen=True)
class Saving:
    """A dense convolution compared with depthwise then pointwise.

    Multiply-adds: ``dense_macs``, ``depthwise_macs`` and ``pointwise_macs``. Weights: ``dense_weights``, and
    ``separable_weights`` of the other two together. ``ratio``: separable over dense, which is 1/N + 1/K^2 for
    both counts."""

    dense_macs: int
    depthwise_macs: int
    pointwise_macs: int
    dense_weights: int
    separable_weights: int
    ratio: Fraction


def separable_saving(spec: Spec) -> Saving:
    """What a dense convolution costs, and the depthwise + pointwise pair of the same shapes.

    The ratio is 1/N + 1/K^2 exactly for N output channels and K^2 taps (any number of dims). With 64 channels
    and 3x3: 1/64 + 1/9 = 0.127, 7.9 times fewer. Raises SpecError for groups or transposed.
    """
    if spec.kind not in ("dense", "pointwise") or spec.transposed:
        raise SpecError(f"spec: {spec}, expected a convolution of one group, not transposed")
    first = depthwise(spec.input_shape, spec.kernel, stride=spec.stride, padding=spec.padding,
                      dilation=spec.dilation, layout=spec.layout, dtype=spec.dtype)  # fmt: skip
    second = pointwise(first.output_shape, spec.out_channels, layout=spec.layout, dtype=spec.dtype)

    def weights(layer: Spec) -> int:
        return layer.weights[0].elements

    return Saving(
        spec.macs, first.macs, second.macs, weights(spec), weights(first) + weights(second),
        Fraction(1, spec.out_channels) + Fraction(1, math.prod(spec.kernel)),
    )  # fmt: skip


def _extent(kernel: int, dilation: int) -> int:
    return read_integer("dilation", dilation, 1) * (read_integer("kernel", kernel, 1) - 1) + 1


def _pair(padding: Any) -> tuple[int, int]:
    items = read_items(padding)
    pair = (padding, padding) if items is None else items
    if len(pair) != 2:
        raise SpecError(f"padding: {shown(padding)}, expected an integer or (lo, hi)")
    return read_integer("padding", pair[0], 0), read_integer("padding", pair[1], 0)


def _resolve(padding: Any, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    if not isinstance(padding, str):
        return _pair(padding)
    reach = _extent(kernel, dilation) - 1
    named = {"VALID": (0, 0), "FULL": (reach, reach),
             "SAME": same_padding(size, kernel, stride=stride, dilation=dilation)}  # fmt: skip
    if padding.upper() not in named:
        raise SpecError(f"padding: {padding!r}, expected SAME, VALID, FULL, an integer or (lo, hi)")
    return named[padding.upper()]


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
