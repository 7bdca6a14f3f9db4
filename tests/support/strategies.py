"""Hypothesis strategies that draw specs of every kind which are valid, small, and rich in awkward sizes."""

import math
from dataclasses import replace

from hypothesis import strategies as st

from tvmconv.base.dtypes import BYTES, FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.specs import activations
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.pooling import PoolSpec

ACTIVATIONS = (
    *(name for name, row in activations.ACTIVATIONS.items() if not row.slopes and not row.defaults),
    "clip=-0.5,0.75", "leaky_relu=0.2", "hard_sigmoid", "hard_sigmoid=0.2,0.4",
)  # fmt: skip
WITH_SLOPES = (*ACTIVATIONS, "prelu")


@st.composite
def specs(
    draw, *, transposed=None, ranks=(1, 2, 3), activations=ACTIVATIONS, max_elements=60_000,
    dtypes=("float32",),
):
    """A ConvSpec. ``transposed``: None draws it. ``max_elements`` bounds x, w and y, each."""
    again = specs(transposed=transposed, ranks=ranks, activations=activations, max_elements=max_elements,
                  dtypes=dtypes)
    rank = draw(st.sampled_from(ranks))
    flipped = draw(st.booleans()) if transposed is None else transposed

    def dims(values):
        return draw(st.tuples(*[values] * rank))

    grouping = draw(st.sampled_from(["dense", "grouped", "depthwise"]))
    if grouping == "depthwise":
        groups = draw(st.sampled_from([2, 3, 7, 8, 16, 17, 33, 64]))
        inputs, outputs = groups, groups * draw(st.sampled_from([1, 1, 1, 2, 3]))
    else:
        groups = 1 if grouping == "dense" else draw(st.sampled_from([2, 3, 5]))
        channels = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 64])
        inputs, outputs = groups * draw(channels), groups * draw(channels)
    kernel = dims(st.sampled_from([1, 1, 2, 3, 3, 4, 5]))
    stride = dims(st.sampled_from([1, 1, 1, 2, 3, 6]))  # also past the kernel: elements that no window holds
    dilation = dims(st.sampled_from([1, 1, 1, 2, 3]))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    largest = draw(st.sampled_from({1: [9, 40, 200], 2: [5, 14, 35], 3: [4, 7, 9]}[rank]))
    if flipped:
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        spatial = dims(st.integers(1, largest))
        padding = tuple((draw(st.integers(0, r)), draw(st.integers(0, r))) for r in reach)
    else:
        extra = (0,) * rank
        padding = tuple((draw(st.integers(0, r + 1)), draw(st.integers(0, r + 1))) for r in reach)
        if draw(st.booleans()):
            padding = ((0, 0),) * rank
        # At least what one window needs; 1-element images are drawn wherever padding allows them.
        least = [max(1, r + 1 - lo - hi) for r, (lo, hi) in zip(reach, padding, strict=True)]
        spatial = tuple(draw(st.integers(size, max(size, largest))) for size in least)
    layout = draw(st.sampled_from(["NCHW", "NHWC"]))
    batch = draw(st.sampled_from([1, 1, 2, 3]))
    if activations is ACTIVATIONS:
        activations = WITH_SLOPES
    shuffle = draw(st.sampled_from([1, 1, 1, *(k for k in range(2, outputs) if outputs % k == 0)]))
    mode = "zeros" if flipped else draw(st.sampled_from(["zeros"] * 3 + ["reflect", "replicate", "circular"]))
    if any(max(pair) > size - (mode == "reflect") for pair, size in zip(padding, spatial, strict=True)):
        mode = "zeros"
    try:
        spec = ConvSpec(
            (batch, *spatial, inputs) if layout == "NHWC" else (batch, inputs, *spatial), outputs, kernel,
            stride=stride, padding=padding, dilation=dilation, groups=groups, layout=layout,
            transposed=flipped, output_padding=extra, bias=draw(st.booleans()),
            activation=draw(st.none() | st.sampled_from(activations)), dtype=draw(st.sampled_from(dtypes)),
            residual=draw(st.sampled_from([False, False, True])), shuffle=shuffle,
            padding_mode=mode,
        )  # fmt: skip
    except SpecError as error:
        # The one thing that is not excluded above: a transposed result that is cropped away.
        if "expected to leave something" not in str(error):
            raise
        return draw(again)
    shapes = (spec.input_shape, spec.weight_shape, spec.output_shape)
    if max(map(math.prod, shapes)) > max_elements:
        return draw(again)
    return spec


@st.composite
def quantised_specs(draw):
    """A ConvSpec of 8-bit integers that can be compiled."""
    spec = draw(specs(activations=[*ACTIVATIONS]))
    sums = draw(st.booleans())
    if sums:
        spec = replace(spec, activation=draw(st.sampled_from([None, "relu", "relu6", "clip=-9,300"])))
    spec = replace(
        spec, dtype=draw(st.sampled_from(BYTES)), weight_dtype=draw(st.sampled_from(BYTES)),
        out_dtype="int32" if sums else draw(st.sampled_from(BYTES)),
    )  # fmt: skip
    spec.check_supported()
    return spec


@st.composite
def deform_specs(draw):
    """A DeformSpec."""

    def dims(values):
        return draw(st.tuples(values, values))

    kernel, dilation = dims(st.sampled_from([1, 2, 3, 3, 5])), dims(st.sampled_from([1, 1, 2]))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple((draw(st.integers(0, r + 1)), draw(st.integers(0, r + 1))) for r in reach)
    least = [max(1, r + 1 - lo - hi) for r, (lo, hi) in zip(reach, padding, strict=True)]
    spatial = [draw(st.integers(size, size + 9)) for size in least]
    groups, parts = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2, 4]))
    channels = groups * parts * draw(st.sampled_from([1, 2, 3, 5, 16]))
    return DeformSpec(
        (draw(st.sampled_from([1, 2])), channels, *spatial),
        groups * draw(st.sampled_from([1, 3, 8, 16, 33])), kernel,
        stride=dims(st.sampled_from([1, 1, 2, 3])), padding=padding, dilation=dilation, groups=groups,
        offset_groups=parts, mask=draw(st.booleans()), bias=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def pool_specs(draw):
    """A PoolSpec."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))

    def dims(values):
        return draw(st.tuples(*[values] * rank))

    kernel = dims(st.sampled_from([1, 2, 2, 3, 3, 4, 5]))
    dilation = dims(st.sampled_from([1, 1, 1, 2, 3]))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple((draw(st.integers(0, r)), draw(st.integers(0, r))) for r in reach)
    largest = {1: 150, 2: 30, 3: 9}[rank]
    least = [max(1, r + 1 - lo - hi) for r, (lo, hi) in zip(reach, padding, strict=True)]
    spatial = tuple(draw(st.integers(size, max(size, largest))) for size in least)
    if draw(st.integers(0, 4)) == 0:
        kernel, dilation, padding = spatial, 1, 0
    operation = draw(st.sampled_from(["max", "avg"]))
    channels = draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33, 64]))
    batch, layout = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from(["NCHW", "NHWC"]))
    dtypes = ["float32"] * 4 + [*FLOATS] + ["int8"] * (operation == "max")
    return PoolSpec(
        (batch, *spatial, channels) if layout == "NHWC" else (batch, channels, *spatial), kernel,
        operation=operation, stride=dims(st.sampled_from([1, 1, 2, 3, 6])), padding=padding,
        dilation=dilation, ceil_mode=draw(st.booleans()),
        count_include_pad=operation == "avg" and draw(st.booleans()),
        layout=layout, dtype=draw(st.sampled_from(dtypes)),
    )  # fmt: skip


@st.composite
def block_specs(draw):
    """A BlockSpec."""

    def dims(values):
        return draw(st.tuples(values, values))

    kernel, dilation = dims(st.sampled_from([1, 2, 3, 3, 5, 7])), dims(st.sampled_from([1, 1, 2, 3]))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple((draw(st.integers(0, r + 1)), draw(st.integers(0, r + 1))) for r in reach)
    least = [max(1, r + 1 - lo - hi) for r, (lo, hi) in zip(reach, padding, strict=True)]
    spatial = [draw(st.integers(size, size + draw(st.sampled_from([0, 3, 19])))) for size in least]
    channels = st.sampled_from([1, 2, 3, 7, 8, 16, 17, 31, 32, 33, 48, 64])
    act = st.none() | st.sampled_from(ACTIVATIONS)
    expand = draw(st.just(0) | channels)
    dtype = draw(st.sampled_from(["float32"] * 4 + ["float16", "bfloat16", "int8", "uint8"]))
    return BlockSpec(
        (draw(st.sampled_from([1, 1, 2, 3])), *spatial, draw(channels)), draw(channels), kernel,
        expand=expand, stride=dims(st.sampled_from([1, 1, 1, 2, 3, 6])), padding=padding, dilation=dilation,
        bias=draw(st.booleans()), residual=draw(st.booleans()),
        dtype=dtype, scale="int8" not in dtype and draw(st.booleans()),
        expand_activation=draw(act) if expand else None, depthwise_activation=draw(act), activation=draw(act),
    )  # fmt: skip


def any_specs():
    """A spec of any kind."""
    return st.one_of(specs(dtypes=FLOATS), quantised_specs(), deform_specs(), pool_specs(), block_specs())
