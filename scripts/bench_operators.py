"""Operators of networks beside onnxruntime's, a node each: interleaved, medians and their ratio.

    python scripts/bench_operators.py [--threads 1] [--rounds 15] [NAME...]

Both are called with arrays that stay where they are (onnxruntime by a binding). Under 5 microseconds it is
the call that is timed: onnxruntime's takes some, ours by ctypes about one.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tvmconv.base.clock import calls_for, timed
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.operators import build_kernel
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import Operator, Type, parse_operator
from tvmconv.specs.operators.copy import joined, permuted

OPSET = 18
SAMPLE = 0.004  # seconds


class Case(NamedTuple):
    """An operator, and the nodes that say the same: (type, inputs, attributes), in a row. constants: inputs
    that nodes take beside those."""

    operator: Operator
    nodes: Sequence[tuple[str, Sequence[str], dict[str, Any]]]
    constants: Mapping[str, Any] = MappingProxyType({})


def _image(*shape: int) -> Type:
    return Type(shape, "float32")


CASES = {
    "add_relu": Case(parse_operator("map:1x56x56x64,1x56x56x64:float32:relu(add(a,b))"),
                     [("Add", ["a", "b"], {}), ("Relu", ["-"], {})]),
    "se_multiply": Case(parse_operator("map:1x28x28x120,1x1x1x120:float32:mul(a,b)"),
                        [("Mul", ["a", "b"], {})]),
    "silu": Case(parse_operator("map:1x56x56x64:float32:silu(a)"),
                 [("Sigmoid", ["a"], {}), ("Mul", ["a", "-"], {})]),
    "global_mean": Case(parse_operator("reduce:1x56x56x64:float32:mean:1,2:keep"),
                        [("ReduceMean", ["a", "axes"], {"keepdims": 1})], {"axes": [1, 2]}),
    "softmax_1000": Case(parse_operator("normalise:1x1000:float32:softmax:1"),
                         [("Softmax", ["a"], {"axis": 1})]),
    "layernorm_197x768": Case(
        parse_operator("normalise:1x197x768,768,768:float32:standard:2:e1e-05"),
        [("LayerNormalization", ["a", "b", "c"], {"axis": 2, "epsilon": 1e-5})]),
    "concat": Case(joined([_image(1, 28, 28, 128), _image(1, 28, 28, 32)], 3),
                   [("Concat", ["a", "b"], {"axis": 3})]),
    "channel_shuffle": Case(permuted(_image(1, 28, 28, 2, 58), (0, 1, 2, 4, 3)),
                            [("Transpose", ["a"], {"perm": [0, 1, 2, 4, 3]})]),
    "nchw_to_nhwc": Case(permuted(_image(1, 3, 224, 224), (0, 2, 3, 1)),
                         [("Transpose", ["a"], {"perm": [0, 2, 3, 1]})]),
    "resize_x2_nearest": Case(
        parse_operator("resize:1x64x28x28:float32:1x64x56x56:nearest:asymmetric:s1,1,2,2:floor"),
        [("Resize", ["a", "", "scales"], {"mode": "nearest", "nearest_mode": "floor",
                                          "coordinate_transformation_mode": "asymmetric"})],
        {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "resize_x2_linear": Case(
        parse_operator("resize:1x64x28x28:float32:1x64x56x56:linear:half_pixel:s1,1,2,2"),
        [("Resize", ["a", "", "scales"], {"mode": "linear", "coordinate_transformation_mode": "half_pixel"})],
        {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "matmul_attention": Case(parse_operator("matmul:12x197x64,12x64x197:float32"),
                             [("MatMul", ["a", "b"], {})]),
}  # fmt: skip


def session_call(case: Case, arrays: Sequence[np.ndarray], threads: int) -> tuple[Callable, np.ndarray]:
    """A call of onnxruntime's session of one case, and the array that it writes."""
    names = [chr(ord("a") + number) for number in range(len(arrays))]
    nodes, before = [], ""
    for number, (kind, inputs, attributes) in enumerate(case.nodes):
        result = "y" if number == len(case.nodes) - 1 else f"t{number}"
        given = [before if i == "-" else i for i in inputs]
        nodes.append(helper.make_node(kind, given, [result], **attributes))
        before = result
    (output,) = case.operator.infer()
    graph = helper.make_graph(
        nodes, "case",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape)
         for n, a in zip(names, arrays, strict=True)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in case.constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    y = np.zeros(output.shape, np.float32)
    binding = session.io_binding()
    for name, array in zip(names, arrays, strict=True):
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return lambda: session.run_with_iobinding(binding), y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)} (default all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    wanted = options.names or list(CASES)
    if set(wanted) - set(CASES):
        parser.error(f"no case {', '.join(set(wanted) - set(CASES))}; there are {', '.join(CASES)}")
    os.environ["TVMCONV_NUM_THREADS"] = str(options.threads)
    machine = resolve("native")
    kernels = {name: build_kernel(CASES[name].operator, machine) for name in wanted}
    folder = Path(tempfile.mkdtemp(prefix="tvmconv-"))
    library = ctypes.CDLL(str(Library(kernels, machine).export(folder / "operators.so")))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    print(f"{'operator':20} {'us':>9} {'onnxruntime us':>15} {'ratio':>6}   ({options.threads} threads)")
    ratios = []
    for name in wanted:
        case, rng = CASES[name], np.random.default_rng(0)
        arrays = [rng.standard_normal(one.shape).astype(np.float32) for one in case.operator.inputs]
        y = np.zeros(case.operator.infer()[0].shape, np.float32)
        function = getattr(library, name)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, y)]
        theirs, expected = session_call(case, arrays, options.threads)
        theirs()
        assert function(*pointers) == 0
        np.testing.assert_allclose(y, expected, 1e-4, 1e-5)

        def ours(function: Any = function, pointers: Any = pointers) -> None:
            function(*pointers)

        times = [calls_for(call, SAMPLE) for call in (ours, theirs)]
        samples = [[timed(call, n) / n * 1e6 for call, n in zip((ours, theirs), times, strict=True)]
                   for _ in range(options.rounds)]  # fmt: skip
        mine, other = (statistics.median(column) for column in zip(*samples, strict=True))
        ratios.append(statistics.median(b / a for a, b in samples))
        print(f"{name:20} {mine:9.1f} {other:15.1f} {ratios[-1]:6.2f}", flush=True)
    print(f"geometric mean of onnxruntime's time to ours: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
