"""Arrays whose memory is not what they hold, arguments of other kinds: a line each, before any code runs."""

from __future__ import annotations

from typing import Any

import libraries
import numpy as np
import pytest
import torch
from onnx import helper
from torch._subclasses.fake_tensor import FakeTensorMode

import tvmconv
from tvmconv.base.errors import one_line
from tvmconv.onnx import run_node
from tvmconv.runtime import arrays


def refused(match: str, call: Any, *args: Any, kind: Any = tvmconv.SpecError, **options: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        call(*args, **options)
    libraries.assert_one_line(caught)


def odd_tensors(shape: tuple[int, ...]) -> dict[str, Any]:
    turned = (torch.ones(shape) + 1j * torch.ones(shape)).conj()
    with FakeTensorMode():
        fake = torch.zeros(shape)
    assert turned.imag.is_neg() and turned.is_conj()
    return {
        r"negative bit is set, use resolve_neg\(\)": turned.imag,
        r"conjugate bit is set, use resolve_conj\(\)": turned,
        r"requires a gradient, use detach\(\)": torch.zeros(shape, dtype=torch.bfloat16).requires_grad_(),
        "elements are elsewhere": fake,
    }


def test_tensors_that_are_not_what_their_memory_holds(bound: tvmconv.Bound, dw: tvmconv.Function) -> None:
    x, w, bias, expected = libraries.case("dw")
    for why, odd in odd_tensors(x.shape).items():
        refused(f"x: .*Tensor, expected plain data in CPU memory: .*{why}", bound, odd)
        refused(f"x: .*{why}", dw, odd, w, bias)
    for why, odd in odd_tensors(w.shape).items():
        refused(f"w: .*{why}", dw.bind, odd, bias)
    for why, odd in odd_tensors(expected.shape).items():
        refused(f"out: .*{why}", bound, x, out=odd)
    turned = torch.complex(torch.zeros(x.shape), torch.from_numpy(-x)).conj().imag
    np.testing.assert_array_equal(bound(turned.resolve_neg()).numpy(), bound(x))
    parameter = torch.nn.Parameter(torch.from_numpy(x.copy()), requires_grad=False)
    np.testing.assert_array_equal(bound(parameter).numpy(), bound(x))


def test_masked_arrays(bound: tvmconv.Bound, dw: tvmconv.Function) -> None:
    x, w, bias, expected = libraries.case("dw")
    masked = np.ma.masked_array(x, x > 1)
    match = "MaskedArray, expected an array without a mask"
    refused(f"x: {match}", bound, masked)
    refused(f"x: {match}", dw, masked, w, bias)
    refused(f"w: {match}", dw, x, np.ma.masked_array(w), bias)
    refused(f"out: {match}", bound, x, out=np.ma.masked_array(np.zeros(expected.shape, np.float32)))
    refused(f"x: {match}", bound.on, masked, out=np.zeros(expected.shape, np.float32))
    refused(f"array: {match}", tvmconv.aligned, masked)
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])
    refused(match, run_node, node, [masked])


SIX = np.zeros((1, 2, 3, 4, 5, 6), np.float32)
X, W = np.zeros((1, 2, 4, 4), np.float32), np.zeros((3, 2, 2, 2), np.float32)


@pytest.mark.parametrize(
    "call",
    [tvmconv.global_avg_pool, tvmconv.global_max_pool, lambda x: tvmconv.channel_shuffle(x, 2),
     lambda x: tvmconv.max_pool(x, 2), lambda x: tvmconv.conv(x, x)],
)  # fmt: skip
def test_six_dims(call: Any) -> None:
    refused(r"x: shape \(1, 2, 3, 4, 5, 6\), expected 3 to 5 dims", call, SIX)


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("padding: <class 'numpy.float32'>, expected", {"padding": np.float32}),
        ("stride: <class 'numpy.float32'>, expected", {"stride": np.float32}),
        ("activation: .*, expected numbers as parameters", {"activation": ("leaky_relu", 10**400)}),
        ("layout: .*, expected one of", {"layout": np.zeros(3)}),
        ("layout: .*, expected one of", {"layout": np.array(["NCHW", "NHWC"])}),
        ("target: .*, expected", {"target": np.zeros(3)}),
        ("target: .*, expected", {"target": ["native"]}),
        ("target: .*, expected", {"target": 3.5}),
    ],
)
def test_arguments_of_other_kinds(match: str, options: dict[str, Any]) -> None:
    kind = tvmconv.TargetError if "target" in options else tvmconv.SpecError
    refused(match, tvmconv.conv, X, W, kind=kind, **options)


@pytest.mark.parametrize("target", [np.zeros(3), 3.5, None, {"native": 1}])
def test_targets_of_other_kinds(target: Any) -> None:
    refused(
        "target: ", tvmconv.compile, "conv2d:1x4x4x8:o8:k1x1:NHWC:float32", target, kind=tvmconv.TargetError
    )


def test_scales_and_zero_points() -> None:
    from tvmconv.runtime.quantisation import read

    for name, dtype, good in (("x_zero_point", "int8", 1), ("w_scale", "float32", 0.5)):
        one, many = (arrays.Argument(name, (n,), dtype, "", "weight") for n in (1, 3))
        assert read(one, good) == read(one, [good]) == good and (read(many, good) == good).all()
        for bad in ([[good]], np.full((1, 1), good), [], [good, good], [[good], [good, good]]):
            refused(f"{name}: .*, expected one number$", read, one, bad)
            refused(f"{name}: .*, expected one number or 3$", read, many, bad)
        refused("MaskedArray", read, many, np.ma.masked_array([good] * 3))


def test_every_message_is_one_line() -> None:
    """Whatever the value that it shows has: escape characters, line breaks of all kinds, bytes of a path."""
    nasty = "a\x1b[31m\r\nb\u2028c\x85\x00\udc80é"
    for kind in (
        tvmconv.Error,
        tvmconv.SpecError,
        tvmconv.TargetError,
        tvmconv.ArtifactError,
        tvmconv.TuningError,
    ):
        text = str(kind(f"name: {nasty}"))
        assert text == r"name: a\x1b[31m\r\nb\u2028c\x85\x00\udc80é" and text.isprintable()
    assert one_line("as it was, même") == "as it was, même"
    refused(r"\\x1b", tvmconv.load, "/no/such\x1b[2J\nlibrary.so", kind=tvmconv.ArtifactError)
    refused("descriptor", tvmconv.ConvSpec.parse, "conv2d\n\x1b[2J:1x2")
