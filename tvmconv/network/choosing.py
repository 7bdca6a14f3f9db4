"""Which chains of convolutions are faster as blocks: by records where there are some, else by a rule."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.base.errors import SpecError
from tvmconv.formats.logs.entries import Entry
from tvmconv.formats.logs.lookup import Logs
from tvmconv.schedules.dots import DOTS
from tvmconv.schedules.machines import AnyMachine, Machine
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.spec import Spec

_SPARED = 0.06  # bytes between the parts, for each multiply-add
_SPARED_BY_SCALE = 0.15  # where it is the product with a scale
_SPARED_OF_INTEGERS = 0.0035  # of which dot products take four at a time
_SPARED_OF_PAIRS = 0.04  # where they take fewer in a block than they may apart
_PIXELS = 400  # of the result: with fewer, a block goes through all its weights for few of them
_EXPANDED_INTEGERS, _INTEGERS = 14 * 14, 28 * 28  # pixels of x, with an expanding part and without
_TAPS = 9  # of floats: larger windows have schedules of their own, apart, that a block has not
_FILLED = 1.1  # channels that whole vectors have room for, over those that there are

BLOCKS = ("auto", "always", "never")


def chooser(blocks: str, logs: Logs) -> Callable[[BlockSpec], bool]:
    """Which blocks are made: "auto", those that are faster; "always" and "never", to compare with."""
    if blocks not in BLOCKS:
        raise SpecError(f"blocks: {blocks!r}, expected one of {', '.join(BLOCKS)}")
    if blocks == "auto":
        return lambda spec: gains(spec, logs)
    return lambda spec: blocks == "always"


def gains(spec: BlockSpec, logs: Logs) -> bool:
    """Whether a block is faster than its parts: by records, or by the rule."""
    known = decided(spec, logs)
    return _by_rule(spec, logs.machine) if known is None else known


def decided(spec: BlockSpec, logs: Logs) -> bool | None:
    """What records say of it: those of it and of all of its parts, if all were measured with cold weights, or
    all were not. None if there are none, as where a scale is part of it."""
    found = [_record(one, logs) for one in (spec, *spec.parts().values())]
    known = [entry for entry in found if entry is not None]
    if not spec.scale and len(known) == len(found) and len({entry.cold for entry in known}) == 1:
        fused, *apart = (entry.seconds for entry in known)
        return fused < sum(apart)
    return None


def _record(spec: Spec, logs: Logs) -> Entry | None:
    return next((entry for known, _, entry in logs.known(spec) if known == spec), None)


def _by_rule(spec: BlockSpec, machine: AnyMachine) -> bool:
    """What is written and read back between the parts takes long, against what is computed; measured in whole
    networks (MobileNetV1, V2, V3, MNASNet, EfficientNet, quantised ones of the first two and MNASNet; with
    AMX, of the first two)."""
    *between, _ = spec.parts().values()
    spared = sum(prod(part.output_shape) * ITEMSIZE[part.dtype] for part in between) / spec.macs
    if spec.is_integer:
        if isinstance(machine, Machine) and machine.amx:
            return False  # apart, the pointwise ones go by tiles, which blocks have not
        least = _EXPANDED_INTEGERS if spec.expand else _INTEGERS
        whole = spec.expand > 0 or set(spec.stride) == {1}  # else rows are made floats of which few are read
        fours = any(DOTS[name].size == 4 and not DOTS[name].checked for name in machine.int8_dots)
        enough = spared >= (_SPARED_OF_INTEGERS if fours else _SPARED_OF_PAIRS)
        return enough and prod(spec.in_spatial) >= least and whole
    if prod(spec.out_spatial) < _PIXELS or spec.taps > _TAPS:
        return False
    if spec.scale:
        return spared >= _SPARED_BY_SCALE
    lanes = machine.lanes() if isinstance(machine, Machine) else 1
    return spared >= _SPARED and -(-spec.channels // lanes) * lanes <= _FILLED * spec.channels
