"""Data for a spec, and how far a right kernel may be from the float64 reference."""

import math
import zlib
from dataclasses import replace
from functools import cache

import numpy as np

from tvmconv.base.dtypes import ACCUMULATORS, epsilon, numpy_dtype, rounded, widened
from tvmconv.specs.activations import activate
from tvmconv.specs.reference.floats import conv_reference, shuffled_channels


def random_arrays(spec, fill="normal", seed=0):
    """x, w, bias (None without one), the same in every run.

    "integer": small integers, w scaled by a power of two. Sums of them are exact in any order, and mostly
    lie where an activation bends or is linear, not where it is cut off.
    """
    rng = np.random.default_rng([seed, zlib.crc32(str(spec).encode())])

    down = 2.0 ** -round(math.log2(2 * math.sqrt(terms_of(spec)))) if fill == "integer" else 1

    def draw(shape, scale=1):
        values = rng.standard_normal(shape) if fill == "normal" else rng.integers(-3, 4, shape)
        return rounded(values * scale, spec.dtype)

    x, w, bias = draw(spec.input_shape), draw(spec.weight_shape, down), draw(spec.bias_shape)
    return x, w, bias if spec.bias else None


def extra_arrays(spec, fill="normal", seed=0):
    """The arrays after bias in a call that ``spec`` has, by name: residual, slopes."""
    rng = np.random.default_rng([seed, zlib.crc32(str(spec).encode()), 1])
    shapes = {"residual": spec.output_shape, "slopes": spec.bias_shape}
    draw = rng.standard_normal if fill == "normal" else lambda shape: rng.integers(-3, 4, shape)
    return {
        name: rounded(draw(shape), spec.out_dtype if name == "residual" else spec.dtype)
        for name, shape in shapes.items()
        if getattr(spec, name)
    }


def terms_of(spec):
    """Products in the sum of one result, at most."""
    return math.prod(spec.kernel) * spec.in_channels // spec.groups


def is_exact(spec):
    """Whether small integers give the very values of the reference, in any order of summation."""
    return spec.is_exact


def allowed_error(spec, x, w, bias, residual=None, slopes=None):
    """For every element, the rigorous bound: (terms + 3) roundings of the sum of absolute values."""
    unit = epsilon(ACCUMULATORS[spec.dtype]) / 2  # half the spacing at 1
    if spec.dtype == "float64":
        unit *= 2  # the reference rounds as well
    x, w, bias = (None if a is None else widened(a) for a in (x, w, bias))
    size = conv_reference(linear_part(spec), np.abs(x), np.abs(w), None if bias is None else np.abs(bias))
    if residual is not None:
        size += np.abs(widened(residual))
    terms = terms_of(spec) + 3
    error = terms * unit / (1 - terms * unit) * size
    if slopes is not None:
        factor = np.maximum(np.abs(widened(slopes)), 1)[shuffled_channels(spec)]
        factor = factor.reshape(-1, *(() if spec.channels_last else (1,) * spec.rank))
        return factor * (error + 2 * unit * size)
    if spec.is_exact:
        return error + 2 * unit * size
    # exp, tanh and erf err by a few roundings of values up to 1; silu and gelu scale those by v.
    return steepest(spec.activation) * error + 16 * unit * (1 + size)


@cache
def steepest(activation):
    """The largest slope of an activation, or a bit more: how far it may stretch an error of the sum."""
    v = np.linspace(-12, 12, 1 << 14)
    return 1.01 * np.abs(np.diff(activate(activation, v)) / np.diff(v)).max()


def linear_part(spec):
    """The spec of the sum and its bias alone."""
    return replace(spec, residual=False, activation=None)


def assert_right(spec, y, x, w, bias, fill="normal", *, schedule=None, **extra):
    """Fail, with the spec and the worst element, unless ``y`` is the convolution of the arrays. ``schedule``:
    the manifest's, if it may be another than of the definition's sums."""
    schedule = schedule or {}
    expected = conv_reference(spec, x, w, bias, **extra)
    dtype = numpy_dtype(spec.out_dtype)
    assert y.shape == expected.shape and y.dtype == dtype, f"{spec}: {y.dtype} {y.shape}"
    y = widened(y)
    if fill == "integer" and schedule.get("exact", True) and is_exact(spec):
        allowed = np.zeros_like(expected)
        # A bound such as 0.1 is rounded, and so is a sum that a narrow type cannot hold.
        expected = widened(rounded(expected, spec.out_dtype)).astype(np.float64)
    else:
        allowed = allowed_error(spec, x, w, bias, **extra)
        if schedule.get("combines"):
            # Its sums take in all of a tile, several times over, and cancel what does not belong.
            allowed = np.full_like(allowed, 4 * allowed.max(initial=0))
        if spec.out_dtype != ACCUMULATORS[spec.dtype]:  # one more rounding, the last
            smallest = 2.0**-24 if spec.out_dtype == "float16" else 0.0
            allowed += epsilon(spec.out_dtype) / 2 * (np.abs(expected) + allowed) + smallest
    error = np.abs(y.astype(np.float64) - expected)
    wrong = ~(error <= allowed)  # NaN is wrong
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1)), y.shape)
        raise AssertionError(
            f"{spec} ({fill}): {np.count_nonzero(wrong)} of {wrong.size} elements wrong, the worst at "
            f"{tuple(map(int, worst))}: {y[worst]}, expected {expected[worst]} within {allowed[worst]:.3g}"
        )
