"""Torch's own samples for conv1d, conv2d and conv3d: the same values; what torch refuses is refused here.

Those for the transposed convolutions are in test_transposed.
"""

import pytest
import torch_samples

import tvmconv
from tvmconv.base.errors import SpecError


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("op, sample", torch_samples.samples("conv"))
def test_values(op, sample):
    torch_samples.check(tvmconv.conv, op, sample)


def without_meaning(sample):
    """Torch has no "same" with a stride; here it is TensorFlow's SAME, which does."""
    return sample.kwargs.get("padding") == "same" and sample.kwargs.get("stride", 1) == 2


@pytest.mark.parametrize("op, error", torch_samples.error_inputs("conv"))
def test_error_inputs(op, error):
    with pytest.raises(error.error_type):
        op.op(error.sample_input.input, *error.sample_input.args, **error.sample_input.kwargs)
    if without_meaning(error.sample_input):
        return
    with pytest.raises(SpecError) as caught:
        torch_samples.apply(tvmconv.conv, op, error.sample_input)
    message = str(caught.value)
    assert "\n" not in message and ": " in message, message


def test_what_has_no_meaning_here_is_one_input():
    """The list above does not grow by itself: 30 error inputs, one of them a strided "same"."""
    errors = [p.values[1].sample_input for p in torch_samples.error_inputs("conv")]
    assert len(errors) == 30 and sum(map(without_meaning, errors)) == 1
