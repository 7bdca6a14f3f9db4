"""Blocks as strategies see them, and the layout of their weights, which are packed into a library without
TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvmconv.specs.block import BlockSpec

ACC = "float32"  # of sums, of what lies between the parts, and of packed weights
MOST_TAPS = 25  # that are written out


@dataclass(frozen=True)
class BlockProblem:
    """A spec as strategies see it."""

    spec: BlockSpec

    family = "block"  # the strategies that take it

    @property
    def batch(self) -> int:
        return max(self.spec.batch, 1)  # no kernel is run for an empty batch

    @property
    def macs(self) -> int:
        return self.spec.macs


@dataclass(frozen=True)
class BlockPacking:
    """How wide blocks of channels are: of the depthwise part ``chunk``, of the result ``block``. Each array
    is ``[blocks, rows, width]``, the last block padded with zeros; a bias is one row. ``dot``: for 8-bit
    integers, the dot product that the pointwise parts use."""

    chunk: int
    block: int
    dot: str | None = None

    def width(self, prefix: str) -> int:
        """Of the blocks of a part, whose arrays have names with that ``prefix``."""
        return self.block if prefix == "project_" else self.chunk

    def shapes(self, spec: BlockSpec) -> dict[str, tuple[int, int, int]]:
        """Of the packed arrays, by the names of those that they are made of."""
        rows = {"w": spec.taps, "expand_w": spec.in_channels, "project_w": spec.channels}
        found = {}
        for operand in spec.weights:
            name = operand.name
            width = self.width("project_" if name.startswith("project_") else "")
            blocks = -(-operand.shape[-1] // width)
            found[name] = (blocks, rows.get(name, 1), width)  # a bias is one row
        return found

    def pack_arrays(self, spec: BlockSpec, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What ``block.prepack_func`` computes, in NumPy, by the names of the packed arrays."""
        found = {}
        for name, (blocks, rows, width) in self.shapes(spec).items():
            channels = arrays[name].shape[-1]
            wide = np.zeros((rows, blocks * width), ACC)
            wide[:, :channels] = arrays[name].reshape(rows, channels)
            found[f"packed_{name}"] = np.ascontiguousarray(wide.reshape(rows, blocks, width).swapaxes(0, 1))
        return found


def reads_in_place(spec: BlockSpec, lanes: int) -> bool:
    """Whether the depthwise part reads x itself, and not rows of it in a ring: nothing is to be expanded,
    widened or filled up, and what is written out for the borders is little."""
    whole = spec.dtype == ACC and spec.channels % lanes == 0
    return not spec.expand and whole and spec.taps <= MOST_TAPS
