"""load, functions, bound functions: right for every kind of array, and errors before any code runs."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import pytest

import tvmconv
from tvmconv.runtime import arrays, cpu

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def module() -> tvmconv.Module:
    return libraries.module()


@pytest.fixture(scope="module")
def dw(module: tvmconv.Module) -> tvmconv.Function:
    return module["dw"]


@pytest.fixture(scope="module")
def bound(dw: tvmconv.Function) -> tvmconv.Bound:
    return dw.bind(*libraries.case("dw")[1:3])


def strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, every second element of another array."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def at_offset(array: np.ndarray[Any, Any], offset: int) -> np.ndarray[Any, Any]:
    """The same values at so many bytes after a multiple of 64."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


# ---- results ----


@pytest.mark.parametrize("name", list(libraries.SPECS))
def test_every_way_to_call(module: tvmconv.Module, name: str) -> None:
    x, w, bias, expected = libraries.case(name)
    function = module[name]
    libraries.assert_right(function(x, w, bias), expected)
    out = np.empty(expected.shape, np.float32)
    assert function(x, w, bias, out=out) is out
    libraries.assert_right(out, expected)
    f = function.bind(w, bias)
    libraries.assert_right(f(x), expected)
    out = np.empty(expected.shape, np.float32)
    assert f(x, out=out) is out
    libraries.assert_right(out, expected)
    assert f(x).shape == expected.shape


def test_module_is_an_ordered_mapping(module: tvmconv.Module) -> None:
    assert list(module) == list(module.functions) == list(libraries.SPECS)
    assert len(module) == len(libraries.SPECS)
    assert "dw" in module and "other" not in module
    assert module.manifest["functions"][0]["name"] == "dw" and module.path.exists()
    function = module["dw"]
    assert function.name == "dw" and function.descriptor == str(libraries.SPECS["dw"])
    assert [a.name for a in function.arguments] == ["x", "w", "bias", "y"]
    bound = function.bind(*libraries.case("dw")[1:3])
    assert all("dw" in repr(thing) for thing in (module, function, bound)) and bound.name == "dw"
    with pytest.raises(tvmconv.SpecError, match=r"function: 'dv', expected one in .*, as dw"):
        module["dv"]
    with pytest.raises(TypeError):
        module.functions["dw"] = function  # type: ignore[index]


def test_results_are_aligned_to_a_cache_line(bound: tvmconv.Bound) -> None:
    x = libraries.case("dw")[0]
    assert all(arrays.address(bound(x)) % 64 == 0 for _ in range(5))


@pytest.mark.parametrize("offset", [4, 12, 32, 60])
def test_any_element_aligned_offset(bound: tvmconv.Bound, offset: int) -> None:
    x, w, bias, expected = libraries.case("dw")
    out = at_offset(np.zeros(expected.shape, np.float32), 64 - offset)
    libraries.assert_right(bound(at_offset(x, offset), out=out), expected)
    f = libraries.module()["dw"].bind(at_offset(w, offset), at_offset(bias, offset))
    libraries.assert_right(f(x), expected)


def test_weights_are_copied(dw: tvmconv.Function) -> None:
    x, w, bias, expected = libraries.case("dw")
    w, bias = w.copy(), bias.copy()
    f = dw.bind(w, bias)
    w[...] = 0
    bias[...] = np.nan
    libraries.assert_right(f(x), expected)


def test_bound_is_immutable(bound: tvmconv.Bound) -> None:
    for name in ("x", "name", "descriptor"):
        with pytest.raises(AttributeError):
            setattr(bound, name, 1)


def test_strided_and_read_only_inputs(dw: tvmconv.Function) -> None:
    x, w, bias, expected = libraries.case("dw")
    assert not x.flags.writeable
    libraries.assert_right(dw(strided(x), strided(w), strided(bias)), expected)
    nhwc = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    libraries.assert_right(dw(nhwc, w, bias), expected)
    negative = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    libraries.assert_right(dw(negative, w, bias), expected)
    libraries.assert_right(dw.bind(strided(w), strided(bias))(x), expected)


def test_subclasses_and_mapped_files(bound: tvmconv.Bound, tmp_path: Path) -> None:
    x, _, _, expected = libraries.case("dw")
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    libraries.assert_right(bound(mapped), expected)


def test_empty_batch(module: tvmconv.Module) -> None:
    x, w, bias, expected = libraries.case("none")
    assert expected.shape == (0, 6, 5, 32)
    out = np.empty(expected.shape, np.float32)
    assert module["none"].bind(w, bias)(x, out=out) is out
    assert module["none"](torch.from_numpy(x.copy()), w, bias).shape == expected.shape


# ---- DLPack ----


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
        assert_one_line(caught)


# ---- arrays that do not fit ----


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
        assert_one_line(caught)
    assert name == "w" or (out == 7).all()


@pytest.mark.parametrize(("make", "match"), [pytest.param(*case[1:], id=case[0]) for case in BAD_OUT])
def test_bad_out(dw: tvmconv.Function, bound: tvmconv.Bound, make: Any, match: str) -> None:
    x, w, bias, expected = libraries.case("dw")
    out = make(np.full(expected.shape, 7, np.float32))
    for call in (lambda: dw(x, w, bias, out=out), lambda: bound(x, out=out)):
        with pytest.raises(tvmconv.SpecError, match=match.format(name="out")) as caught:
            call()
        assert_one_line(caught)
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


# ---- machines ----


def test_library_for_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = libraries.variant(names=["pw"]).export(tmp_path / "a.so")
    monkeypatch.setattr(cpu, "host_arch", lambda: "aarch64")
    expected = r"a\.so is for x86_64 \(.*\), expected aarch64, this machine"
    with pytest.raises(tvmconv.ArtifactError, match=expected):
        tvmconv.load(path)


def test_features_that_this_cpu_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ("ssse3", "avx512f", "avx512vl")
    path = libraries.variant(names=["pw"], requires=needs).export(tmp_path / "a.so")
    here = cpu.host_features()
    v2 = frozenset({"cx16", "lahf_lm", "popcnt", "sse3", "sse4_1", "sse4_2", "ssse3"})
    monkeypatch.setattr(cpu, "host_features", lambda: v2)
    expected = r"needs avx512f, avx512vl, which this CPU lacks; compile with --target x86-64-v2$"
    with pytest.raises(tvmconv.ArtifactError, match=expected) as caught:
        tvmconv.load(path)
    assert_one_line(caught)
    monkeypatch.setattr(cpu, "host_features", frozenset)  # nothing can be told: the library decides
    if here.issuperset(needs):
        x, w, bias, y = libraries.case("pw")
        libraries.assert_right(tvmconv.load(path)["pw"](x, w, bias), y)


@pytest.mark.skipif(cpu.host_arch() != "x86_64", reason="x86")
def test_host_features() -> None:
    features = cpu.host_features()
    assert features <= set(cpu.FEATURES["x86_64"]) and "ssse3" in features
    assert cpu.suggest_target() in ("x86-64-v2", "x86-64-v3", "x86-64-v4")


# ---- threads and costs ----


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_set_num_threads_refuses(n: Any) -> None:
    with pytest.raises(tvmconv.SpecError, match=r"n: .*, expected a positive integer"):
        tvmconv.set_num_threads(n)


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tvm", "tvm_ffi", "torch", "ziglang", "onnx", "typer"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def python(script: str, **options: Any) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runs_with_numpy_alone(tmp_path: Path) -> None:
    x, w, bias, expected = libraries.case("dw")
    libraries.library().export(tmp_path / "conv.so")
    np.savez(tmp_path / "data.npz", x=x, w=w, bias=bias, expected=expected)
    said = python(BLOCK + """
import numpy as np
import tvmconv
module = tvmconv.load("conv.so")
data = np.load("data.npz")
y = module["dw"](data["x"], data["w"], data["bias"])
np.testing.assert_allclose(y, data["expected"], rtol=1e-4, atol=1e-4)
np.testing.assert_array_equal(module["dw"].bind(data["w"], data["bias"])(data["x"]), y)
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("tvmconv.")}))
""", cwd=tmp_path)  # fmt: skip
    assert set(said.split()) == {"artifact", "errors", "runtime"}


def test_import_is_cheap() -> None:
    """``import tvmconv`` takes at most 1.5 times what ``import numpy`` does; medians of fresh processes."""

    def seconds(statement: str) -> float:
        start = time.perf_counter()
        python(statement)
        return time.perf_counter() - start

    rounds = [(seconds("import numpy"), seconds("import tvmconv")) for _ in range(7)]
    numpy, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
    assert ours <= 1.5 * numpy


def test_names_are_lazy_and_listed() -> None:
    script = "import sys, tvmconv; print('numpy' in sys.modules, 'tvm' in sys.modules, *dir(tvmconv))"
    said = python(script).split()
    assert said[:2] == ["False", "False"] and set(tvmconv.__all__) <= set(said)
    assert re.match(r"\d+\.\d+", tvmconv.__version__)
    for name in tvmconv.__all__:
        assert getattr(tvmconv, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        tvmconv.nothing  # noqa: B018
