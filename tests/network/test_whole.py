"""Whole networks in one library: from Python, from C, on the command line, on an ARM CPU."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import edge
import libraries
import numpy as np
import onnx
import pytest
import torch
from cli_tools import tool
from libraries import run
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net
from places import DATA
from small_networks import assert_near, model, node, session_results

import tvmconv
from tvmconv import cli
from tvmconv.bench import roofline
from tvmconv.formats import manifest as manifests
from tvmconv.network import checking
from tvmconv.network import compiling as networks
from tvmconv.network.planning import doors
from tvmconv.network.planning import weights as planned_weights

HERE = "x86-64-v3"


def network() -> onnx.ModelProto:
    """Inputs x and r, results z and y: residual, split, concatenation, pooling, Gemm, softmax."""
    net = Net((1, 8, 10, 9))
    net.inputs.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, (1, 16, 10, 9)))
    a = net.conv("x", 8, 16, (1, 1), bias=True)
    a = net.op("Clip", a, net.const(0.0), net.const(6.0))
    b = net.op("Relu", net.batch_norm(net.conv(a, 16, 16, group=16, pads=[1] * 4), 16))
    c = net.op("Add", net.conv(b, 16, 16, (1, 1)), "r")
    left = net.op("Split", c, net.const([6, 10], "int64"), outputs=2, axis=1)
    right = net.nodes[-1].output[1]
    pooled = net.op("MaxPool", right, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    z = net.op("Concat", pooled, net.op("HardSwish", left), axis=1)
    y = net.op("Flatten", net.op("GlobalAveragePool", z))
    y = net.op("Softmax", net.op("Gemm", y, net.random(16, 5), net.random(5)), axis=1)
    net.nodes += [helper.make_node("Identity", [z], ["z"]), helper.make_node("Identity", [y], ["y"])]
    return net.model("z", "y")


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"x": (1, 8, 10, 9), "r": (1, 16, 10, 9)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, and by the command line net.so and net.h."""
    made = tmp_path_factory.mktemp("net")
    onnx.save(network(), made / "net.onnx")
    done = tool("compile", "--onnx", "net.onnx", "--whole", "-o", "net.so", "-t", HERE, "-j", 1, cwd=made)
    assert done.returncode == 0, done.stderr
    assert "8x10x9" in done.stdout and "bytes of workspace" in done.stdout
    return made


@pytest.fixture(scope="module")
def main(folder: Path) -> tvmconv.Function:
    return tvmconv.load(folder / "net.so")["main"]


def results(case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return session_results(network(), case)


# ---- from Python ----


def test_call(main: tvmconv.Function) -> None:
    case = feeds()
    wanted = results(case)
    assert_near(dict(zip("zy", main(case["x"], case["r"]), strict=True)), wanted)
    out = [np.zeros_like(array) for array in wanted.values()]
    assert main(*case.values(), out=out) is out
    assert_near(dict(zip("zy", out, strict=True)), wanted)
    z, y = main(*(torch.from_numpy(array) for array in case.values()))  # by DLPack
    assert isinstance(z, torch.Tensor)
    assert_near({"z": z.numpy(), "y": y.numpy()}, wanted)


def test_threads(main: tvmconv.Function) -> None:
    cases = [feeds(seed) for seed in range(6)]

    def many(case: dict[str, np.ndarray]) -> None:
        wanted = results(case)
        for _ in range(30):
            assert_near(dict(zip("zy", main(*case.values()), strict=True)), wanted)

    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(many, cases))


def test_refused(main: tvmconv.Function) -> None:
    x, r = feeds().values()
    for arrays, words in (
        ((x,), "inputs: 1, expected 2: x, r"),
        ((x, x), "r: shape (1, 8, 10, 9) of rank 4, expected (1, 16, 10, 9) of rank 4 (NCHW)"),
        ((x.astype(np.float64), r), "x: dtype float64, expected float32"),
    ):
        with pytest.raises(tvmconv.SpecError) as caught:
            main(*arrays)
        assert words in str(caught.value)
        libraries.assert_one_line(caught)


def test_own_workspace(main: tvmconv.Function) -> None:
    case = feeds()
    wanted, size = results(case), main.workspace_bytes
    memory = np.zeros(size + 128, np.uint8)
    start = -memory.ctypes.data % 64
    workspace = memory[start : start + size]
    assert_near(dict(zip("zy", main(*case.values(), workspace=workspace), strict=True)), wanted)
    out = [np.zeros_like(array) for array in wanted.values()]
    assert main.on(*case.values(), out=out, workspace=workspace)() is out
    assert_near(dict(zip("zy", out, strict=True)), wanted)
    fixed = workspace.copy()
    fixed.flags.writeable = False
    for memory_given, words in (
        (workspace[:-1], f"workspace: {size - 1} bytes, expected {size} or more"),
        (memory[start + 4 : start + 4 + size], "net_main: workspace is at"),
        (fixed, "workspace: read-only or not contiguous"),
        (np.zeros((size, 2), np.uint8)[:, 0], "workspace: read-only or not contiguous"),
    ):
        with pytest.raises(tvmconv.SpecError) as caught:
            main(*case.values(), workspace=memory_given)
        assert words in str(caught.value)
        libraries.assert_one_line(caught)


def test_channels_last_at_the_door(folder: Path) -> None:
    module = tvmconv.compile_network(folder / "net.onnx", HERE, layout="nhwc", name="forward", jobs=1).load()
    case, (entry,) = feeds(), module.manifest["functions"]
    assert [a["layout"] for a in entry["arguments"]] == ["NHWC", "NHWC", "NHWC", ""]
    z, y = module["forward"](*(np.moveaxis(array, 1, -1) for array in case.values()))
    assert_near({"z": np.moveaxis(z, -1, 1), "y": y}, results(case))


def test_names_and_results_of_any_kind() -> None:
    """Names that are not C identifiers; a result that is an input, a constant, or given twice."""
    net = Net((1, 4, 5, 6))
    y = net.op("Relu", net.conv("x", 4, 4, (1, 1)))
    net.nodes += [helper.make_node("Identity", [name], [to]) for name, to in (
        (y, "a/b:0"), (y, "A_b_0"), ("x", "same"), (net.const([[1.5, 2.5]]), "1"))]  # fmt: skip
    proto = net.model("a/b:0", "A_b_0", "same", "1")
    module = networks.compile(proto, HERE, prefix="net", jobs=1).load()
    (entry,) = module.manifest["functions"]
    assert [a["name"] for a in entry["arguments"]] == ["x", "a_b_0", "A_b_0_2", "same", "x1"]
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 6), np.float32)
    found = dict(zip(("a/b:0", "A_b_0", "same", "1"), module["main"](x), strict=True))
    assert_near(found, session_results(proto, {"x": x}))


def test_computed_weights() -> None:
    """A convolution whose weights the network computes packs them in every call."""
    net = Net((1, 4, 6, 6))
    pooled = net.op("GlobalMaxPool", net.conv("x", 4, 8, (1, 1)))
    y = net.op("Conv", "x", net.op("Reshape", pooled, net.const([2, 4, 1, 1], "int64")))
    proto, x = net.model(y), np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)
    module = networks.compile(proto, HERE, jobs=1).load()
    assert_near({y: module["main"](x)}, session_results(proto, {"x": x}))


def test_other_types_and_steps_of_several_results() -> None:
    """Booleans and int64 as inputs and results; an LSTM, which has three results."""
    net = Net((1, 4, 5, 6))
    net.inputs.append(helper.make_tensor_value_info("flags", TensorProto.BOOL, (1, 4, 5, 6)))
    some = net.op("Where", "flags", "x", net.const(0.5))
    kinds = net.model(net.op("Greater", some, net.const(0.0)), net.op("ArgMax", some, axis=1), some)
    net = Net((7, 1, 5))
    net.op("LSTM", "x", net.random(1, 24, 5), net.random(1, 24, 6), outputs=3, hidden_size=6)
    for proto in (kinds, net.model(*net.nodes[-1].output)):
        found = networks.read(proto)
        module, case = networks.compile(found, HERE, jobs=1).load(), checking.feeds_of(found)
        if "flags" in case:
            case["flags"] = case["x"] > 0
        for one in checking.compare(found, module, case):
            assert one.ok, one


def test_rounding_in_the_middle_of_an_expression() -> None:
    """Floats quantised and dequantised by one step: every bit as onnxruntime has it, ties too."""
    net = Net((1, 4, 5, 6))
    given = (net.const(0.25), net.const(3, "uint8"))
    y = net.op("DequantizeLinear", net.op("QuantizeLinear", "x", *given), *given)
    proto, x = net.model(y), (np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6) - 60) / 8
    module = networks.compile(proto, HERE, jobs=1).load()
    np.testing.assert_array_equal(module["main"](x), session_results(proto, {"x": x})[y])


def test_a_sigmoid_near_0_may_err_as_sigmoids_do() -> None:
    """The range of such results says nothing about their rounding."""
    net = Net((1, 4, 8, 8))
    far = net.op("Sub", net.op("Mul", net.conv("x", 4, 6, (3, 3)), net.const(0.1)), net.const(12.0))
    found = networks.read(net.model(net.op("Sigmoid", far)))
    module, case = networks.compile(found, HERE, jobs=1).load(), checking.feeds_of(found)
    (one,) = checking.compare(found, module, case)
    assert one.ok and one.range < 1e-3 and one.tolerance > 1e-5, one
    assert checking.first_deviation(found, module, "main", case) is None


# ---- what is not right ----


def test_a_step_that_deviates_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = planned_weights.packed_weights

    def wrong(kernel, arrays):
        found = pack(kernel, arrays)
        return bytes(len(found)) if ":g16:" in kernel.descriptor else found

    monkeypatch.setattr(planned_weights, "packed_weights", wrong)
    found = networks.read(folder / "net.onnx")
    module, case = networks.compile(found, HERE, jobs=1).load(), feeds()
    assert not all(one.ok for one in checking.compare(found, module, case))
    deviation = checking.first_deviation(found, module, "main", case)
    assert deviation is not None
    assert "Conv_" in deviation.source and "BatchNormalization" in deviation.source
    assert ":g16:" in deviation.descriptor


def test_a_damaged_library_is_found_out(folder: Path, tmp_path: Path) -> None:
    """The steps that are checked are the file's: here one number of a layer's weights is another."""
    data, case = (folder / "net.so").read_bytes(), feeds()
    (gemm,) = (array for array in network().graph.initializer if list(array.dims) == [5])
    weights = numpy_helper.to_array(gemm).tobytes()
    assert data.count(weights) == 1
    wrong = data.replace(weights, weights[:16] + np.float32(100).tobytes())
    (tmp_path / "net.so").write_bytes(manifests.seal(wrong, manifests.read(folder / "net.so")["libc"])[0])
    module = tvmconv.load(tmp_path / "net.so")
    deviation = checking.first_deviation(networks.read(folder / "net.onnx"), module, "main", case)
    assert deviation is not None and "Gemm" in deviation.source
    whole = tvmconv.load(folder / "net.so")
    assert checking.first_deviation(networks.read(folder / "net.onnx"), whole, "main", case) is None
    other = networks.read(folder / "net.onnx", layout="nhwc")
    with pytest.raises(tvmconv.Error, match="expected"):
        checking.first_deviation(other, whole, "main", case)


# ---- what takes how long ----


def test_trace(folder: Path) -> None:
    """Calls from several threads and processes add to one file, which is whole JSON."""
    script = f"""
import os, threading, numpy as np, tvmconv
main = tvmconv.load({str(folder / "net.so")!r})["main"]
x = [np.zeros(a.shape, np.float32) for a in main.arguments if a.role == "input"]
os.chdir("/")
threads = [threading.Thread(target=main, args=x) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if os.fork() == 0: main(*x), os._exit(0)
os.wait()
"""
    trace, environment = folder / "trace.json", {**os.environ, "TVMCONV_TRACE": "trace.json"}
    done = run(sys.executable, "-c", script, cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    events = json.loads(trace.read_text())
    calls = [event for event in events if event["name"] == "net_main"]
    steps = [event for event in events if event["name"] != "net_main"]
    (facts,) = manifests.read(folder / "net.so")["functions"]
    assert len(calls) == 4 and len(steps) == 4 * len(facts["steps"])
    assert len({event["pid"] for event in calls}) == 2 and len({event["tid"] for event in calls}) == 4
    assert [event["args"]["kernel"] for event in steps[: len(facts["steps"])]] == facts["steps"]
    assert any("Conv_" in event["args"].get("nodes", "") for event in steps)
    for call in calls:
        own = [event for event in steps if event["tid"] == call["tid"] and event["pid"] == call["pid"]]
        assert sum(event["dur"] for event in own) == pytest.approx(call["dur"], abs=1)
        assert min(event["ts"] for event in own) == call["ts"]
    trace.write_text("something else\n")
    done = run(sys.executable, "-c", script, cwd=folder, env=environment)
    assert done.returncode == 0 and "trace.json: holds something else, expected a trace" in done.stderr
    assert trace.read_text() == "something else\n"


def test_steps_are_timed(folder: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SAMPLES", 1)
    monkeypatch.setattr(roofline, "SECONDS", 1e-4)
    command = ["run", str(folder / "net.so"), "--time", "--steps", "-n", "3", "--json"]
    assert cli.main(command) == 0
    (row,) = json.loads(capsys.readouterr().out)["functions"]
    assert [step["step"] for step in row["steps"]] == list(range(1, len(row["steps"]) + 1))
    assert sum(step["share"] for step in row["steps"]) == pytest.approx(1)
    assert all(step["roof"] >= 0 and step["microseconds"] > 0 for step in row["steps"])
    assert cli.main(command[:-1]) == 0
    shown = capsys.readouterr().out
    assert "% of roof" in shown and f"main, {len(row['steps'])} steps" in shown
    assert cli.main([*command[:2], "--no-time"]) == 0 and "µs" not in capsys.readouterr().out


@pytest.mark.parametrize(("nodes", "options", "words"), [
    ([helper.make_node("Det", ["x"], ["y"], "det")], {},
     "node det: Det (node 1 of 1) is not supported in a whole network; cut the model before it"),
    ([node("Relu", "x", "y")], {"layout": "chwn"}, "layout: 'chwn', expected one of auto, nchw, nhwc"),
    ([node("Relu", "x", "y")], {"target": "cuda-sm_80"}, "target: cuda-sm_80, expected CPUs"),
    ([node("Relu", "x", "y")], {"name": "for you"}, "function name: 'for you', expected a C identifier"),
    ([node("Relu", "x", "y")], {"fixed": {"z": 3}}, "value of 'z': model takes x"),
    ([node("Relu", "x", "y")], {"shapes": {"x": (1, 2)}}, "x"),
])  # fmt: skip
def test_errors(nodes, options, words) -> None:
    with pytest.raises(tvmconv.Error) as caught:
        networks.compile(model(*nodes), **{"target": HERE, **options})
    assert words in str(caught.value)
    libraries.assert_one_line(caught)


DAMAGED = {
    "operator": (model(helper.make_node("Det", ["x"], ["y"], "det")), "node det: Det (node 1 of 1)"),
    "open shape": (model(node("Relu", "x", "y"), shape=("n", 3, 8, 8)), "shape of 'x': missing"),
    "new": (model(node("Relu", "x", "y"), opset=999), "too new"),
    "old": (model(node("Relu", "x", "y"), opset=0), "opset 0 is unknown"),
    "cycle": (model(node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")),
              "computed from itself"),
    "nothing": (model(node("Relu", "nowhere", "y")), "'nowhere': nothing makes it"),
    "half": (model(node("Relu", "x", "y")).SerializeToString()[:-20], "a.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_bad_models_leave_one_line_and_no_file(tmp_path: Path, case: str, capsys, monkeypatch) -> None:
    proto, words = DAMAGED[case]
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    (tmp_path / "a.onnx").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compile", "--onnx", "a.onnx", "--whole", "-t", HERE, "-o", "a.so"]) == 2
    (said,) = [one for one in capsys.readouterr().err.splitlines() if "machine is busy" not in one]
    assert said.startswith("tvmconv: error: ") and words in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_dynamic_shapes_are_asked_for() -> None:
    with pytest.raises(tvmconv.Error, match="shape"):
        networks.compile(model(node("Relu", "x", "y"), shape=("n", 3, 8, 8)), HERE)


@pytest.mark.parametrize(("line", "words"), [
    ("compile --whole -o a.so", "--whole: needs --onnx MODEL"),
    ("compile --onnx net.onnx --whole --bake-weights -o a.so", "--bake-weights: expected without --whole"),
    ("compile --onnx net.onnx --whole --name a --name b -o a.so", "--name: a, b, expected one name"),
    ("compile --onnx net.onnx --whole conv2d:1x2x2x2:o2:k1x1:NHWC:float32 -o a.so", "no descriptors beside"),
    ("verify net.so --whole", "--whole: needs --onnx MODEL"),
    ("verify net.so --steps", "--steps: needs --whole"),
    ("verify --onnx net.onnx net.so --whole --time", "--time: expected without --whole"),
    ("verify net.so", "a whole network is compared with its model: verify --onnx MODEL"),
    ("bench net.so", "main is a whole network, expected layers"),
    ("run net.so --input z=q.npy", "no argument 'z', expected one of x, r"),
    ("run net.so --no-time --steps", "--no-time: expected without --steps"),
])  # fmt: skip
def test_refused_on_the_command_line(folder: Path, line: str, words: str, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(shlex.split(line)) == 2
    said = capsys.readouterr().err.splitlines()
    said = [one for one in said if "this machine is busy" not in one]
    assert len(said) == 1 and words in said[0]


# ---- the command line ----


def test_verbs(folder: Path) -> None:
    case = feeds()
    for name, array in case.items():
        np.save(folder / f"{name}.npy", array)
    for line, words in (
        ("inspect net.so", "network net.onnx"),
        ("inspect net.so main", "Gemm"),
        ("verify --onnx net.onnx net.so --whole --steps", "no step deviates"),
        ("verify net.so --onnx net.onnx --input x=x.npy --input r=r.npy", "2 results against"),
        ("run net.so --input x=x.npy --input r=r.npy -o out.npz", "main"),
        ("run net.so", "random numbers stood in for: main x, r"),
    ):
        done = tool(*shlex.split(line), cwd=folder)
        assert done.returncode == 0 and words in done.stdout, done
    with np.load(folder / "out.npz") as out:
        assert_near({name: out[name] for name in ("z", "y")}, results(case))


# ---- from C ----


def c_case(folder: Path) -> None:
    """The program and what it is to find."""
    case = feeds()
    data = [*case.values(), *results(case).values()]
    (folder / "case").write_bytes(b"".join(array.tobytes() for array in data))
    shutil.copy(DATA / "program.c", folder / "main.c")


C_OPTIONS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "main.c"]


def test_c_program(folder: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    c_case(folder)
    linked = ["net.so", "-o", "main", "-pthread", "-lm", f"-Wl,-rpath,{folder}"]
    built = run("cc", C_OPTIONS, linked, cwd=folder)
    assert built.returncode == 0, built.stderr
    done = run(folder / "main", cwd=folder)
    assert (done.returncode, done.stdout) == (0, f"{HERE}: right\n"), done


@pytest.mark.skipif(find_spec("ziglang") is None, reason="no ziglang")
def on_arm(folder: Path, library: str, target: str, arch: str, cpus: dict[str, str]) -> None:
    """Link the program with the library, and run it on each CPU; it says which variant it was."""
    compiler = [*shlex.split(libraries.ZIG), "-target", target]
    options = ["./" + library, "-o", "main", "-pthread", "-lm", "-Wl,-rpath,$ORIGIN"]
    built = run(compiler, C_OPTIONS, options, cwd=folder)
    assert built.returncode == 0, built.stderr
    for cpu, variant in cpus.items():
        done = run(edge.emulator(arch, cpu), folder / "main", cwd=folder)
        assert (done.returncode, done.stdout) == (0, f"{variant}: right\n"), done


def test_c_program_on_arm(folder: Path, tmp_path: Path) -> None:
    """Of two variants, by the CPU; linked in, and loaded."""
    c_case(tmp_path)
    library = networks.compile(folder / "net.onnx", ["cortex-a76", "cortex-a53"], jobs=1)
    for name in ("net.a", "net.so"):
        library.export(tmp_path / name)
        cpus = {cpu: cpu for cpu in ("cortex-a76", "cortex-a53")}
        on_arm(tmp_path, name, "aarch64-linux-gnu.2.17", "aarch64", cpus)


def test_c_program_on_32_bit_arm(folder: Path, tmp_path: Path) -> None:
    c_case(tmp_path)
    networks.compile(folder / "net.onnx", "armv7-neon", jobs=1).export(tmp_path / "net.so")
    on_arm(tmp_path, "net.so", "arm-linux-gnueabihf.2.17", "armv7", {"cortex-a7": "armv7-neon"})


def test_identifiers() -> None:
    names = ["x", "X", "a.b", "a/b", "", "1", "_", "workspace", "x" * 99]
    found = ["x", "X_2", "a_b", "a_b_2", "x_3", "x1", "x_", "workspace_2", "x" * 60]
    assert doors.identifiers(names) == found
