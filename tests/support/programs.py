"""A program of three kernels, two inputs and two outputs, and what it has to give, by PyTorch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.formats.kernel import Param
from tvmconv.formats.program import Place, Program, Variant, program, step
from tvmconv.schedules.machines import resolve

SPECS = {
    "expand": "conv2d:1x9x11x16:o24:k1x1:NHWC:float32:bias:relu6",
    "dw": "conv2d:1x9x11x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6",
    "project": "conv2d:1x9x11x24:o16:k1x1:NHWC:float32:bias:residual",
}
BEFORE = 192  # bytes of the workspace before what lies in it
SHAPES = {"x": (1, 9, 11, 16), "r": (1, 9, 11, 16), "z": (1, 9, 11, 24), "y": (1, 9, 11, 16)}


@lru_cache
def weights() -> dict[str, dict[str, np.ndarray]]:
    """w and bias of each kernel."""
    rng, found = np.random.default_rng(3), {}
    for name, text in SPECS.items():
        spec = tvmconv.ConvSpec.parse(text)
        shapes = {"w": spec.weight_shape, "bias": spec.bias_shape}
        found[name] = {key: rng.standard_normal(shape, np.float32) / 3 for key, shape in shapes.items()}
    return found


def block(target: str) -> Program:
    """y = project(dw(expand(x))) + r, and z, what ``dw`` gives: the first result in the workspace, the
    weights of the last two in one constant."""
    kernels = tvmconv.compile(SPECS, target).functions
    packed = {name: packed_weights(kernel, weights()[name]) for name, kernel in kernels.items()}
    expand, dw, project = (kernels[name] for name in SPECS)
    x, r, z, y = (Place("argument", i) for i in range(4))
    between = Place("workspace", 0, BEFORE)
    steps = [
        step(expand, [x], between, Place("constant", 0)),
        step(dw, [between], z, Place("constant", 1)),
        step(project, [z, r], y, Place("constant", 1, len(packed["dw"]))),
    ]
    named = [(expand.inputs[0], "x"), (project.inputs[1], "r"), (dw.output, "z"), (project.output, "y")]
    arrays = [Param(name, p.shape, p.dtype, p.layout) for p, name in named]
    constants = [packed["expand"], packed["dw"] + packed["project"]]
    return program("an inverted residual", arrays[:2], arrays[2:], steps, constants=constants,
                   workspace=BEFORE + expand.output.nbytes)  # fmt: skip


def library(*targets: str, cc: str | None = None) -> Library:
    """A library of the program, called main."""
    first, *others = (Variant(resolve(target), {"main": block(target)}) for target in targets)
    return Library(first.functions, first.machine, prefix="net", others=others, cc=cc)


def case(seed: int = 0) -> dict[str, np.ndarray]:
    """x, r, z and y."""
    rng = np.random.default_rng(seed)
    x, r = (rng.standard_normal(SHAPES[name], np.float32) for name in ("x", "r"))
    t = torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)
    for name, text in SPECS.items():
        spec = tvmconv.ConvSpec.parse(text)
        w, bias = (torch.from_numpy(a.astype(np.float64)) for a in weights()[name].values())
        t = torch.conv2d(t, w.permute(3, 2, 0, 1), bias, padding=spec.padding[0][0], groups=spec.groups)
        if spec.activation:
            t = t.clamp(0, 6)
        if name == "dw":
            z = t
    found = {"z": z, "y": t}
    arrays = {name: t.permute(0, 2, 3, 1).contiguous().numpy() for name, t in found.items()}
    return {"x": x, "r": r, "z": arrays["z"], "y": arrays["y"] + r}
