"""ONNX's Resize and Upsample."""

from __future__ import annotations

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.network.spellings.moving import read_axes_in_order
from tvmconv.specs.operators import Resize


def _resize(call: Call) -> None:
    told, x = call.attributes, call.type(0)
    rank = len(x.shape)
    old = call.opset < 11  # x, scales; asymmetric, rounded down
    coordinates = "asymmetric" if old else told.get("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else told.get("nearest_mode", "round_prefer_floor")
    stated = told.get("axes")
    axes = read_axes_in_order(None if stated is None else [int(a) for a in stated], rank)
    scales, sizes = _factors(call, 1 if old else 2), None
    if scales is None and not old:
        sizes = call.ints(3, "sizes")
    if scales is None and sizes is None:
        raise Error("scales, sizes: missing, expected one of them")
    given = scales if scales is not None else sizes or []
    if len(given) != len(axes):
        raise Error(f"scales or sizes: {len(given)} numbers, expected {len(axes)}")
    shape, factors = list(x.shape), [1.0] * rank
    policy = told.get("keep_aspect_ratio_policy", "stretch")
    if scales is not None:
        for axis, scale in zip(axes, scales, strict=True):
            shape[axis], factors[axis] = _length(x.shape[axis], scale), scale
    elif sizes is not None:
        each = [size / max(x.shape[axis], 1) for axis, size in zip(axes, sizes, strict=True)]
        if policy != "stretch":
            if policy not in ("not_larger", "not_smaller"):
                what = "expected stretch, not_larger or not_smaller"
                raise Error(f"keep_aspect_ratio_policy: {policy!r}, {what}")
            one = min(each) if policy == "not_larger" else max(each)
            each = [one] * len(axes)
            sizes = [int(one * x.shape[axis] + 0.5) for axis in axes]
        for axis, size, scale in zip(axes, sizes, each, strict=True):
            shape[axis], factors[axis] = size, scale
    roi: tuple[float, ...] = ()
    if coordinates == "tf_crop_and_resize":
        flat = [float(v) for v in call.constant(1, "roi").reshape(-1)]
        if len(flat) != 2 * len(axes):
            raise Error(f"roi: {len(flat)} numbers, expected {2 * len(axes)}")
        whole = [0.0] * rank + [1.0] * rank
        for number, axis in enumerate(axes):
            whole[axis], whole[rank + axis] = flat[number], flat[len(axes) + number]
        roi = tuple(whole)
    mode = told.get("mode", "nearest")
    op = Resize(
        (x,), tuple(shape), mode, coordinates, tuple(factors), rounding,
        float(told.get("cubic_coeff_a", -0.75)), bool(told.get("exclude_outside", 0)) and mode != "nearest",
        bool(told.get("antialias", 0)), roi, float(told.get("extrapolation_value", 0.0)),
    )  # fmt: skip
    _give(call, op)


def _upsample(call: Call) -> None:
    told, x = call.attributes, call.type(0)
    if "height_scale" in told:
        scales = [1.0, 1.0, float(told["height_scale"]), float(told["width_scale"])]
    else:
        scales = _factors(call, 1)
    if scales is None or len(scales) != len(x.shape):
        raise Error(f"scales: {scales}, expected {len(x.shape)}")
    mode = told.get("mode", "nearest")
    mode = {"bilinear": "linear"}.get(mode, mode)
    shape = tuple(map(_length, x.shape, scales))
    _give(call, Resize((x,), shape, mode, "asymmetric", tuple(scales), "floor"))


def _length(size: int, scale: float) -> int:
    """Of a resized axis: in float32, as ONNX infers it, 10 times 0.7 is 7."""
    return int(np.float32(size) * np.float32(scale))


def _give(call: Call, op: Resize) -> None:
    if op.axes:
        call.give(op, [call.input(0)])
    else:
        call.give_value(call.input(0))


def _factors(call: Call, number: int) -> list[float] | None:
    """The scales that an input or an attribute states; None where there are none."""
    if "scales" in call.attributes:
        return [float(v) for v in call.attributes["scales"]]
    if not call.has(number) or call.type(number).size == 0:
        return None
    return [float(v) for v in call.constant(number, "scales").reshape(-1)]


IMPORTERS: dict[str, Importer] = {"Resize": _resize, "Upsample": _upsample}
