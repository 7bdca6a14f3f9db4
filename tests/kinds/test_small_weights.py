"""Sums of bytes by an instruction that saturates: exact all the same, for which weights are checked."""

from __future__ import annotations

import numpy as np
import pytest
from test_dtypes import preset

import tvmconv
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.codegen import kernel
from tvmconv.compiler.lower import lower_cpu
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.quantised import quantised_reference

SPECS = {
    "rows": "conv2d:1x5x9x40:o24:k3x3:p1:NHWC:uint8/int32",
    "odd": "conv2d:1x5x6x37:o20:k1x1:NHWC:int8/int32:bias",
    "planes": "conv2d:1x30x5x9:o24:k3x3:p1:NCHW:uint8/int32:wuint8",
    "groups": "conv2d:1x5x9x80:o40:k3x3:p1:g2:NHWC:uint8:bias",
    "many": "conv2d:1x5x9x48:o24:k3x3:p1:g12:NHWC:uint8:bias",
}
TARGETS = [preset("x86-64-v2"), preset("x86-64-v3"), preset("x86-64-v4")]


def arrays_of(spec: ConvSpec, arguments, pair: tuple[int, int]) -> dict[str, np.ndarray]:
    """The largest and smallest x, and weights of which all pairs are this one, of either sign."""
    rng, found = np.random.default_rng(0), {}
    for a in arguments:
        info = np.iinfo(a.dtype) if np.dtype(a.dtype).kind in "iu" else None
        if a.name == "x":
            found[a.name] = rng.choice([info.min, info.max, info.max], a.shape)
        elif a.name == "w":
            i = np.arange(spec.in_channels // spec.groups) % 2
            sizes = np.array(pair)[i]
            sizes = sizes[:, None] if spec.channels_last else sizes[:, None, None]
            signs = rng.choice([-1, 1], (*[1] * (len(a.shape) - 1), a.shape[-1]))
            if not spec.channels_last:
                signs = rng.choice([-1, 1], (a.shape[0], 1, 1, 1))
            found[a.name] = signs * sizes + (128 if a.dtype == "uint8" else 0) + np.zeros(a.shape, int)
        elif "scale" in a.name:
            found[a.name] = np.full(a.shape, 0.5 if a.name == "x_scale" else 1)
        else:
            found[a.name] = rng.integers(0, 3, a.shape)
        found[a.name] = found[a.name].astype(a.dtype)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_saturating_inputs(target: str) -> None:
    """Pairs within the limit, at it, and beyond it, where the instruction gives 32767 for 32895."""
    specs = {name: ConvSpec.parse(text) for name, text in SPECS.items()}
    library = tvmconv.compile(specs, target)
    module = library.load()
    for name, spec in specs.items():
        made = library.functions[name]
        assert made.schedule["dot"] == "pmaddubsw" and made.schedule["otherwise"]["dot"] == "pmaddwd"
        for pair, small in (((64, 64), 1), ((127, 1), 1), ((1, 127), 1), ((65, 64), 0), ((127, 127), 0)):
            arrays = arrays_of(spec, (*made.inputs, *made.weights), pair)
            blob = packed_weights(made, {p.name: arrays[p.name] for p in made.weights})
            flag = np.frombuffer(blob, np.int32, 1, made.packed_offsets()[-1])[0]
            assert flag == small, (name, pair)
            x, w, *others = [arrays[o.name] for o in module[name].arguments if o.name != "y"]
            bias = others.pop(0) if spec.bias else None
            y = module[name](x, w, bias, *others)
            np.testing.assert_array_equal(y, quantised_reference(spec, **arrays), err_msg=f"{name} {pair}")


@pytest.mark.parametrize("text", [SPECS["rows"], SPECS["planes"]])
def test_machine_code_has_both(text: str) -> None:
    module = kernel.module_of("sums", kernel.scheduled(ConvSpec.parse(text), resolve("x86-64-v3")))
    code = lower_cpu(module, llvm_target(resolve("x86-64-v3"))).inspect_source("s")
    pairs = code.count("\tvpmaddubsw\t")
    assert pairs >= 8 and code.count("\tvpmaddwd\t") > pairs
