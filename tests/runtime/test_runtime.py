"""load, functions, bound functions: right results, checks of the machine, and what they cost."""

from __future__ import annotations

import gc
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
from libraries import at_offset, strided

import tvmconv
from tvmconv.formats import cpu_features as cpu
from tvmconv.runtime import arrays


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


def test_a_call_on_arrays_that_were_checked_before(dw: tvmconv.Function) -> None:
    """It computes from what they hold by then, keeps them alive, and refuses at once what a call refuses."""
    rng = np.random.default_rng(3)
    x, *weights = (rng.standard_normal(a.shape).astype(np.float32) for a in dw.arguments[:-1])
    bound = dw.bind(*weights)
    y = np.empty(dw.arguments[-1].shape, np.float32)
    call = bound.on(x, out=y)
    for _ in range(2):
        x[...] = rng.standard_normal(x.shape)
        assert call() is y
        np.testing.assert_array_equal(y, bound(x))
    frozen = x.copy()
    frozen.flags.writeable = False
    call, expected = bound.on(frozen, out=np.empty_like(y)), bound(x)
    del bound, frozen
    gc.collect()
    np.testing.assert_array_equal(call(), expected)
    bound = dw.bind(*weights)
    read_only = np.empty_like(y)
    read_only.flags.writeable = False
    for given, out, said in (
        ((x[:, :, :-1],), y, "x: shape"), ((x.astype(np.float64),), y, "x: dtype"),
        ((), y, "inputs: 0, expected"), ((x, x), y, "inputs: 2, expected"),
        ((x[:, :, ::-1],), y, "x: strides"), ((x,), y[..., :-1], "out: shape"),
        ((x,), read_only, "out: read-only"), ((x.tolist(),), y, "x: list, expected a NumPy array"),
        ((x,), None, "out: NoneType, expected a NumPy array"),
    ):  # fmt: skip
        with pytest.raises(tvmconv.SpecError, match=re.escape(said)):
            bound.on(*given, out=out)
    with pytest.raises(tvmconv.SpecError, match="overlaps"):
        whole = np.zeros(x.size + y.size, np.float32)
        bound.on(whole[: x.size].reshape(x.shape), out=whole[x.size - 1 :][: y.size].reshape(y.shape))


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
    assert module["none"](x, w, bias).shape == expected.shape


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
    libraries.assert_one_line(caught)
    monkeypatch.setattr(cpu, "host_features", frozenset)  # nothing can be told: the library decides
    if here.issuperset(needs):
        x, w, bias, y = libraries.case("pw")
        libraries.assert_right(tvmconv.load(path)["pw"](x, w, bias), y)


@pytest.mark.skipif(cpu.host_arch() != "x86_64", reason="x86")
def test_host_features() -> None:
    features = cpu.host_features()
    assert features <= set(cpu.FEATURES["x86_64"]) and "ssse3" in features
    assert cpu.suggest_target() in ("x86-64-v2", "x86-64-v3", "x86-64-v4")


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
before = set(sys.modules)
import tvmconv
module = tvmconv.load("conv.so")
import numpy as np
data = np.load("data.npz")
y = module["dw"](data["x"], data["w"], data["bias"])
np.testing.assert_allclose(y, data["expected"], rtol=1e-4, atol=1e-4)
np.testing.assert_array_equal(module["dw"].bind(data["w"], data["bias"])(data["x"]), y)
print(*{name.split(".")[1] for name in sys.modules if name.startswith("tvmconv.")})
others = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(*(name for name in others if not name.startswith("_sysconfigdata")))
""", cwd=tmp_path)  # fmt: skip
    rooms, packages = (set(line.split()) for line in said.splitlines())
    assert rooms <= {"base", "specs", "formats", "runtime"} and packages == {"tvmconv", "numpy"}


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
