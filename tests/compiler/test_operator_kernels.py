"""Operators of networks as machine code, beside their references in float64, between guard pages."""

from pathlib import Path

import edge
import numpy as np
import pytest
import tvm_ffi
from guard import in_child
from operator_calls import STRATEGIES, assert_close, check_all, check_random, check_ulps, compiled, drawn

from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.lower import lowered
from tvmconv.compiler.operators import build_kernel
from tvmconv.compiler.operators.kernel import module_for
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import parse_operator
from tvmconv.specs.operators.expression import FUNCTIONS

COUNTS = {"map": 20, "copy": 20, "reduce": 20, "normalise": 12, "resize": 15, "matmul": 12, "recurrent": 3,
          "gather": 8, "scatter": 8}  # fmt: skip

# Those that go over the threads, in several tasks or blocks, with tails of all sorts.
LARGE = [
    "map:3001,1:float32:add(exp(a),b)", "map:2x40x33x70,70:float32:relu(add(a,b))", "map:0x5:float32:exp(a)",
    "map:1000:float32:clip(div(a,0.5),-1,1)", "map:500:float32:where(is_nan(a),3,pow(a,2))",
    "map:70,70:float32:mul(tanh(a),mul(silu(b),sin(a)))", "map:70:float32:pow(tanh(a),exp(a))",
    "map:500,500:int32:mod(add(a,3),b)", "map:91,91:int64,int32:add(pow(a,7),pow(pow(a,5),b))",
    "map:91,91:uint16:pow(a,b)", "map:100:uint8:leaky_relu(a,0.1)",
    "resize:5x7:bfloat16:10x14:nearest:tf_crop_and_resize:s2,2:r-0.5,0,1.5,1",
    "map:90:int64:cast_float32(mul(a,a))",
    "map:90:float32:cast_int8(mul(a,100))", "map:90:bool:cast_float16(a)",
    "map:90:float64:cast_bool(floor(a))",
    "copy:1x3x40x41:float32:1x40x41x3:a[0;1,1640][0;3,1][1640x3]",
    "copy:2x2x9x7:float64:2x9x7x2:a[0;126,1,63][0;126,2,1][2x63x2]",
    "copy:1x40x41x3:float16:1x3x40x41:a[0;1,3][0;1640,1][3x1640]",
    "copy:61x67:uint8:67x61:a[0;1,67][0;61,1][67x61]",
    "reduce:1x56x56x67:float32:mean:1,2", "reduce:64x1001:float32:max:1", "reduce:70001:float32:sum:0",
    "reduce:301x67:float32:argmax:1:keep:last", "reduce:0x3:float32:max:0", "reduce:5x1x3:int8:mean:1",
    "normalise:197x769,769,769:float32:standard:1:e1e-05", "normalise:70x1000:float32:softmax:1",
    "normalise:1x64x31x33:float32:lrn:1:5:0.0001:0.75:1", "normalise:300x67x3:float32:log_softmax:1",
    "resize:1x31x33x19:float32:1x62x66x19:linear:half_pixel:s1,2,2,1",
    "resize:1x3x31x33:float32:1x3x62x66:nearest:asymmetric:s1,1,2,2:floor",
    "matmul:3x197x65,3x197x65,197:float32:tb", "matmul:1x300,300x1001:float32", "matmul:200x70,70x5:float32",
    "matmul:3x0,0x5:float32", "gather:300x65,70:float32,int64:0", "gather:70x1,9x3:float16,int32:0",
    "gather:90x61,90x70:uint8,int64:1:elements", "scatter:90x61,85x70,85x70:float32,int64,float32:1:add",
]  # fmt: skip


# The documented errors of tvmconv/compiler/ops/vector_math.py, and what is rounded after them.
ULPS = {"exp(a)": 1, "log(a)": 1, "elu(a,1)": 1.5, "erf(a)": 2.5, "softplus(a)": 3.5}


# One of each kind, with tails, as they run on a 64-bit ARM CPU.
ON_ARM = {
    "map": "map:7x9x13,13:float32:mul(gelu(a),log(b))",
    "copy": "copy:21x19:float32:19x21:a[0;1,19][0;21,1][19x21]",
    "reduce": "reduce:3x7x19:float32:mean:1", "argmax": "reduce:5x37:float32:argmax:1",
    "softmax": "normalise:5x37:float32:softmax:1", "norm": "normalise:2x5x19,19:float16:standard:2:e0.001",
    "resize": "resize:1x5x7x3:float32:1x10x14x3:linear:half_pixel:s1,2,2,1",
    "matmul": "matmul:2x9x13,2x11x13:float32:tb",
}  # fmt: skip


def test_on_an_emulated_arm_cpu(tmp_path: Path) -> None:
    machine, rng = resolve("cortex-a72"), np.random.default_rng(3)
    operators = {name: parse_operator(text) for name, text in ON_ARM.items()}
    library = Library({name: build_kernel(op, machine) for name, op in operators.items()}, machine)
    emulated = edge.Emulated(library.export(tmp_path / "operators.so"), library.manifest, machine.zig)
    for name, op in operators.items():
        arrays = [drawn(type_, rng) for type_ in op.inputs]
        status, said, y = emulated.call(name, arrays, "cortex-a72")
        assert status == 0, (name, said)
        (type_,), (expected,) = op.infer(), op.reference(arrays)
        assert_close(op, np.frombuffer(y, type_.dtype).reshape(type_.shape), expected, type_)


def test_vector_math() -> None:
    in_child(check_ulps, ULPS)


def test_large_ones() -> None:
    in_child(check_all, LARGE)


@pytest.mark.parametrize("of", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_clips_before_casts(of: str, dtype: str) -> None:
    """To the limits of a type and to others, of what is beyond them and of NaN."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    edges = np.array([least, most, 7, 9, 0], of)
    odd = [np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30]
    x = np.concatenate([edges, edges - 0.5, edges + 0.5, odd]).astype(of)
    for lo, hi in ((least, most), (7.5, 9), (least, most + 1)):
        made = compiled(parse_operator(f"map:{len(x)}:{of}:cast_{dtype}(clip(a,{lo},{hi}))"))
        made(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y := np.full(len(x), 99, dtype)))
        clipped = np.where(np.isnan(x), 0, np.clip(x, lo, hi))
        np.testing.assert_array_equal(y, clipped.astype(np.int64).astype(dtype))


def test_maps_are_of_vectors() -> None:
    """TVM makes a loop over lanes of what it knows no vectors of. LLVM would make vectors of that again, but
    run them only where the result lies on no input."""
    target = llvm_target(machine := resolve("x86-64-v3"))
    texts = {name: f"map:100:float32:{name}({','.join('a23'[: function.arity])})"
             for name, function in FUNCTIONS.items() if function.types not in ("logic", "where")}  # fmt: skip
    texts |= {"where": "map:100:float32:where(is_nan(a),2,a)", "and": "map:100,100:bool:and(a,not(b))"}
    for name, text in texts.items():
        made, _ = module_for(parse_operator(text), machine)
        assert "lane" not in lowered(made, target).script(), name


@pytest.mark.parametrize("kind", STRATEGIES)
def test_random(kind: str) -> None:
    in_child(check_random, kind, COUNTS[kind], 20)
