"""Functions of several steps: constants, a planned workspace, several inputs and outputs."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import edge
import libraries
import numpy as np
import programs
import pytest
from cli_tools import tool
from guard import guarded, guarded_copy, in_child, outside_untouched
from libraries import run
from places import DATA, SUPPORT

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats import manifest as manifests
from tvmconv.formats.program import Place, Program, Variant, program, step
from tvmconv.schedules.machines import resolve

HERE = "x86-64-v3"
ONES = "conv2d:2x6x5x16:o32:k1x1:NHWC:float32"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.library(HERE).export(tmp_path_factory.mktemp("net") / "net.so")


@pytest.fixture(scope="module")
def main(path: Path) -> tvmconv.Function:
    return tvmconv.load(path)["main"]


def assert_right(results: Any, case: dict[str, np.ndarray]) -> None:
    for found, name in zip(results, ("z", "y"), strict=True):
        np.testing.assert_allclose(found, case[name], rtol=1e-4, atol=1e-4)


# ---- from Python ----


def test_call(main: tvmconv.Function) -> None:
    case = programs.case()
    assert_right(main(case["x"], case["r"]), case)
    assert_right(main(libraries.strided(case["x"]), case["r"]), case)
    out = [np.zeros(programs.SHAPES[name], np.float32) for name in ("z", "y")]
    assert main(case["x"], case["r"], out=out) is out
    assert_right(out, case)
    call, later = main.on(case["x"], case["r"], out=out), programs.case(1)
    case["x"][...], case["r"][...] = later["x"], later["r"]
    assert call() is out
    assert_right(out, later)


def test_threads(main: tvmconv.Function) -> None:
    cases = [programs.case(seed) for seed in range(8)]

    def many(case: dict[str, np.ndarray]) -> None:
        for _ in range(50):
            assert_right(main(case["x"], case["r"]), case)

    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(many, cases))


def test_refused(main: tvmconv.Function) -> None:
    x, r, z, y = (np.zeros(shape, np.float32) for shape in programs.SHAPES.values())
    for given, out, words in (
        ((x,), None, "inputs: 1, expected 2: x, r"),
        ((x, z), None, "r: shape (1, 9, 11, 24) of rank 4, expected (1, 9, 11, 16) of rank 4 (NHWC)"),
        ((x, r), y, "out: ndarray, expected a sequence of 2: z, y"),
        ((x, r), [z], "out: 1, expected a sequence of 2: z, y"),
        ((x, r), [z, z], "out[1]: shape"),
        ((x, r), [z, x], "out: overlaps x"),
        ((x, r), [z, z.reshape(-1)[: y.size].reshape(y.shape)], "net_main: y overlaps z"),
    ):
        with pytest.raises(tvmconv.SpecError) as caught:
            main(*given, out=out)
        assert words in str(caught.value)
        libraries.assert_one_line(caught)


def test_what_a_library_says(path: Path) -> None:
    (facts,) = manifests.read(path)["functions"]
    assert facts["steps"] == list(programs.SPECS.values()) and facts["symbol"] == "net_main"
    assert [(a["name"], a["role"]) for a in facts["arguments"]] == [
        ("x", "input"), ("r", "input"), ("z", "output"), ("y", "output")
    ]  # fmt: skip
    specs = [tvmconv.ConvSpec.parse(text) for text in programs.SPECS.values()]
    assert facts["flops"] == sum(spec.flops for spec in specs)
    assert facts["workspace_bytes"] == -(-(programs.BEFORE + 9 * 11 * 24 * 4) // 64) * 64
    assert manifests.read(path)["abi"] == 3  # a runtime that knows no such functions refuses them


def test_from_the_shell(path: Path) -> None:
    listed = tool("inspect", path)
    assert listed.returncode == 0 and "1x9x11x24, 1x9x11x16" in listed.stdout
    shown = tool("inspect", path, "main").stdout
    assert all(text in shown for text in programs.SPECS.values())
    ran = tool("run", path, "main", "-n", 2)
    assert ran.returncode == 0 and "random numbers stood in for: main x, r" in ran.stdout
    done = tool("verify", path)
    said = "tvmconv: error: function main: 3 steps, expected one that a descriptor stands for"
    assert done.returncode == 2 and done.stderr.startswith(said)


def test_loads_in_tvm(path: Path) -> None:
    script = f"""
import sys
import tvm
sys.path.insert(0, {str(SUPPORT)!r})
import numpy as np, programs
case = programs.case()
x, r, z, y = (tvm.runtime.tensor(np.zeros_like(a, np.float32) if n in "zy" else a) for n, a in case.items())
tvm.runtime.load_module({str(path)!r})["net_main"](x, r, z, y)
np.testing.assert_allclose(y.numpy(), case["y"], rtol=1e-4, atol=1e-4)
"""
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr


# ---- memory ----


def test_nothing_is_touched_outside(path: Path) -> None:
    for at in ("start", "end"):
        in_child(check_guarded, str(path), at)


def check_guarded(library: str, at: str) -> None:
    case = programs.case()
    (facts,) = manifests.read(library)["functions"]
    x, r = (guarded_copy(case[name], at=at) for name in ("x", "r"))
    z, y = (guarded(programs.SHAPES[name], at=at) for name in ("z", "y"))
    workspace = guarded((facts["workspace_bytes"],), np.uint8, at=at)
    entry = ctypes.CDLL(library).net_main
    arrays = [(ctypes.c_void_p * 2)(*(a.ctypes.data for a in pair)) for pair in ((x, r), (z, y))]
    assert entry(*arrays, ctypes.c_void_p(workspace.ctypes.data)) == 0
    assert_right((z, y), case)
    assert all(outside_untouched(array) for array in (z, y, workspace))
    assert (workspace[: programs.BEFORE] == 0xFF).all() and not (workspace == 0xFF).all()


# ---- from C ----


def c_files(folder: Path) -> list[str]:
    """Writes the program and its case into ``folder``; how it is compiled."""
    case = programs.case()
    data = b"".join(case[name].astype(np.float32).tobytes() for name in ("x", "r", "z", "y"))
    (folder / "case").write_bytes(data)
    shutil.copy(DATA / "program.c", folder / "main.c")
    return ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "main.c"]


@pytest.mark.parametrize("suffix", [".so", ".a"])
def test_c_program(suffix: str, tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    options, library = c_files(tmp_path), programs.library(HERE).export(tmp_path / f"net{suffix}")
    linked = [library, "-o", "main", "-pthread", "-lm", f"-Wl,-rpath,{tmp_path}"]
    built = run("cc", options, linked, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "main", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{HERE}: right\n"), done


@pytest.mark.skipif(find_spec("ziglang") is None, reason="no ziglang")
@pytest.mark.parametrize("suffix", [".so", ".a"])
def test_c_program_on_arm(suffix: str, tmp_path: Path) -> None:
    """Of two variants, by the CPU."""
    options = c_files(tmp_path)
    library = programs.library("cortex-a76", "cortex-a53").export(tmp_path / f"net{suffix}")
    compiler = [*shlex.split(libraries.ZIG), "-target", "aarch64-linux-gnu.2.17"]
    linked = [library, "-o", "main", "-pthread", "-lm", f"-Wl,-rpath,{tmp_path}"]
    built = run(compiler, options, linked, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    for cpu in ("cortex-a76", "cortex-a53"):
        done = run(edge.emulator("aarch64", cpu), tmp_path / "main", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"{cpu}: right\n"), done


# ---- programs that make no sense ----


def test_places_that_make_no_sense() -> None:
    kernel = tvmconv.compile({"pw": ONES}, HERE).functions["pw"]
    x, y, packed = Place("argument"), Place("argument", 1), Place("constant")
    blob = bytes(kernel.packed_bytes)

    def made(*steps: Any, **more: Any) -> Program:
        facts = {"constants": [blob], "workspace": 0, **more}
        return program("p", kernel.inputs, [kernel.output], steps, **facts)

    assert made(step(kernel, [x], y, packed)).workspace == 0
    def of(inputs: Any, outputs: Any) -> Program:
        return program("p", inputs, outputs, [whole], constants=[blob])

    inside, whole = Place("workspace", 0, 64), step(kernel, [x], y, packed)
    other = Variant(resolve("x86-64-v2"), {"f": kernel})
    for make, words in (
        (lambda: step(kernel, [x, x], y, packed), "2 inputs, expected 1: x"),
        (lambda: step(kernel, [x], y), "None, expected a place of 2048 bytes of packed weights"),
        (lambda: step(kernel, [x], y, packed.after(4)), "packed weights at 4, expected a multiple of 64"),
        (lambda: made(step(kernel, [y], y, packed)), "p: step 0: y at byte 0 of argument 1 overlaps x"),
        (lambda: made(step(kernel, [x], x, packed)), "byte 0 of argument 0, expected 7680 bytes within 3840"),
        (lambda: made(step(kernel, [x], packed, packed), constants=[bytes(7680)]),
         "y at byte 0 of constant 0, expected an output or the workspace"),
        (lambda: made(step(kernel, [x], inside, packed), workspace=7680),
         "y at byte 64 of workspace, expected 7680 bytes within 7680"),
        (lambda: made(step(kernel, [Place("argument", 0, -4)], y, packed)), "x at byte -4 of argument 0"),
        (lambda: made(step(kernel, [Place("argument", 2)], y, packed)), "expected a place that there is"),
        (lambda: made(step(kernel, [x], y, Place("constant", 0, 64))), "expected 2048 bytes within 2048"),
        (lambda: made(step(kernel, [x], inside._replace(offset=66), packed), workspace=9000),
         "y at byte 66 of workspace, expected a multiple of 4"),
        (lambda: of([], [kernel.output]), "p: 0 inputs and 1 outputs, expected some of each"),
        (lambda: program("p", kernel.inputs, [kernel.output], []), "p: no steps, expected some"),
        (lambda: of(kernel.inputs, [replace(kernel.output, name="X")]), "arguments x, X, expected names"),
        (lambda: of(kernel.inputs, [replace(kernel.output, name="a b")]), "p: argument 'a b', expected a C"),
        (lambda: of(kernel.inputs, [replace(kernel.output, shape=(0,))]), "y of no elements"),
        (lambda: Library({"f": made(whole)}, resolve(HERE), others=[other]).source(),
         "function f: other arrays on another target, expected the same on each"),
    ):  # fmt: skip
        with pytest.raises(tvmconv.SpecError) as caught:
            make()
        assert words in str(caught.value)
        libraries.assert_one_line(caught)


def test_a_large_workspace_is_kept(tmp_path: Path) -> None:
    """Of 80 MiB: after the first calls none is asked of the system, as a thread's page faults show."""
    kernel = tvmconv.compile({"pw": ONES}, HERE).functions["pw"]
    far, size = 80 << 20, kernel.output.nbytes
    again = tvmconv.compile({"p": "avgpool2d:2x6x5x32:k1x1:NHWC:float32"}, HERE).functions["p"]
    steps = [step(kernel, [Place("argument")], Place("workspace", 0, far), Place("constant")),
             step(again, [Place("workspace", 0, far)], Place("argument", 1))]  # fmt: skip
    made = program("far", kernel.inputs, [kernel.output], steps, constants=[bytes(kernel.packed_bytes)],
                   workspace=far + size)  # fmt: skip
    library = Library({"far": made}, resolve(HERE)).export(tmp_path / "far.so")
    in_child(check_kept, str(library))


def check_kept(library: str) -> None:
    far = tvmconv.load(library)["far"]
    assert np.all(far(np.ones((2, 6, 5, 16), np.float32)) == 0)
    mapped = [_mapped() for _ in range(3) if far(np.ones((2, 6, 5, 16), np.float32)) is not None]
    assert mapped[0] > 80 << 10 and mapped == mapped[:1] * 3


def _mapped() -> int:
    """KiB of address space."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmSize:")[1].split()[0])


def test_the_same_kernel_from_elsewhere_is_held_once() -> None:
    """As a network's before and after it was tuned; but what computes something else is another one."""
    (kernel,) = tvmconv.compile({"f": ONES}, HERE).functions.values()
    tuned = replace(kernel, schedule={**kernel.schedule, "source": "tuned"})
    library = Library({"before": kernel, "after": tuned}, resolve(HERE))
    assert library.manifest["functions"][1]["schedule"]["source"] == "tuned"
    module = library.load()
    arrays = [np.ones(argument.shape, np.float32) for argument in module["before"].arguments[:2]]
    np.testing.assert_array_equal(module["before"](*arrays), module["after"](*arrays))
    other = replace(kernel, object=kernel.object + b" ")
    with pytest.raises(tvmconv.ArtifactError, match="is also another kernel's"):
        Library({"before": kernel, "after": other}, resolve(HERE)).load()
