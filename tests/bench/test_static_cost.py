"""`tvmconv bench --static`: llvm-mca's word on kernels' inner loops, and what the ARM kernels reach by it."""

from __future__ import annotations

import json

import pytest
from cli_tools import tool

import tvmconv
from tvmconv.base.errors import Error
from tvmconv.bench.static_cost import cost as static
from tvmconv.bench.static_cost import mca
from tvmconv.bench.static_cost.assembly import loops
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec

NESTED = """
	.type	f,%function
f:
	cbz	x1, .LBB0_4
.LBB0_1:
	mov	x5, x1
.LBB0_2:
	ldp	q1, q2, [x0], #32
	fmla	v0.4s, v1.4s, v2.s[0]
	str	q0, [sp, #16]
	subs	x5, x5, #1
	b.ne	.LBB0_2
	subs	x2, x2, #1
	b.ne	.LBB0_1
.LBB0_3:
	ldr	q3, [x2], #16
	add	x3, x3, #1
	cbnz	x3, .LBB0_3
.LBB0_4:
	ret
"""


def need_mca() -> None:
    try:
        mca.find()
    except Error as error:
        pytest.skip(str(error))


def test_innermost_loops_are_found_with_what_they_do() -> None:
    inner, copy = loops(NESTED, "aarch64")
    assert (inner.label, inner.depth, inner.fmas, len(inner.body)) == (".LBB0_2", 2, 1, 4)
    assert [(i.load, i.store, i.spill) for i in inner.body[:3]] == [
        (True, False, False), (False, False, False), (False, True, True)]  # fmt: skip
    assert (copy.label, copy.depth, copy.fmas) == (".LBB0_3", 1, 0)


def test_cycles_are_the_chain_of_sums_where_nothing_else_binds() -> None:
    """One sum: four cycles a multiply-add by Arm's optimisation guide, whatever its ports could take."""
    need_mca()
    text = ".type f,%function\nf:\n.L1:\n fmla v0.4s, v1.4s, v2.4s\n b.ne .L1\n ret\n"
    (hot,) = static.cost_of(text, resolve("neoverse-n1"))
    assert (hot.estimate.model, hot.estimate.cycles, hot.estimate.bound) == ("N1", 4, 0.5)
    assert hot.percent_fma == 12.5


LAYERS = {
    "depthwise": "conv2d:1x56x56x128:o128:k3x3:p1:g128:NHWC:float32",
    "depthwise, stride 2": "conv2d:1x56x56x128:o128:k3x3:s2:p1:g128:NHWC:float32",
    "depthwise, channels first": "conv2d:1x128x56x56:o128:k3x3:p1:g128:NCHW:float32",
    "pointwise": "conv2d:1x56x56x128:o128:k1x1:NHWC:float32",
    "pointwise, small image": "conv2d:1x7x7x960:o320:k1x1:NHWC:float32",
    "pointwise, channels first": "conv2d:1x128x56x56:o128:k1x1:NCHW:float32",
    "groups of 4": "conv2d:1x14x14x128:o128:k3x3:p1:g32:NHWC:float32",
    "groups of 8": "conv2d:1x28x28x256:o256:k3x3:p1:g32:NHWC:float32:direct",
    "first layer": "conv2d:1x224x224x3:o32:k3x3:s2:p1:NHWC:float32",
    "dense": "conv2d:1x56x56x64:o64:k3x3:p1:NHWC:float32:direct",
}


@pytest.mark.parametrize("target", ["cortex-a72", "neoverse-n1"])
@pytest.mark.parametrize("layer", LAYERS)
def test_arm_inner_loops_reach_the_limit(layer: str, target: str) -> None:
    """90% of what multiply-adds, loads and stores leave possible (on Neoverse N1 a store takes the ports of
    two multiply-adds; on Cortex-A72 multiply-adds alone bind), and no sum goes by way of the stack."""
    need_mca()
    for hot in static.cost(parse_spec(LAYERS[layer]), resolve(target)):
        assert hot.percent_work >= 90
        assert target == "neoverse-n1" or hot.percent_fma >= 90
        assert not [i.text for i in hot.loop.body if i.store and i.spill]


def test_the_manifest_says_who_chose_the_schedule() -> None:
    library = tvmconv.compile({"dw": "conv2d:1x9x9x8:o8:k3x3:p1:g8:NHWC:float32"}, "cortex-a72")
    (function,) = library.manifest["functions"]
    assert function["schedule"]["chosen_by"] == "llvm-mca for cortex-a72"


def test_the_command() -> None:
    need_mca()
    done = tool("bench", "--static", "-t", "cortex-a72", "--json", f"pw={LAYERS['pointwise']}")
    assert done.returncode == 0, done.stderr
    (layer,) = json.loads(done.stdout)["layers"]
    assert layer["name"] == "pw"
    assert layer["loops"][0]["fma_bound"] == layer["loops"][0]["fmas"]  # one a cycle
    done = tool("bench", "--static", "-t", "riscv64", LAYERS["pointwise"])
    assert done.returncode == 2
    assert "scheduling information" in done.stderr


def test_without_llvm_mca_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Error, match="llvm-19"):
        static.cost(parse_spec(LAYERS["pointwise"]), resolve("cortex-a72"))
