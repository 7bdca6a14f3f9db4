"""Strategies for NVIDIA GPUs: their table."""

from __future__ import annotations

from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules import traced
from tvmconv.schedules.cuda import (
    block,
    deform,
    depthwise_first,
    depthwise_last,
    direct,
    gemm,
    gemm_tensor,
    pooling,
    transposed,
)
from tvmconv.schedules.dots import DOTS, GPU, Dot
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Row, Table, never
from tvmconv.schedules.words import InWords

_WORD = 4  # elements


def _dot_of(p: Problem, machine: GpuMachine) -> Dot | None:
    """The dot product for words of ``p``, which have four elements: fewer would be padded. With channels
    last, a word is one load only if four divides the channels."""
    if p.in_group < _WORD or (p.channels_last and p.in_group % _WORD):
        return None
    return DOTS[f"{GPU}{'u' if p.dtype == 'uint8' else 's'}8s8"]


_FLOATS = (
    Row(depthwise_last),
    Row(depthwise_first),
    Row(gemm_tensor),
    Row(gemm),
    Row(direct),
    Row(traced, never),
)
_INTEGERS = (
    Row(InWords(depthwise_last)),
    Row(InWords(depthwise_first)),
    Row(InWords(gemm_tensor, _dot_of)),
    Row(InWords(direct, _dot_of)),
)
_FAMILIES = {
    "conv": _FLOATS, "integer": _INTEGERS, "transposed": (Row(transposed),),
    "integer_transposed": (Row(InWords(transposed)),), "deform": (Row(deform),), "pool": (Row(pooling),),
    "block": (Row(block),),
}  # fmt: skip

TABLE: Table = {
    (family, algorithm): rows for family, rows in _FAMILIES.items() for algorithm in (None, "direct")
}
