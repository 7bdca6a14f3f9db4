"""Padding as given, and the numbers it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import shown, unknown
from tvmconv.specs.checks import read_integer, read_items
from tvmconv.specs.names import NAMED_PADDINGS
from tvmconv.specs.window import WindowSpec

Pairs = tuple[tuple[int, int], ...]


def window_padding(spec: WindowSpec, value: Any) -> Pairs:
    """``((lo, hi), ...)`` of any spec whose windows slide over ``in_spatial``."""
    return pads_of(value, spec.in_spatial, spec.stride, _extents(spec))


def transposed_padding(
    spec: WindowSpec, output_padding: tuple[int, ...], value: Any
) -> tuple[Pairs, tuple[int, ...]]:
    """``((lo, hi), ...)`` of a transposed convolution, and its output padding, which SAME may raise."""
    return transposed_pads_of(value, output_padding, spec.stride, _extents(spec))


def pads_of(value: Any, sizes: Sequence[int], strides: Sequence[int], extents: Sequence[int]) -> Pairs:
    """The same, of windows of these extents; all by spatial dim."""
    name = _padding_name(value)
    if name is None:
        return _padding_pairs(value, len(sizes))
    pairs = []
    for size, stride, extent in zip(sizes, strides, extents, strict=True):
        if name == "VALID":
            pairs.append((0, 0))
        elif name == "FULL":
            pairs.append((extent - 1, extent - 1))
        else:  # TensorFlow: ceil(size / stride) results, the odd element on the high side
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def transposed_pads_of(
    value: Any, output_padding: Sequence[int], strides: Sequence[int], extents: Sequence[int]
) -> tuple[Pairs, tuple[int, ...]]:
    """The same, by spatial dim."""
    name, extras = _padding_name(value), tuple(output_padding)
    if name is None:
        return _padding_pairs(value, len(strides)), extras
    if name == "FULL":
        raise SpecError("padding: 'FULL', expected SAME, VALID or numbers for a transposed convolution")
    if name == "VALID":
        return ((0, 0),) * len(strides), extras
    pairs, grown = [], []
    for stride, extra, extent in zip(strides, extras, extents, strict=True):
        # in*stride results: any excess is cropped, any shortfall becomes output padding.
        over = extent + extra - stride
        crop = max(over, 0)
        pairs.append((crop // 2, crop - crop // 2))
        grown.append(extra + max(-over, 0))
    return tuple(pairs), tuple(grown)


def _extents(spec: WindowSpec) -> list[int]:
    return [spec.extent(dim) for dim in range(spec.rank)]


def check_padding_mode(spec: WindowSpec, mode: str) -> None:
    """Raises SpecError for a mode that needs elements that x lacks, given a finished spec's padding."""
    if mode == "zeros":
        return
    if spec.transposed:
        raise SpecError(f"padding_mode: {mode!r}, expected 'zeros' for a transposed convolution")
    over = {"reflect": 1, "circular": 0}.get(mode)  # how much narrower than x a border must be
    for dim, (size, pair) in enumerate(zip(spec.in_spatial, spec.padding, strict=True)):
        if over is not None and max(pair) > size - over:
            most = f"{size - over} in spatial dim {dim}, whose input is {size} wide, for {mode!r}"
            raise SpecError(f"padding: {spec.padding}, expected at most {most}")


def check_output_padding(spec: WindowSpec, extra: tuple[int, ...]) -> None:
    """Raises SpecError for an output padding that does not fit a spec's stride and dilation."""
    if any(extra) and not spec.transposed:
        raise SpecError(f"output_padding: {extra}, expected 0 unless transposed")
    for one, stride, dilation in zip(extra, spec.stride, spec.dilation, strict=True):
        if one and one >= max(stride, dilation):
            raise SpecError(
                f"output_padding: {extra}, expected less than the larger of "
                f"stride {spec.stride} and dilation {spec.dilation}"
            )


def check_crop(spec: WindowSpec) -> None:
    """Raises SpecError if a transposed convolution's padding crops all of its result."""
    for dim, size in enumerate(spec.out_spatial):
        if size < 1:
            raise SpecError(
                f"padding: {spec.padding}, expected to leave something of the result's "
                f"{size + sum(spec.padding[dim])} elements in spatial dim {dim}"
            )


def _padding_pairs(value: Any, rank: int) -> Pairs:
    """Padding given as numbers."""
    items = read_items(value)
    if items is None:
        items = (value,) * rank
    wanted = f"{', '.join(NAMED_PADDINGS)}, an integer, or {rank} per-dim integers or (lo, hi) pairs"
    if len(items) != rank:
        raise SpecError(f"padding: {shown(value)}, expected {wanted}")
    pairs = []
    for item in items:
        pair = read_items(item)
        if pair is None:
            pair = (item, item)
        if len(pair) != 2 or isinstance(item, str):
            raise SpecError(f"padding: {shown(value)}, expected {wanted}")
        pairs.append((read_integer("padding", pair[0], 0), read_integer("padding", pair[1], 0)))
    return tuple(pairs)


def _padding_name(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if value.upper() not in NAMED_PADDINGS:
        raise unknown("padding", value, NAMED_PADDINGS)
    return value.upper()


def live_taps(taps: int, stride: int, dilation: int, lo: int, size: int, outputs: int) -> range:
    """The taps of a dimension of ``size``, ``lo`` zeros before it, from the first to the last that sees x at
    any of so many outputs: the others see only padding. One tap if none does."""
    live = []
    for k in range(taps):
        before = lo - k * dilation  # where x begins, seen from the first output
        out = max(-(-before // stride), 0)  # the first output for which the tap is not before x
        if out < outputs and out * stride - before < size:
            live.append(k)
    live = live or [0]
    return range(live[0], live[-1] + 1)
