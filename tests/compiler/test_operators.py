"""Operators of networks as machine code, beside their references in float64, between guard pages."""

import pytest
from guard import in_child
from operator_calls import STRATEGIES, check_all, check_random, check_ulps

COUNTS = {"map": 25, "copy": 25, "reduce": 25, "normalise": 12, "resize": 15, "matmul": 12, "recurrent": 3}

# Those that go over the threads, in several tasks or blocks, with tails of all sorts.
LARGE = [
    "map:3001,1:float32:add(exp(a),b)", "map:2x40x33x70,70:float32:relu(add(a,b))", "map:0x5:float32:exp(a)",
    "map:1000:float32:clip(div(a,0.5),-1,1)", "map:500:float32:where(is_nan(a),3,pow(a,2))",
    "map:500,500:int32:mod(add(a,3),b)", "map:90:int64:cast_float32(mul(a,a))",
    "map:90:float32:cast_int8(mul(a,100))", "map:90:bool:cast_float16(a)",
    "map:90:float64:cast_bool(floor(a))",
    "copy:1x3x40x41:float32:1x40x41x3:a[0;1,1640][0;3,1][1640x3]",
    "copy:1x40x41x3:float16:1x3x40x41:a[0;1,3][0;1640,1][3x1640]",
    "copy:61x67:uint8:67x61:a[0;1,67][0;61,1][67x61]",
    "reduce:1x56x56x67:float32:mean:1,2", "reduce:64x1001:float32:max:1", "reduce:70001:float32:sum:0",
    "reduce:301x67:float32:argmax:1:keep:last", "reduce:0x3:float32:max:0", "reduce:5x1x3:int8:mean:1",
    "normalise:197x769,769,769:float32:standard:1:e1e-05", "normalise:70x1000:float32:softmax:1",
    "normalise:1x64x31x33:float32:lrn:1:5:0.0001:0.75:1", "normalise:300x67x3:float32:log_softmax:1",
    "resize:1x31x33x19:float32:1x62x66x19:linear:half_pixel:s1,2,2,1",
    "resize:1x3x31x33:float32:1x3x62x66:nearest:asymmetric:s1,1,2,2:floor",
    "matmul:3x197x65,3x197x65,197:float32:tb", "matmul:1x300,300x1001:float32", "matmul:200x70,70x5:float32",
    "matmul:3x0,0x5:float32",
]  # fmt: skip


# The documented errors of tvmconv/compiler/ops/vector_math.py, and what is rounded after them.
ULPS = {"exp(a)": 1, "log(a)": 1, "elu(a,1)": 1.5, "erf(a)": 2.5, "softplus(a)": 3.5}


def test_vector_math() -> None:
    in_child(check_ulps, ULPS)


def test_large_ones() -> None:
    in_child(check_all, LARGE)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_random(kind: str) -> None:
    in_child(check_random, kind, COUNTS[kind], 20)
