"""Torch's own samples of its convolutions, and how they are put to tvmconv.

The adapter: torch also takes one image without a batch, which gets one here; everything else is passed as
it is. Torch's "same" (stride 1 only) and "valid" mean what they mean here.
"""

import numpy as np
import pytest
import torch


def operators(prefix):
    """Torch's records of nn.functional.``prefix``1d, 2d and 3d."""
    from torch.testing._internal.common_methods_invocations import op_db

    names = {f"nn.functional.{prefix}{rank}d" for rank in (1, 2, 3)}
    found = [op for op in op_db if op.name in names]
    assert len(found) == 3
    return found


def samples(prefix):
    """Test parameters (op, sample): float32 arguments that torch accepts."""
    return [
        pytest.param(op, sample, id=f"{op.name.rpartition('.')[2]}-{number}")
        for op in operators(prefix)
        for number, sample in enumerate(op.sample_inputs("cpu", torch.float32))
    ]


def error_inputs(prefix):
    """Test parameters (op, error input): arguments that torch refuses."""
    return [
        pytest.param(op, error, id=f"{op.name.rpartition('.')[2]}-{number}")
        for op in operators(prefix)
        for number, error in enumerate(op.error_inputs("cpu"))
    ]


def apply(function, op, sample):
    """``function``, tvmconv.conv or conv_transpose, called with a sample's arguments."""
    rank = int(op.name[-2])
    x, (w, bias) = sample.input.detach(), sample.args
    x = x[None] if x.ndim == rank + 1 else x
    return function(x, w.detach(), None if bias is None else bias.detach(), **sample.kwargs)


def check(function, op, sample):
    """Asserts that ``function`` gives for a sample what torch gives."""
    expected = op.op(sample.input, *sample.args, **sample.kwargs).detach()
    y = apply(function, op, sample)
    assert type(y) is torch.Tensor and y.dtype == expected.dtype
    largest = abs(expected).max()
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5 * largest)
