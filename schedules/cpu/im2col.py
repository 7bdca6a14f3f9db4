"""Convolution as a matrix product over written-out columns: the pointwise strategies after one copy."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.im2col import ALGORITHM
from tvmconv.compiler.ops.problem import Problem, flat
from tvmconv.schedules.cpu import direct_last, planes
from tvmconv.schedules.cpu.tiles import run_parallel
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, Strategy
from tvmconv.specs.checks import MOST_ELEMENTS, most_workspace

STRATEGY = "im2col"


def fits(p: Problem, machine: Machine) -> bool:
    return p.taps > 1 and not p.widened and _bounded(p)


def _bounded(p: Problem) -> bool:
    """Whether the columns may be written out at all."""
    pixels = p.batch * prod(p.out_spatial)
    columns = pixels * p.groups * p.in_group * prod(len(p.live_taps(d)) for d in range(len(p.kernel)))
    arrays = prod(p.x_shape()) + prod(p.y_shape) + prod(p.weight_shape)
    return columns <= MOST_ELEMENTS and p.acc_bytes * columns <= most_workspace(p.acc_bytes * arrays)


def space(p: Problem, machine: Machine) -> Space:
    return _product(p).space(flat(p), machine)


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for any problem, whether or not it pays; ``point`` is the matrix product's. Raises ValueError
    where it does not fit."""
    product = _product(p).plan_of(flat(p), machine, point)

    def apply(sch: Schedule) -> None:
        columns = sch.get_sblock("columns")
        if p.padded:
            sch.compute_inline(sch.get_sblock("pad"))
        run_parallel(sch, p, sch.get_loops(columns)[:3])
        product.apply(sch)

    return Plan(STRATEGY, ALGORITHM, product.packing, apply, product.point)


def _product(p: Problem) -> Strategy:
    """The strategy of the matrix product."""
    return direct_last if p.channels_last else planes
