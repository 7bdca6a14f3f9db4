"""A block whose depthwise part only scales channels, by its weights and by an array of the call: no part of
its own, but other weights of the last part, made once for each image by each thread."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.nest import Index, held, loop, tile
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC
from tvmconv.specs.block import BlockSpec

_NAMES = "packed_project_w", "packed_project_bias"


def only_scales(spec: BlockSpec) -> bool:
    """Whether the depthwise part does nothing else."""
    plain = not spec.expand and spec.depthwise_activation is None and not any(map(any, spec.padding))
    return spec.scale and plain and spec.taps == 1 and set(spec.stride) == {1}


def hold(bands: Any) -> list[tirx.Stmt]:
    """Make room for the last part's scaled weights and biases, which are its own from there on."""
    stmts, arrays = [], dict(bands.arrays)
    for name in _NAMES:
        if name in arrays:
            size = int(arrays[name].buffer.shape[0])
            arrays[name], made = held(size, ACC, f"scaled{name.removeprefix('packed_project')}")
            stmts.append(made)
    bands.does.arrays = arrays
    return stmts


def scaled_weights(bands: Any, n: Index) -> tirx.Stmt:
    """Fill them for image ``n``: of channel k, w[k] * scale[k] times its weights; biases have its bias as
    often."""
    spec, given, made, block = bands.spec, bands.arrays, bands.does.arrays, bands.packing.block
    channels, panels = spec.channels, -(-spec.out_channels // block)
    w, bias = _NAMES

    def copied(c: Index) -> list[tirx.Stmt]:
        if not spec.bias:
            return []
        return [tile(block, bands.lanes, lambda i: made[bias].put(
            c * block + i, given[bias].at(c * block + i)))]  # fmt: skip

    def channel(c: Index, k: Index) -> tirx.Stmt:
        at, scale = (c * channels + k) * block, given["scale"].at(n * channels + k)
        factor = given["packed_w"].at(k) * scale
        stmts = [tile(block, bands.lanes, lambda i: made[w].put(at + i, factor * given[w].at(at + i)))]
        if spec.bias:
            more = given["packed_bias"].at(k) * scale
            stmts.append(tile(block, bands.lanes, lambda i: made[bias].put(
                c * block + i, made[bias].at(c * block + i) + more * given[w].at(at + i))))  # fmt: skip
        return sequence(stmts)

    return loop(panels, lambda c: sequence([*copied(c), loop(channels, lambda k: channel(c, k))]))
