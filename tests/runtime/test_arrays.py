"""Arrays of every kind in and out, and errors that name what does not fit before any code runs."""

from __future__ import annotations

from typing import Any

import libraries
import numpy as np
import pytest
import torch
from libraries import at_offset, strided

import tvmconv
from tvmconv.runtime import arrays


def test_torch(dw: tvmconv.Function) -> None:
    x, w, bias, expected = (torch.from_numpy(a.copy()) for a in libraries.case("dw"))
    f = dw.bind(w, bias)
    for y in (dw(x, w, bias), f(x)):
        assert isinstance(y, torch.Tensor) and y.dtype == torch.float32
        libraries.assert_right(y, expected.numpy())
    out = torch.zeros(expected.shape)
    assert f(x, out=out) is out
    libraries.assert_right(out, expected.numpy())
    out = np.zeros(expected.shape, np.float32)
    assert f(x, out=out) is out
    libraries.assert_right(out, expected.numpy())
    channels_last = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    libraries.assert_right(dw(channels_last, w, bias), expected.numpy())
    with pytest.raises(tvmconv.SpecError, match="x: strides"):
        f(channels_last)


def test_empty_batch(module: tvmconv.Module) -> None:
    x, w, bias, expected = libraries.case("none")
    y = module["none"](torch.from_numpy(x.copy()), w, bias)
    assert isinstance(y, torch.Tensor) and y.shape == expected.shape


class Producer:
    """A DLPack array of somebody else's, whose module has no from_dlpack."""

    def __init__(self, array: np.ndarray[Any, Any], device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class OldProducer(Producer):
    """One from before DLPack could say that an array is read-only."""

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


def test_any_dlpack_array(dw: tvmconv.Function, bound: tvmconv.Bound) -> None:
    x, w, bias, expected = (np.array(a) for a in libraries.case("dw"))
    y = dw(Producer(x), Producer(w), Producer(bias))
    assert type(y) is np.ndarray
    libraries.assert_right(y, expected)
    for kind in (Producer, OldProducer):
        out = kind(np.zeros(expected.shape, np.float32))
        assert bound(kind(x), out=out) is out
        libraries.assert_right(out.array, expected)
    with pytest.raises(tvmconv.SpecError, match="out: read-only, expected a writable array"):
        bound(x, out=Producer(read_only(expected.astype(np.float32))))


def test_no_copies(bound: tvmconv.Bound) -> None:
    x = np.array(libraries.case("dw")[0])
    for given in (torch.from_numpy(x), Producer(x)):
        assert np.shares_memory(arrays.view("x", given), x)
    taken = arrays.like(torch.zeros(1), x)
    assert taken.data_ptr() == arrays.address(x)


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5), (40, 60)])
def test_aligned(shape: tuple[int, ...]) -> None:
    """Row-major on a cache line, whatever the array is like: of another order, amid a line, read-only."""
    values = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    for given in (values, np.asfortranarray(values), misaligned(values), read_only(values)):
        found = tvmconv.aligned(given)
        np.testing.assert_array_equal(found, values)
        assert found.ctypes.data % 64 == 0 and found.dtype == values.dtype and found.flags.c_contiguous
        assert found.flags.writeable and not np.shares_memory(found, given)


def test_dlpack_that_does_not_fit(bound: tvmconv.Bound) -> None:
    x = np.array(libraries.case("dw")[0])
    for bad, match in (
        (Producer(x, (2, 0)), r"x: on DLPack device \(2, 0\), expected an array in CPU memory"),
        (torch.from_numpy(x).requires_grad_(), r"x: Tensor, .*detach\(\)"),
        (torch.zeros(x.shape, device="meta"), "x: Tensor, expected plain data in CPU memory"),
        (torch.zeros(x.shape).to_sparse(), "x: Tensor, expected plain data in CPU memory"),
        (torch.zeros(x.shape, dtype=torch.float16), "x: dtype float16, expected float32"),
        (torch.zeros(x.shape, dtype=torch.bfloat16), "x: "),
    ):
        with pytest.raises(tvmconv.SpecError, match=match) as caught:
            bound(bad)
        libraries.assert_one_line(caught)


def misaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return at_offset(array, 1)


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


BAD = [
    ("shape", lambda a: a[:, :-1].copy(), "{name}: shape .* expected .* of rank 4"),
    ("rank", lambda a: a[0].copy(), "{name}: shape .* of rank 3, expected .* of rank 4"),
    ("dtype", lambda a: a.astype(np.float64), "{name}: dtype float64, expected float32"),
    ("order", lambda a: a.astype(">f4"), "{name}: dtype >f4, expected float32"),
    ("address", misaligned, "{name}: data at address 0x[0-9a-f]+, expected a multiple of 4"),
    ("list", lambda a: a.tolist(), "{name}: list, expected a NumPy array, or a DLPack array in CPU memory"),
    ("number", lambda a: 3, "{name}: int, expected a NumPy array"),
]
BAD_OUT = [
    *BAD,
    ("strides", strided, r"out: strides .*, expected a contiguous array"),
    ("read-only", read_only, "out: read-only, expected a writable array"),
]


@pytest.mark.parametrize(("make", "match"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
@pytest.mark.parametrize("name", ["x", "w"])
def test_bad_inputs(dw: tvmconv.Function, bound: tvmconv.Bound, name: str, make: Any, match: str) -> None:
    given = dict(zip(("x", "w", "bias"), libraries.case("dw"), strict=False))
    given[name] = make(given[name])
    match = match.format(name=name)
    calls = [lambda: dw(*given.values())]
    if name == "x":
        out = np.full(libraries.SPECS["dw"].output_shape, 7, np.float32)
        calls += [lambda: bound(given["x"]), lambda: bound(given["x"], out=out)]
    else:
        calls += [lambda: dw.bind(given["w"], given["bias"])]
    for call in calls:
        with pytest.raises(tvmconv.SpecError, match=match) as caught:
            call()
        libraries.assert_one_line(caught)
    assert name == "w" or (out == 7).all()


@pytest.mark.parametrize(("make", "match"), [pytest.param(*case[1:], id=case[0]) for case in BAD_OUT])
def test_bad_out(dw: tvmconv.Function, bound: tvmconv.Bound, make: Any, match: str) -> None:
    x, w, bias, expected = libraries.case("dw")
    out = make(np.full(expected.shape, 7, np.float32))
    for call in (lambda: dw(x, w, bias, out=out), lambda: bound(x, out=out)):
        with pytest.raises(tvmconv.SpecError, match=match.format(name="out")) as caught:
            call()
        libraries.assert_one_line(caught)
    assert (np.asarray(out) == 7).all() or match.startswith("{name}: int")


def test_bound_refuses_what_is_not_contiguous(bound: tvmconv.Bound) -> None:
    x, _, _, expected = libraries.case("dw")
    out = np.full(expected.shape, 7, np.float32)
    for bad in (strided(x), x[:, ::-1]):
        for given in (None, out):
            with pytest.raises(tvmconv.SpecError, match=r"x: strides .*, expected a contiguous array"):
                bound(bad, out=given)
    assert (out == 7).all()


def test_overlap(dw: tvmconv.Function, bound: tvmconv.Bound) -> None:
    _, w, bias, expected = libraries.case("dw")
    count = expected.size
    memory = np.arange(2 * count + 8, dtype=np.float32)
    before = memory.copy()
    x = memory[:count].reshape(expected.shape)
    for shift in (0, 1, count - 1):
        out = memory[shift : shift + count].reshape(expected.shape)
        for call in (lambda out=out: dw(x, w, bias, out=out), lambda out=out: bound(x, out=out)):
            with pytest.raises(tvmconv.SpecError, match="out: overlaps x, expected memory of its own"):
                call()
    with pytest.raises(tvmconv.SpecError, match="out: overlaps w"):
        dw(expected.astype(np.float32), memory[: w.size].reshape(w.shape), bias, out=x)
    np.testing.assert_array_equal(memory, before)
    bound(x, out=memory[count : 2 * count].reshape(expected.shape))  # next to it is fine
    np.testing.assert_array_equal(memory[:count], before[:count])


def test_arguments_that_are_missing_or_too_many(module: tvmconv.Module) -> None:
    x, w, bias, _ = libraries.case("dw")
    for call, match in (
        (lambda: module["dw"](x, w), r"bias: None, expected an array of shape \(24,\)"),
        (lambda: module["dw"](x), "w: None, expected an array of shape"),
        (lambda: module["dw"].bind(w), "bias: None"),
        (lambda: module["dw"](x, w, bias, x), "arguments: 4, expected at most 3: x, w, bias"),
        (lambda: module["dw"].bind(w, bias, w), "arguments: 3, expected at most 2: w, bias"),
        (lambda: module["dw"].bind(w, bias)(x, x), "inputs: 2, expected 1: x"),
        (lambda: module["pw"].bind(libraries.case("pw")[1], bias), "bias: ndarray, expected None"),
    ):
        with pytest.raises(tvmconv.SpecError, match=match):
            call()


def test_several_inputs() -> None:
    """A residual goes the short way or, where it is not quite in order, the long one: the result is one."""
    spec = tvmconv.ConvSpec.parse("conv2d:1x5x7x6:o8:k1x1:NHWC:float32:bias:residual")
    rng = np.random.default_rng(0)
    x, w, bias, r = (
        rng.random(shape, np.float32)
        for shape in (spec.input_shape, spec.weight_shape, spec.bias_shape, spec.output_shape)
    )
    bound = tvmconv.compile({"f": spec}).load()["f"].bind(w, bias)
    expected = bound.run((x, r), None, copy=False)
    np.testing.assert_allclose(expected, np.einsum("nhwi,io->nhwo", x, w[0, 0]) + bias + r, rtol=1e-5)
    out = np.empty(spec.output_shape, np.float32)
    for given in (r, read_only(r), torch.from_numpy(r), at_offset(r, 4)):
        np.testing.assert_array_equal(bound(x, given), expected)
        assert bound(x, given, out=out) is out
        np.testing.assert_array_equal(out, expected)
    whole = np.zeros(2 * r.size, np.float32)
    inside, over = whole[: r.size].reshape(r.shape), whole[5 : 5 + r.size].reshape(r.shape)
    for bad, match in (
        ((x, r[:, :-1].copy()), "residual: shape"), ((x, r.astype(np.float64)), "residual: dtype float64"),
        ((x,), "inputs: 1, expected 2: x, residual"), ((x, r, r), "inputs: 3, expected 2: x, residual"),
        ((x, bytearray(r.nbytes)), "residual: bytearray"), ((x, misaligned(r)), "residual: data at address"),
        ((x, r[..., ::-1]), "residual: strides"),
    ):  # fmt: skip
        with pytest.raises(tvmconv.SpecError, match=match):
            bound(*bad)
    with pytest.raises(tvmconv.SpecError, match="out: overlaps residual"):
        bound(x, inside, out=over)
    assert not whole.any()
