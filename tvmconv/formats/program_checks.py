"""What holds for each step of a program: its arrays lie where there is room, and are its to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.errors import SpecError
from tvmconv.formats.device_code import GPU_ALIGNMENT
from tvmconv.formats.kernel import Kernel, Param

if TYPE_CHECKING:
    from tvmconv.formats.program import Place, Program, Step

MOST_OPERANDS = 48  # of a step, TCV_MAX_OPERANDS


def check_step(program: Program, what: str, step: Step, packing: int | None = None) -> None:
    """Raise SpecError, which calls the step ``what``, if it is not sound; ``packing``: its number among those
    that pack weights before the first call."""
    if len(step.operands) > MOST_OPERANDS:
        raise SpecError(f"{what}: {len(step.operands)} operands, expected at most {MOST_OPERANDS}")
    for param, place in step.operands:
        room, here = _room(program, place), f"{what}: {param.name} at {_text(place)}"
        if room is None:
            raise SpecError(f"{here}, expected a place that there is")
        if place.offset < 0 or place.offset + param.span > room:
            raise SpecError(f"{here}, expected {param.span} bytes within {room}")
        if place.offset % (align := alignment(param, step.kernel)):
            raise SpecError(f"{here}, expected a multiple of {align}")
    for param, place in step.written:
        if packing is not None:
            if (place.of, place.index) != ("prepared", packing):
                raise SpecError(f"{what}: {param.name} at {_text(place)}, expected its own place")
        elif place.of not in ("workspace", "argument") or not (
            place.of == "workspace" or program.arguments[place.index].written
        ):
            raise SpecError(f"{what}: {param.name} at {_text(place)}, expected an output or the workspace")
        for other, at in step.read:
            same = step.in_place and place == at and param.nbytes == other.nbytes and param.span == other.span
            if not same and _overlap(param, place, other, at):
                raise SpecError(f"{what}: {param.name} at {_text(place)} overlaps {other.name}")


def alignment(param: Param, kernel: Kernel | None) -> int:
    """Of an array that a kernel takes."""
    return param.itemsize if kernel is None or kernel.device is None else max(param.itemsize, GPU_ALIGNMENT)


def _room(program: Program, place: Place) -> int | None:
    """Bytes of what a place lies in; None if that does not exist."""
    if place.of == "workspace":
        return program.workspace
    if place.of == "prepared":
        sizes = [one.step.kernel.packed_bytes for one in program.prepared]
    else:
        held = place.of == "constant"
        sizes = [len(c) for c in program.constants] if held else [a.nbytes for a in program.arguments]
    return sizes[place.index] if 0 <= place.index < len(sizes) else None


def _overlap(a: Param, a_place: Place, b: Param, b_place: Place) -> bool:
    same = a_place.of == b_place.of and (a_place.index == b_place.index or a_place.of == "workspace")
    return same and a.overlaps(a_place.offset, b, b_place.offset)


def _text(place: Place) -> str:
    number = "" if place.of == "workspace" else f" {place.index}"
    return f"byte {place.offset} of {place.of}{number}"
