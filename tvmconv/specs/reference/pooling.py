"""The reference for poolings: float64, window by window. Correct by inspection, not fast."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvmconv.base.dtypes import FLOATS, widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.pooling import PoolSpec


def pool_reference(spec: PoolSpec, x: ArrayLike) -> NDArray[np.float64]:
    """The pooling that ``spec`` describes, in float64; ``x`` has ``spec.input_shape``, any real dtype.

    Raises SpecError for another shape.
    """
    xs = widened(np.asarray(x)).astype(np.float64)
    if xs.shape != spec.input_shape:
        raise SpecError(f"x: shape {xs.shape}, expected {spec.input_shape}")
    if spec.channels_last:
        xs = np.moveaxis(xs, -1, 1)
    lowest = -np.inf if spec.dtype in FLOATS else float(np.iinfo(spec.dtype).min)
    ys = np.empty((spec.batch, spec.in_channels, *spec.out_spatial))
    for at in itertools.product(*map(range, spec.out_spatial)):
        inside, count = [], 1
        for d, position in enumerate(at):
            size, (lo, hi) = spec.in_spatial[d], spec.padding[d]
            start = position * spec.stride[d] - lo
            taps = [start + k * spec.dilation[d] for k in range(spec.kernel[d])]
            inside.append([tap for tap in taps if 0 <= tap < size])
            first, stop = (-lo, size + hi) if spec.count_include_pad else (0, size)
            count *= sum(first <= tap < stop for tap in taps)
        seen: tuple[Any, ...] = (slice(None), slice(None), *np.ix_(*inside))
        window = xs[seen]
        window = window.reshape(*xs.shape[:2], math.prod(map(len, inside)))
        if spec.operation == "avg":
            with np.errstate(invalid="ignore"):
                value = window.sum(axis=-1) / max(count, 1)
        else:
            value = window.max(axis=-1, initial=lowest)
        ys[(slice(None), slice(None), *at)] = value
    return np.ascontiguousarray(np.moveaxis(ys, 1, -1) if spec.channels_last else ys)


reference = pool_reference  # as Spec.reference finds it
