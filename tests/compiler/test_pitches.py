"""Kernels over ranges of the channels of wider arrays, by every strategy, between guard pages."""

import pytest
from guard import in_child
from pitched_calls import check_layers, check_operators

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen import build_kernel
from tvmconv.formats.kernel import Param
from tvmconv.formats.program import Place, program, run_of, step
from tvmconv.schedules.machines import resolve
from tvmconv.specs.pitched import Pitched, parse_work

HERE = "x86-64-v3"

# By strategies that random layers rarely draw.
STATED = [
    ("conv2d:1x13x11x24:o24:k3x3:p1:NHWC:float32:bias:residual@residual=30,x=67,y=100", "winograd_tiles"),
    ("conv2d:2x9x10x5:o33:k3x3:p1:NHWC:float32@x=8,y=37", "winograd_tiles"),
    ("conv2d:1x12x13x16:o32:k5x5:s2:p2:NHWC:float32@x=29,y=35", "winograd_tiles"),
    ("conv2d:1x7x9x16:o16:k3x3:p1:g16:NHWC:float32@x=19,y=32", "winograd_rows"),
    ("conv2d:1x11x9x136:o68:k1x1:NHWC:float32:bias:residual:strassen@residual=70,x=140,y=99", "strassen"),
    ("conv2d:1x14x14x58:o58:k1x1:NHWC:float32:bias:relu@x=116,y=116", "direct_last"),
    ("conv2d:1x9x8x8:o32:k3x3:p1:NHWC:float16@x=48,y=40", "direct_last"),
    ("block2d:1x9x8x32:k3x3:p1:o24:NHWC:float32:bias:residual:relu@residual=30,x=40,y=25", "bands"),
    ("block2d:2x9x8x5:e19:k3x3:s2:p1:o7:NHWC:float32:bias@x=8,y=9", "bands"),
]


def test_layers() -> None:
    in_child(check_layers, STATED, HERE, {"conv": 10, "pool": 4, "block": 4}, 7)


def test_operators() -> None:
    counts = {"map": 6, "copy": 16, "reduce": 6, "resize": 8, "normalise": 6, "matmul": 5}
    in_child(check_operators, HERE, counts, 7)


WORK = "conv2d:1x4x5x8:o16:k1x1:NHWC:float32"


def test_descriptors() -> None:
    work = parse_work(f"{WORK}@x=24,y=16")
    assert str(work) == f"{WORK}@x=24,y=16" and work.pitches == {"x": 24, "y": 16}
    assert work.twins()[0] is work.dense and str(work.dense) == WORK and parse_work(WORK) == work.dense
    for text, said in (
        (f"{WORK}@w=24", "pitch of w: 24"), (f"{WORK}@x", "'x', expected the pitch"),
        (f"{WORK}@x=0", "pitch of x: 0"), (WORK.replace("NHWC", "NCHW") + "@x=24", "no pitches"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=said):
            parse_work(text)
    with pytest.raises(SpecError, match="pitch of x: 7, expected 8"):
        build_kernel(parse_work(f"{WORK}@x=7"), resolve(HERE))


def test_places_of_a_program() -> None:
    """A program's places have room for all rows, and ranges of channels of one buffer do not overlap."""
    kernel = build_kernel(Pitched.of(tvmconv.ConvSpec.parse(WORK), {"x": 24, "y": 24}), resolve(HERE))
    with pytest.raises(SpecError, match="expected one in a program"):
        run_of(kernel)
    wide, y = Param("x", (1, 4, 5, 24), "float32"), Param("y", (1,), "float32")
    assert kernel.inputs[0].span == 4 * (19 * 24 + 8) and kernel.output.span == 4 * (19 * 24 + 16)

    def made(x: int, y_at: int, room: int = 4 * 24 * 20) -> None:
        places = [Place("workspace", 0, 4 * x)], Place("workspace", 0, 4 * y_at), Place("constant", 0)
        constant = bytes(kernel.packed_bytes)
        program("test", [wide], [y], [step(kernel, *places)], constants=[constant], workspace=room)

    made(0, 8)
    made(16, 0)
    with pytest.raises(SpecError, match="overlaps"):
        made(0, 7)
    with pytest.raises(SpecError, match="within"):
        made(0, 9)
