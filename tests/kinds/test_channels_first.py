"""Channels-first convolutions: columns in strips (``panels``), sums transposed into planes (``crossed``), of
an x transposed as well (``turned``), rows sorted by their place within a stride (``phases``), tiles of pixels
gathered from all planes (``gathered``)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import prod

import guard
import numpy as np
import pytest
from kernel_checks import check_kernels, check_values_and_memory

from tvmconv.base.errors import ArtifactError
from tvmconv.compiler import codegen
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.formats.choice import Choice
from tvmconv.formats.cpu_features import host_features
from tvmconv.frontends.verify import verify
from tvmconv.schedules.cpu import crossed, gathered, panels, phases, turned
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.conv import ConvSpec

SPECS = (
    "conv2d:1x20x14x14:o40:k1x1:s2:NCHW:float32:bias:relu6",
    "conv2d:2x17x13x11:o33:k3x3:s2:p1:NCHW:float32:bias:residual:prelu",
    "conv2d:1x9x33x33:o37:k3x3:d12:p12:NCHW:float32",
    "conv2d:1x3x37x35:o19:k7x7:s2:p3:NCHW:float32:bias:silu",
    "conv2d:1x24x9x9:o48:k3x3:s2x1:p1x0:g3:NCHW:float32:residual",
    "conv2d:1x16x7x7:o10:k1x1:NCHW:float32:bias",
    "conv2d:3x16x1x1:o40:k1x1:NCHW:float32:bias:hard_swish",
    "conv2d:2x50x15x13:o37:k1x1:s3x2:NCHW:float32:bias:residual:prelu",
    "conv3d:1x33x2x3x4:o11:k1x1x1:NCHW:float32:silu",
    "conv1d:2x18x205:o35:k1:NCHW:float32",
    "conv2d:1x7x5x5:o21:k5x5:NCHW:float32",  # one pixel of y
    "conv2d:1x12x40x3:o5:k1x1:s1:NCHW:float32:residual:relu",
    "conv2d:1x16x12x11:o32:k1x1:g2:NCHW:float32:sh4:bias:residual",
    "conv2d:1x4x3x4:o6:k2x3:p10+0x0+9:g2:NCHW:float32:bias",  # padding wider than the image
    "conv1d:1x5x300:o7:k65:s3:d2:NCHW:float32",
    "conv1d:2x6x100:o18:k2:d16:p16+0:NCHW:float32:gelu",
    "conv3d:1x6x3x8x9:o16:k3x1x1:p1x0x0:NCHW:float32:bias",
    "conv3d:1x3x5x8x9:o11:k3x3x2:s1x2x2:p1:NCHW:float32",
    "conv2d:2x24x15x14:o24:k3x3:s2:p1:g24:NCHW:float32:bias:relu",
    "conv2d:1x10x21x37:o20:k5x4:s1x3:p4x6+1:d2x3:g10:NCHW:float32:residual",
    "conv2d:1x6x9x40:o6:k2x2:s3:p1:g6:NCHW:float32",  # elements that no tap reads
    "conv2d:1x40x9x13:o24:k3x3:s2:p1:g8:NCHW:float32:bias:relu",  # tasks copy planes of their groups
    "conv1d:1x4x200:o4:k9:s4:p4:g4:NCHW:float32:bias:silu",
)
OTHER_TYPES = (
    "conv2d:1x9x12x13:o20:k3x3:s2:p1:NCHW:float64:bias:residual:relu",
    "conv2d:1x20x13x13:o17:k1x1:NCHW:float64", "conv2d:1x9x12x13:o20:k3x3:s2:p1:NCHW:float16:bias:relu",
    "conv2d:1x20x13x13:o17:k3x3:NCHW:float16", "conv2d:1x20x13x35:o20:k3x3:s2:p1:g20:NCHW:bfloat16",
)  # fmt: skip
STRATEGIES = {module.STRATEGY: module for module in (crossed, gathered, panels, phases, turned)}


def choices(strategy: str, spec: ConvSpec, machine: Machine, count: int) -> Iterator[Choice]:
    """The default point and, where there are others, random ones."""
    space = STRATEGIES[strategy].space(problem_of(spec), machine)
    yield Choice(strategy, {})
    rng = random.Random(f"{strategy} {spec}")
    for _ in range(min(count, prod(map(len, space.values()))) - 1):
        yield Choice(strategy, {knob: rng.choice(values) for knob, values in space.items()})


def built(strategy: str, descriptors: tuple[str, ...], target: str, count: int) -> Library:
    machine, kernels = resolve(target), {}
    for text in descriptors:
        spec = ConvSpec.parse(text)
        if not STRATEGIES[strategy].fits(problem_of(spec), machine):
            continue
        for choice in choices(strategy, spec, machine, count):
            name = f"f{len(kernels)}"
            try:
                kernels[name] = codegen.build_kernel(spec, machine, choice, f"k_{name}")
            except ValueError:  # a tile of more registers than there are
                assert choice.point
    return Library(kernels, machine)


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_right_and_within_bounds(strategy: str, target: str) -> None:
    library = built(strategy, SPECS, target, 2 if target == "native" else 1)
    try:
        module = library.load()
    except ArtifactError as error:
        pytest.skip(str(error))
    guard.in_child(check_kernels, str(module.path), {f.name: f.descriptor for f in module.functions.values()})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_other_types(strategy: str) -> None:
    module = built(strategy, OTHER_TYPES, "native", 2).load()
    named = {f.name: f.descriptor for f in module.functions.values()}
    guard.in_child(check_values_and_memory, str(module.path), named)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_x_is_widened_once(dtype: str) -> None:
    """Not for each tile that reads it, which took five times as long."""
    spec = ConvSpec.parse(f"conv2d:1x9x12x13:o40:k3x3:s2:p1:NCHW:{dtype}")
    kernel = codegen.build_kernel(spec, resolve("native"), Choice("crossed", {}))
    assert sum(kernel.workspace) >= 9 * 13 * 14 * 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_baked_are_those_packed(strategy: str) -> None:
    spec, machine = ConvSpec.parse(SPECS[5 if strategy == "gathered" else 1]), resolve("native")
    kernel = codegen.build_kernel(spec, machine, Choice(strategy, {}), "k_f")
    rng = np.random.default_rng(0)
    weights = {p.name: rng.standard_normal(p.shape).astype(np.float32) for p in kernel.weights}
    inputs = [rng.standard_normal(p.shape).astype(np.float32) for p in kernel.inputs]
    expected = Library({"f": kernel}, machine).load()["f"].bind(*weights.values())(*inputs)
    baked = Library({"f": kernel}, machine, baked={"f": packed_weights(kernel, weights)}).load()["f"]
    np.testing.assert_array_equal(baked.bind()(*inputs), expected)


# Kinds of layers by what decides: each was slower, some by three times, with strategies not named here.
BY_RULE = {
    "conv2d:1x64x56x56:o256:k1x1:NCHW:float32": "planes",  # planes that a core's cache holds
    "conv2d:1x24x56x56:o144:k1x1:NCHW:float32": "planes",
    "conv2d:1x64x256x256:o32:k1x1:NCHW:float32": "gathered",  # far from the caches: it is asked for
    "conv2d:1x1024x14x14:o2048:k1x1:s2:NCHW:float32": "crossed",  # 49 pixels would fill 3 vectors of 4
    "conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW:float32": "panels",
    # Many planes or a large x, but several rows of taps, or many taps, for each line of it.
    "conv3d:1x64x16x28x28:o144:k1x3x3:p0x1x1:NCHW:float32": "crossed",
    "conv3d:1x64x8x28x28:o128:k3x3x3:s2:p1:NCHW:float32": "crossed",
    "conv2d:1x192x17x17:o192:k7x1:p3x0:NCHW:float32": "crossed",
    "conv2d:1x384x8x8:o384:k1x3:p0x1:NCHW:float32": "crossed",
    "conv2d:1x1024x7x7:o1024:k3x3:s2:p1:NCHW:float32": "panels",  # nor are weights near
    # Rows alone, of elements with a stride, and planes of few lines: a channels-last copy.
    "conv1d:1x512x3000:o512:k3:s2:p1:NCHW:float32": "turned",
    "conv1d:1x512x3000:o512:k2:s2:NCHW:float32": "panels",  # each element is read once
    "conv1d:1x64x24000:o128:k4:s2:p1:NCHW:float32": "panels",  # few sums for each transposed, much of x
    "conv2d:1x512x7x7:o512:k3x3:p1:NCHW:float32": "turned",
    "conv2d:1x512x7x7:o512:k7x7:s2:p3:NCHW:float32": "turned",  # each element is used often
    "conv2d:1x384x8x8:o384:k3x1:p1x0:NCHW:float32": "crossed",
    # Strides: sorted rows, if there are few sums for each transposed, or vectors of channels would be empty.
    "conv2d:1x3x224x224:o32:k3x3:s2:p1:NCHW:float32": "phases",
    "conv1d:1x1x16000:o64:k16:s8:NCHW:float32": "panels",  # one thread would sort for all
    "conv1d:1x1x16000:o16:k16:s8:NCHW:float32": "crossed",  # as long to sort as to multiply
    "conv2d:1x64x112x112:o64:k3x3:s2:p1:g16:NCHW:float32": "phases",
    "conv2d:1x64x112x112:o64:k3x3:s2:p1:g8:NCHW:float32": "phases",
    "conv2d:1x128x17x17:o128:k3x3:s2:p1:g32:NCHW:float32": "phases",  # a quarter of a vector of channels
    "conv2d:1x256x28x28:o256:k3x3:s2:p1:g32:NCHW:float32": "crossed",  # half a vector; rows of one vector
    "conv2d:1x64x32x32:o8:k3x3:s2:p1:NCHW:float32": "crossed",  # other cores would read most of a copy
    "conv2d:1x256x56x56:o256:k7x7:s2:p3:g256:NCHW:float32": "phases",
    "conv2d:1x96x56x56:o96:k2x2:s2:g96:NCHW:float32": "planes",  # each element is read once
    "conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW:float32": "crossed",  # more columns than a cache holds
    "conv2d:8x32x1000x5:o64:k7x7:p3:NCHW:float32": "crossed",  # short rows, many borders to copy
    "conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW:float32": "turned",  # a core's cache holds x beside its copy
    "conv2d:8x2048x2x2:o256:k1x1:NCHW:float32": "crossed",
    "conv2d:1x1024x7x7:o2048:k1x1:NCHW:float32": "gathered",  # small planes, many weights
    "conv2d:1x2048x7x7:o512:k1x1:NCHW:float32": "crossed",
    "conv2d:1x960x7x7:o320:k1x1:NCHW:float32": "crossed",
    "conv2d:1x2048x32x32:o256:k1x1:NCHW:float32": "gathered",  # many planes, and large
    "conv2d:1x1536x28x28:o256:k1x1:NCHW:float32": "gathered",
    "conv2d:1x1280x16x16:o1280:k1x1:NCHW:float32": "crossed",
    "conv2d:1x1024x14x14:o256:k1x1:NCHW:float32": "crossed",  # many planes
    "conv2d:1x512x56x56:o128:k1x1:s2:NCHW:float32": "crossed",
    "conv2d:1x128x64x64:o256:k1x1:s2:NCHW:float32": "panels",  # few sums for each that is transposed
    "conv2d:1x512x32x32:o512:k1x1:s2:NCHW:float32": "panels",  # planes a page apart
    "conv2d:1x116x14x14:o116:k7x7:p3:NCHW:float32": "crossed",  # a single vector a row
    "conv2d:1x512x14x14:o1024:k3x3:s2:p1:NCHW:float32": "crossed",
    # Planes larger than a core's cache, each tile of pixels by all channels.
    "conv1d:1x64x2048:o128:k3:p1:NCHW:float32": "planes",
    "conv2d:1x96x56x56:o24:k1x1:NCHW:float32": "planes",
    "conv2d:1x64x1000x15:o128:k1x1:NCHW:float32": "planes",
    "conv2d:4x64x1000x15:o128:k1x1:NCHW:float32": "gathered",
    # Winograd's weights, larger, would be fetched anew for each of few tiles; or for several rows of them.
    "conv2d:1x14x14x512:o512:k3x3:d2:p2:NHWC:float32": "direct_last",
    "conv2d:1x512x28x28:o512:k3x3:d4:p4:NCHW:float32": "winograd_tiles",
    "conv2d:1x28x28x512:o512:k3x3:d4:p4:NHWC:float32": "winograd_tiles",
    "conv2d:1x256x28x28:o256:k3x3:s2:p1:NCHW:float32": "winograd_tiles",
    "conv2d:8x64x1000x5:o64:k5x5:p2:NCHW:float32": "winograd_tiles",
    # Planes a power of two apart, which evict each other as they are transposed.
    "conv2d:1x64x128x128:o64:k3x3:s2:p1:NCHW:float32": "crossed",
    "conv2d:1x64x120x120:o64:k3x3:s2:p1:NCHW:float32": "winograd_tiles",
    "conv2d:1x64x128x128:o64:k3x3:p1:NCHW:float32": "winograd_tiles",
    "conv2d:1x128x33x33:o21:k3x3:p1:NCHW:float16": "panels",  # a vector and a part of one
    "conv2d:1x1280x1x1:o1000:k1x1:NCHW:float32": "crossed",  # vectors along a single pixel
    "conv2d:1x256x28x28:o256:k3x3:p1:g32:NCHW:float32:direct": "planes",
    "conv2d:1x64x56x56:o64:k3x3:p1:NCHW:float32": "winograd_tiles",
    "conv2d:1x64x28x28:o64:k3x3:s2:p1:NCHW:float32:im2col": "panels",
}

# Where these differ with 16 registers of 256 bits.
BY_RULE_AVX2 = {
    "conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW:float32": "turned",
    "conv2d:1x512x7x7:o512:k3x3:p1:NCHW:float32": "turned",
    "conv2d:1x512x7x7:o512:k7x7:s2:p3:NCHW:float32": "turned",  # each element is used often
    "conv2d:1x192x17x17:o192:k7x1:p3x0:NCHW:float32": "turned",
    "conv2d:1x64x56x56:o64:k1x7:s2:p0x3:NCHW:float32": "turned",
    "conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW:float32": "turned",
    "conv2d:1x3x224x224:o96:k4x4:s4:NCHW:float32": "crossed",  # few planes
    "conv1d:1x512x3000:o512:k3:s2:p1:NCHW:float32": "turned",
    "conv3d:1x64x8x28x28:o128:k1x3x3:p0x1x1:NCHW:float32": "turned",
    "conv3d:1x64x16x56x56:o64:k3x3x3:p1:NCHW:float32": "turned",
    "conv2d:1x256x28x28:o256:k3x3:s2:p1:NCHW:float32": "turned",  # Winograd's weights, larger, from far away
    "conv2d:1x512x14x14:o512:k3x3:p1:NCHW:float32": "turned",
    "conv2d:1x128x56x56:o128:k3x3:s2:p1:NCHW:float32": "winograd_tiles",
    "conv2d:1x64x128x128:o64:k3x3:s2:p1:NCHW:float32": "panels",  # much of x
    "conv2d:1x64x320x320:o64:k3x3:s2:p1:NCHW:float32": "panels",
    "conv2d:1x256x14x14:o256:k3x3:p1:NCHW:float32": "winograd_tiles",
    "conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW:float32": "panels",  # a copy of x in memory
    "conv2d:1x16x112x112:o32:k3x3:s2:p1:NCHW:float32": "panels",  # few sums for each transposed
    "conv2d:1x512x28x28:o512:k3x3:s2:p1:g32:NCHW:float32": "crossed",  # few planes in a group
    "conv2d:1x3x224x224:o32:k3x3:s2:p1:NCHW:float32": "phases",
    # One tap.
    "conv2d:1x2048x7x7:o512:k1x1:NCHW:float32": "gathered",  # lines of all planes of a tile: not in the L1
    "conv2d:1x1024x14x14:o2048:k1x1:s2:NCHW:float32": "gathered",
    "conv2d:1x512x28x28:o256:k1x1:NCHW:float32": "gathered",
    "conv2d:1x24x56x56:o144:k1x1:NCHW:float32": "gathered",
    "conv2d:1x64x256x256:o32:k1x1:NCHW:float32": "gathered",  # planes a power of two apart
    "conv2d:1x96x7x448:o24:k1x1:NCHW:float32": "crossed",  # few channels, which read x once
    "conv2d:1x144x28x28:o32:k1x1:NCHW:float32": "crossed",
    "conv2d:1x128x5x5:o256:k1x1:NCHW:float32": "crossed",  # a small x
    "conv2d:1x64x56x56:o8:k1x1:NCHW:float32": "panels",
    "conv2d:1x1280x1x1:o1000:k1x1:NCHW:float32": "crossed",
}


@pytest.mark.parametrize(("target", "rules"), [("x86-64-v4", BY_RULE), ("x86-64-v3", BY_RULE_AVX2)])
def test_rules(target: str, rules: dict[str, str]) -> None:
    machine = resolve(target)
    found = {text: codegen.scheduled(ConvSpec.parse(text), machine).schedule["strategy"] for text in rules}
    assert found == rules


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "cortex-a72", "cortex-a53"])
def test_strips_fit_the_cache(target: str) -> None:
    """Columns of a strip, the workspace of a task, are no larger than the cache."""
    machine = resolve(target)
    for text in BY_RULE:
        p = problem_of(ConvSpec.parse(text))
        tall, long = panels.strip_of(p, machine)
        size = tall * long * p.in_group * p.taps * p.acc_bytes
        assert size <= machine.l2


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "sapphirerapids"])
def test_turned_halves(target: str) -> None:
    """Of rows of 16 bits, exchanged in registers: bfloat16 changes its type on the way to LLVM."""
    machine = resolve(target)
    texts = [f"conv2d:1x40x9x11:o37:k3x3:p1:NCHW:{dtype}:bias" for dtype in ("bfloat16", "float16")]
    specs = {f"f{i}": ConvSpec.parse(text) for i, text in enumerate(texts)}
    choice = Choice(turned.STRATEGY, {})
    kernels = {name: codegen.build_kernel(spec, machine, choice) for name, spec in specs.items()}
    if host_features().issuperset(machine.requires):
        assert all(found.ok for found in verify(Library(kernels, machine).load()))


def test_tasks_copy_planes_of_their_groups() -> None:
    """Padded, or sorted by phase: no loop over all planes before."""

    def loops(descriptor: str) -> int:
        choice = Choice(phases.STRATEGY if ":s2" in descriptor else "planes", {})
        return len(codegen.build_kernel(ConvSpec.parse(descriptor), resolve("x86-64-v4"), choice).parallel)

    assert loops("conv2d:1x128x28x28:o128:k3x3:p1:g32:NCHW:float32") == 1
    assert loops("conv2d:1x128x17x17:o128:k3x3:s2:p1:g32:NCHW:float32") == 1
    assert loops("conv2d:1x128x28x28:o128:k3x3:p1:g4:NCHW:float32") == 2  # too few tasks
