"""What being able to trace costs a network that is not traced: its library beside one whose C source has the
question "does anybody want to know times?" taken out.

    python scripts/bench_trace.py [MODEL] [--shape x=1x3x224x224] [--rounds 200] [--calls 20]

On one thread, the two take turns of --calls calls. Without MODEL: a chain of 100 steps of about 40 ns each,
the most that it can cost. Prints microseconds a call, the medians over rounds, and the median of the rounds'
ratios; above 1, being able to trace is slower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tvmconv.base.errors import Error
from tvmconv.compiler.artifact import c_source
from tvmconv.network import compile, read
from tvmconv.network.checking import arguments_of, feeds_of
from tvmconv.onnx.reading.model import parse_shapes
from tvmconv.runtime import load
from tvmconv.runtime.arrays import aligned

_QUESTION = "if (__builtin_expect(!__atomic_load_n(&tcv_traced, __ATOMIC_RELAXED) && !ns, 1)) return NULL;"
_ANSWER = "(void)n, (void)ns; return NULL;"


def small_steps(count: int = 100) -> onnx.ModelProto:
    """Softmaxes of 16 numbers: nothing makes one step of two."""
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16])  # noqa: E731
    nodes = [helper.make_node("Softmax", [f"v{at}"], [f"v{at + 1}"], axis=1) for at in range(count)]
    graph = helper.make_graph(nodes, "chain", [value("v0")], [value(f"v{count}")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def built(
    network: Any, folder: Path, *, traceable: bool
) -> tuple[Callable[[], object], list[np.ndarray], int]:
    """A call of the network, its results, the number of steps."""
    own = c_source._read

    def without(name: str) -> str:
        text = own(name)
        if name == "cpu.c":
            if _QUESTION not in text:
                raise SystemExit("cpu.c: tcv_timer is not what this script knows")
            text = text.replace(_QUESTION, _ANSWER)
        return text

    c_source._read = own if traceable else without
    try:
        prefix = "traceable" if traceable else "plain"
        module = load(compile(network, prefix=prefix).export(folder / f"{prefix}.so"))
    finally:
        c_source._read = own
    (function,) = module.functions
    given = [aligned(array) for array in arguments_of(network, feeds_of(network))]
    first = module[function](*given)
    results = list(first) if isinstance(first, tuple) else [first]
    (facts,) = module.manifest["functions"]
    return module[function].on(*given, out=first), results, len(facts.get("steps", [0]))


def seconds(call: Callable[[], object], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--shape", action="append", default=[], help="as of `tvmconv compile`")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    os.environ.pop("TVMCONV_TRACE", None)
    os.environ["TVMCONV_NUM_THREADS"] = "1"
    try:
        network = read(options.model or small_steps(), parse_shapes(options.shape))
        with tempfile.TemporaryDirectory() as folder:
            with_, results, steps = built(network, Path(folder), traceable=True)
            plain, others, _ = built(network, Path(folder), traceable=False)
    except Error as error:
        parser.error(str(error))
    assert all(np.array_equal(a, b) for a, b in zip(results, others, strict=True))
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(options.rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            taken[which].append(seconds((with_, plain)[which], options.calls))
    a, b = (statistics.median(one) * 1e6 for one in taken)
    ratio = statistics.median(x / y for x, y in zip(*taken, strict=True))
    print(f"{steps} steps: {a:.2f} us a call, {b:.2f} us unable to trace, ratio {ratio:.4f}")


if __name__ == "__main__":
    main()
