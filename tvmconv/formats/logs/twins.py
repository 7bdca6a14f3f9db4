"""Specs that share a schedule: the same sums with less of an epilogue. No TVM here."""

from __future__ import annotations

from dataclasses import replace

from tvmconv.specs.conv import ConvSpec, without_borders
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.kinds import Spec


def twins(spec: Spec) -> list[Spec]:
    """What ``spec`` is once x has its borders, where they are not zeros; without residual and activation; and
    without the bias as well: the nearest first.

    Every strategy lays out the sums and lets the epilogue follow them, so that a point that is good for one
    is mostly good for the other. Not so the other way: who has no epilogue asks for no spec that has one.
    """
    if isinstance(spec, ConvSpec):
        zeros = without_borders(spec)
        plain = replace(zeros, residual=False, activation=None)
        found = [zeros, plain, replace(plain, bias=False)]
    else:
        found = [replace(spec, bias=False)] if isinstance(spec, DeformSpec) else []
    return [twin for twin in dict.fromkeys(found) if twin != spec]
