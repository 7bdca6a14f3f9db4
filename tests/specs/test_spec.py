"""ConvSpec: arithmetic, canonical text, and one line for every kind of bad argument."""

import dataclasses
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from strategies import specs

from tvmconv.base.errors import Error, SpecError
from tvmconv.specs.activations import parse_activation
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import parse_spec
from tvmconv.specs.shorthand import depthwise, pointwise


def test_stored_form_is_canonical():
    spec = ConvSpec(
        np.array([2, 8, 9, 4]), np.int64(6), [3, 1], stride=2, padding=((0, 1), 2), groups=np.int32(2),
        layout="NHWC", dtype=np.float32, bias=True, activation=("clip", 0, 6),
    )  # fmt: skip
    assert dataclasses.asdict(spec) == {
        "input_shape": (2, 8, 9, 4), "out_channels": 6, "kernel": (3, 1), "stride": (2, 2),
        "padding": ((0, 1), (2, 2)), "dilation": (1, 1), "groups": 2, "layout": "NHWC",
        "dtype": "float32", "out_dtype": "float32", "weight_dtype": "float32", "transposed": False,
        "output_padding": (0, 0), "bias": True, "residual": False, "activation": "clip=0,6",
        "algorithm": None, "shuffle": 1, "padding_mode": "zeros",
    }  # fmt: skip
    assert spec.output_shape == (2, 4, 7, 6) and spec.weight_shape == (3, 1, 2, 6)
    assert all(type(size) is int for size in spec.input_shape)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            ConvSpec((1, 112, 112, 32), 32, 3, stride=2, padding=1, groups=32, layout="NHWC", bias=True,
                     activation="relu6"),
            "conv2d:1x112x112x32:o32:k3x3:s2:p1:g32:NHWC:float32:bias:relu6",
        ),
        (ConvSpec((1, 3, 8), 4, 3), "conv1d:1x3x8:o4:k3:NCHW:float32"),
        (ConvSpec((1, 3, 8), 6, 3, shuffle=2, algorithm="im2col"),
         "conv1d:1x3x8:o6:k3:NCHW:float32:sh2:im2col"),
        (ConvSpec((1, 3, 8), 6, 3, shuffle=6), "conv1d:1x3x8:o6:k3:NCHW:float32"),
        (ConvSpec((1, 8, 3), 4, 3, layout="NWC", padding="FULL"), "conv1d:1x8x3:o4:k3:p2:NHWC:float32"),
        (
            ConvSpec((0, 3, 8, 9), 4, (3, 2), stride=(1, 2), padding=((1, 1), (0, 0)), dilation=(2, 1)),
            "conv2d:0x3x8x9:o4:k3x2:s1x2:p1x0:d2x1:NCHW:float32",
        ),
        (
            ConvSpec((1, 9, 9, 3), 4, 3, padding="SAME", stride=2, dtype="int8", out_dtype="int32",
                     layout="NHWC", activation=("leaky_relu", 0.01)),
            "conv2d:1x9x9x3:o4:k3x3:s2:p1:NHWC:int8/int32:leaky_relu",
        ),
        (
            ConvSpec((1, 8, 8, 3), 4, 3, padding="SAME", stride=2, layout="NHWC",
                     activation=("clip", -0.0, 1e-7)),
            "conv2d:1x8x8x3:o4:k3x3:s2:p0+1x0+1:NHWC:float32:clip=0,1e-07",
        ),
        (
            ConvSpec((1, 2, 3, 4, 5), 6, 2, stride=3, transposed=True, output_padding=(0, 1, 2)),
            "tconv3d:1x2x3x4x5:o6:k2x2x2:s3:op0x1x2:NCHW:float32",
        ),
        (
            ConvSpec((1, 2, 4), 2, 1, activation=("clip", -np.inf, np.float32(0.1))),
            "conv1d:1x2x4:o2:k1:NCHW:float32:clip=-inf,0.10000000149011612",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_text(spec, text):
    assert str(spec) == text
    assert ConvSpec.parse(text) == spec


def test_parse_takes_any_order_and_named_padding():
    spec = ConvSpec.parse("conv2d:1x8x8x3:relu:NHWC:pSAME:bias:s2:k3:d1:g1:o4")
    assert spec == ConvSpec((1, 8, 8, 3), 4, 3, stride=2, padding="SAME", layout="NHWC", bias=True,
                            activation="relu")  # fmt: skip
    assert ConvSpec.parse("conv1d:1x2x8:o4:k3:p0+1") == ConvSpec((1, 2, 8), 4, 3, padding=((0, 1),))
    both = ConvSpec.parse("conv2d:1x2x8x8:o4:k3x3:p0+1")
    assert both.padding == ((0, 1), (0, 1)), "one pair stands for every dim"


@given(specs(max_elements=10**9))
def test_specs_round_trip(spec):
    text = str(spec)
    assert ConvSpec.parse(text) == spec and hash(ConvSpec.parse(text)) == hash(spec)
    assert not set(text) & set(" \t\n'\"\\$*?[]{}()<>|&;!~#`"), "safe in a shell"
    assert eval(repr(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert dataclasses.replace(spec) == spec


def test_frozen():
    spec = ConvSpec((1, 3, 8), 4, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.groups = 2
    with pytest.raises((AttributeError, TypeError)):  # slots: no new names either
        object.__setattr__(spec, "speed", 1)


@pytest.mark.parametrize("size", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 3])
def test_same_gives_ceil_of_size_over_stride(size, kernel, stride, dilation):
    common = {"stride": stride, "dilation": dilation, "padding": "SAME"}
    spec = ConvSpec((1, 1, size), 1, kernel, **common)
    ((lo, hi),) = spec.padding
    assert spec.out_spatial == (-(-size // stride),) and 0 <= hi - lo <= 1
    spec = ConvSpec((1, 1, size), 1, kernel, transposed=True, **common)
    ((lo, hi),) = spec.padding
    assert spec.out_spatial == (size * stride,) and 0 <= hi - lo <= 1


def test_named_paddings():
    assert ConvSpec((1, 1, 8), 1, 3, dilation=2, padding="VALID").out_spatial == (4,)
    assert ConvSpec((1, 1, 8), 1, 3, dilation=2, padding="FULL").out_spatial == (12,)
    assert ConvSpec((1, 1, 8), 1, 3, padding="same").padding == ((1, 1),)
    # The odd element lies on the high side, cropped ones too; a shortfall becomes output padding.
    assert ConvSpec((1, 1, 8), 1, 4, padding="SAME").padding == ((1, 2),)
    transposed = ConvSpec((1, 1, 8), 1, 3, stride=2, padding="SAME", transposed=True)
    assert (transposed.padding, transposed.output_padding) == (((0, 1),), (0,))
    short = ConvSpec((1, 1, 8), 1, 1, stride=3, padding="SAME", transposed=True)
    assert (short.padding, short.output_padding) == (((0, 0),), (2,))
    assert ConvSpec((1, 1, 8), 1, 3, stride=2, padding="VALID", transposed=True).out_spatial == (17,)


def test_cost():
    spec = ConvSpec((2, 8, 9, 4), 6, (3, 1), groups=2, layout="NHWC", bias=True)
    assert spec.out_spatial == (6, 9)
    assert spec.macs == 2 * 6 * 9 * 6 * (3 * 1 * 2) and spec.flops == 2 * spec.macs
    assert spec.bytes == 4 * (2 * 8 * 9 * 4 + 3 * 1 * 2 * 6 + 6 + 2 * 6 * 9 * 6)
    assert spec.intensity == spec.flops / spec.bytes
    quantised = ConvSpec((1, 8, 9, 4), 6, 1, layout="NHWC", dtype="int8", out_dtype="int32")
    assert quantised.bytes == 8 * 9 * 4 + 4 * 6 + 4 * 8 * 9 * 6
    # A transposed convolution spreads every input element once over its taps.
    transposed = ConvSpec((1, 4, 5), 6, 3, stride=2, groups=2, transposed=True)
    assert transposed.macs == 4 * 5 * 3 * 3 and transposed.weight_shape == (4, 3, 3)


def test_kinds_and_shorthands():
    wide = depthwise((1, 8, 8, 3), 3, multiplier=2, padding=1, layout="NHWC")
    assert wide == ConvSpec((1, 8, 8, 3), 6, 3, groups=3, padding=1, layout="NHWC")
    assert wide.kind == "depthwise" and wide.multiplier == 2 and wide.weight_shape == (3, 3, 1, 6)
    assert depthwise((1, 5, 8), 3).weight_shape == (5, 1, 3)
    assert pointwise((1, 5, 8), 7).kind == "pointwise"
    assert ConvSpec((1, 4, 8), 8, 1, groups=2).kind == "grouped"
    assert ConvSpec((1, 1, 8), 8, 3).kind == "dense"
    assert ConvSpec((1, 4, 8), 8, 3, dilation=2).is_dilated and not wide.is_dilated
    volume = ConvSpec((1, 4, 5, 6, 3), 8, (1, 2, 3), layout="NDHWC", transposed=True)
    assert volume.layout == "NHWC" and volume.weight_shape == (1, 2, 3, 3, 8)


def test_batch_zero_is_valid():
    assert ConvSpec((0, 3, 8, 8), 4, 3).output_shape == (0, 4, 6, 6)


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ("clip=-1,2.5", ("clip", (-1.0, 2.5))),
        ("leaky_relu", ("leaky_relu", (0.01,))),
        ("leaky_relu=0.2", ("leaky_relu", (0.2,))),
        ("hard_sigmoid", ("hard_sigmoid", (1 / 6, 0.5))),
        ("gelu_tanh", ("gelu_tanh", ())),
    ],
)
def test_activation_parameters(given, params):
    assert parse_activation(given) == params


CASES = {
    "rank": ({"input_shape": (1, 3)}, "input_shape: (1, 3), expected 3 to 5 integers"),
    "rank 4": ({"input_shape": (1,) * 6}, "input_shape: (1, 1, 1, 1, 1, 1), expected 3 to 5"),
    "text for a shape": ({"input_shape": "1x3x8x8"}, "input_shape: '1x3x8x8', expected 3 to 5"),
    "empty channel": ({"input_shape": (1, 0, 8, 8)}, "input_shape: (1, 0, 8, 8), expected no dim but the b"),
    "empty image": ({"input_shape": (1, 4, 0, 8)}, "input_shape: (1, 4, 0, 8), expected no dim but the bat"),
    "negative dim": ({"input_shape": (1, 4, -8, 8)}, "input_shape: -8, expected an integer that is not neg"),
    "float dim": ({"input_shape": (1, 4, 8.0, 8)}, "input_shape: 8.0, expected an integer"),
    "bool": ({"stride": (1, True)}, "stride: True, expected a positive integer"),
    "NumPy bool": ({"stride": np.bool_(True)}, "stride: np.True_, expected a positive integer"),
    "no outputs": ({"out_channels": 0}, "out_channels: 0, expected a positive integer"),
    "None": ({"kernel": None}, "kernel: None, expected a positive integer"),
    "kernel arity": ({"kernel": (3, 3, 3)}, "kernel: (3, 3, 3), expected one integer, or 2"),
    "empty kernel": ({"kernel": (3, 0)}, "kernel: 0, expected a positive integer"),
    "stride": ({"stride": 0}, "stride: 0, expected a positive integer"),
    "dilation": ({"dilation": (1, 0)}, "dilation: 0, expected a positive integer"),
    "groups in": ({"groups": 3}, "groups: 3, expected a divisor of in_channels 4"),
    "groups out": ({"groups": 4}, "groups: 4, expected a divisor of out_channels 6"),
    "shuffle": ({"shuffle": 4}, "shuffle: 4, expected a divisor of out_channels 6"),
    "no shuffle": ({"shuffle": 0}, "shuffle: 0, expected a positive integer"),
    "padding": ({"padding": ((0, -1), (0, 0))}, "padding: -1, expected an integer that is not negative"),
    "padding arity": ({"padding": (1, 1, 1, 1)}, "padding: (1, 1, 1, 1), expected SAME, VALID, FULL"),
    "padding triple": ({"padding": ((1, 1, 1), 0)}, "padding: ((1, 1, 1), 0), expected SAME, VALID, FULL"),
    "padding name": ({"padding": "SMAE"}, "padding: 'SMAE', expected one of SAME, VALID, FULL (did you mea"),
    "kernel size": ({"kernel": (9, 3)}, "kernel: 9 in spatial dim 0, expected at most the padded input's 8"),
    "dilated kernel": ({"dilation": 4}, "kernel: 3 dilated by 4 in spatial dim 0, expected at most"),
    "layout": ({"layout": "nhwc"}, "layout: 'nhwc', expected one of NCHW, NHWC (did you mean NHWC"),
    "layout of 1-D": ({"layout": "NWC"}, "layout: 'NWC', expected one of NCHW, NHWC for 2 spatial dims"),
    "layout type": ({"layout": None}, "layout: None, expected one of NCHW, NHWC"),
    "dtype": ({"dtype": "flot32"}, "dtype: 'flot32', expected one of float32, float64, float16, bfloat16"),
    "accumulator": ({"dtype": "int32"}, "dtype: 'int32', expected one of"),
    "out_dtype": ({"out_dtype": 5}, "out_dtype: 5, expected one of float32"),
    "bias": ({"bias": np.ones(6)}, "bias: array([1., 1., 1., 1., 1., 1.]), expected True or False"),
    "activation": ({"activation": "relu_6"}, "activation: 'relu_6', expected one of relu, relu6"),
    "activation type": ({"activation": 6}, "activation: 6, expected a name, or a tuple"),
    "clip": ({"activation": "clip"}, "activation: 'clip', expected 2 parameters for clip"),
    "clip order": ({"activation": ("clip", 6, 0)}, "activation: ('clip', 6, 0), expected lo <= hi"),
    "clip NaN": ({"activation": "clip=nan,1"}, "activation: 'clip=nan,1', expected parameters that are not"),
    "leaky NaN": ({"activation": "leaky_relu=nan"}, "activation: 'leaky_relu=nan', expected parameters tha"),
    "leaky inf": ({"activation": "leaky_relu=inf"}, "activation: 'leaky_relu=inf', expected finite paramet"),
    "relu=1": ({"activation": "relu=1"}, "activation: 'relu=1', expected no parameters for relu"),
    "clip text": ({"activation": "clip=a,b"}, "activation: 'clip=a,b', expected numbers as parameters"),
    "output_padding": ({"output_padding": 1}, "output_padding: (1, 1), expected 0 unless transposed"),
    "large output_padding": (
        {"output_padding": (2, 0), "stride": 2, "transposed": True},
        "output_padding: (2, 0), expected less than the larger of stride (2, 2) and dilation (1, 1)",
    ),
    "transposed FULL": ({"padding": "FULL", "transposed": True}, "padding: 'FULL', expected SAME, VALID or"),
    "crop": (
        {"padding": 5, "transposed": True},
        "padding: ((5, 5), (5, 5)), expected to leave something of the result's 10 elements in spatial dim 0",
    ),
    "large input": ({"input_shape": (1, 4, 2**16, 2**15)}, "input with its padding: 8589934592 elements, e"),
    "large padding": ({"padding": 2**20, "stride": 2**20}, "input with its padding:"),
    "large weight": ({"input_shape": (1, 2**20, 4, 4), "out_channels": 2**20}, "weight: 9895604649984 elem"),
    "large output": ({"out_channels": 2**26}, "weight: 2415919104 elements"),
    "large batch": ({"input_shape": (2**30, 4, 8, 8)}, "input with its padding:"),
    "huge number": ({"stride": 10**30}, f"stride: {10**30}, expected at most 2147483647"),
    "beyond print": ({"stride": 10**9999}, "stride: a very large int, expected at most 2147483647"),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_bad_argument(change, message):
    with pytest.raises(SpecError) as caught:
        ConvSpec(**{"input_shape": (1, 4, 8, 8), "out_channels": 6, "kernel": 3, **change})
    text = str(caught.value)
    assert text.startswith(message) and "\n" not in text
    assert isinstance(caught.value, Error) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv4d:1x3x8x8:o4:k3x3", "descriptor's first token: 'conv4d', expected one of conv1d"),
        ("conv2d", "descriptor's second token: nothing, expected an input shape"),
        ("conv2d:o4:k3x3", "descriptor's second token: 'o4', expected an input shape"),
        ("conv2d:1x3x8:o4:k3x3", "descriptor's input shape: (1, 3, 8), expected 4 dims for conv2d"),
        ("conv2d:1x3x8x8:k3x3", "descriptor: 'conv2d:1x3x8x8:k3x3', expected out_channels in it"),
        ("conv2d:1x3x8x8:o4", "descriptor: 'conv2d:1x3x8x8:o4', expected kernel in it"),
        ("conv2d:1x3x8x8:o4:k3x3:s2:s2", "descriptor's token: 's2', expected stride once"),
        ("conv2d:1x3x8x8:o4:k3x3:NHCW", "descriptor's token: 'NHCW' in"),
        ("conv2d:1x3x8x8:o4:k3x3:", "descriptor's token: '' in"),
        ("conv2d:1x3x8x8:o4:k3x3:s2x2x2", "stride: (2, 2, 2), expected one integer, or 2"),
        ("conv2d:1x3x8x8:o4:k3x3:relu:relu6", "descriptor's token: 'relu6', expected activation once"),
        (7, "descriptor: 7, expected a string"),
    ],
)
def test_bad_descriptor(text, message):
    with pytest.raises(SpecError) as caught:
        ConvSpec.parse(text)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@given(st.text(alphabet="0123456789x:oksdgpNHWC+=,. conv2d", max_size=60))
def test_any_text_parses_or_says_why(text):
    try:
        spec = ConvSpec.parse("conv2d:1x4x8x8:o4:k3x3:" + text)
    except SpecError as error:
        assert "\n" not in str(error)
    else:
        assert ConvSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", [
    "conv2d:1x3x8x8:o4:k3x3:NHCW", "maxpool2d:1x3x8x8:k3x3:NHCW", "avgpool2d:1x3x8x8:k3x3:NHCW",
    "deform2d:1x3x8x8:o4:k3x3:NHCW",
])  # fmt: skip
def test_a_slip_is_recognised_in_every_kind(text):
    with pytest.raises(SpecError, match=r"NHCW.*did you mean .*NHWC") as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_no_kind_is_offered_that_does_not_exist():
    with pytest.raises(SpecError, match="did you mean deform2d") as caught:
        parse_spec("deform3d:1x3x4x4x4:o3:k1x1x1")
    offered = str(caught.value).partition("one of ")[2].partition(" (")[0].split(", ")
    assert len(offered) == 14
    for head in offered:
        shape = "x".join(["1x4", *"9" * int(head[-2])])
        kernel = "x".join("2" * int(head[-2]))
        text = f"{head}:{shape}:k{kernel}" + ":o4" * ("pool" not in head)
        assert str(parse_spec(text)).startswith(head)


def test_nobody_asks_which_kind_a_spec_is():
    """Outside of the kinds: they answer for themselves."""
    asked = re.compile(
        r"isinstance\([\w.]*spec\b|isinstance\([^)]*\b(Block|Conv|Deform|Pool)Spec\b|hasattr\([\w.]*spec\b"
        r"|getattr\([\w.]*spec\b|\(\"int8\", *\"uint8\"\)|type\([\w.]*spec\)"
    )
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("tvmconv", "schedules", "scripts")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if (ROOT / "tvmconv" / "specs") not in file.parents
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if asked.search(line) and "BYTES = " not in line
    ]
    assert not found, "\n".join(found)


def test_equal_specs_have_one_text_in_every_kind():
    for text in (
        "conv1d:1x4x9:o8:k3:s2:p0+1:reflect:d2:g2:NCHW:uint8/int8:wuint8:bias:residual:relu6:sh2:direct",
        "tconv3d:1x4x5x6x3:o8:k2x3x3:s2x1x1:p1x0x1:op1x0x0:NHWC:bfloat16/float32:clip=-1,2.5",
        "deform2d:1x6x9x8:o9:k3x3:s2x1:p1:d1x2:g3:og2:mask:bias:NCHW:float32",
        "avgpool2d:1x6x9x8:k3x2:s1x2:p1x0:ceil:countpad:NHWC:float16",
        "maxpool1d:1x6x9:k3:s3:d2:NCHW:int8",
        "block2d:1x9x8x6:e13:k3x5:s2x1:p1+0x2+2:d1x2:o7:NHWC:bfloat16:bias:residual:expand=clip=-1,2:"
        "depthwise=silu:relu",
    ):
        assert str(parse_spec(text)) == text
        head, shape, *tokens = text.split(":")
        assert parse_spec(":".join([head, shape, *reversed(tokens)])) == parse_spec(text)
