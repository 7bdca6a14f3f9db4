"""What a trace of meta_schedule's own space may hold. Traces come from logs, which people share, and some of
TVM's instructions bring their own code into a kernel: an annotation ``pragma_import_llvm`` takes any LLVM
module. So a trace is replayed only if the spaces for LLVM and CUDA, without tensor intrinsics, generate each
of its instructions. No TVM here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

_MOST_TEXT = 1 << 20  # bytes: the longest seen has 20,000
_MOST_INSTRUCTIONS = 4096
_MOST = (1 << 31) - 1  # of numbers: extents, factors and their products, decisions
_MOST_SPLIT = 1 << 20  # of the product of factors beside one that follows from the loop

Check = Callable[[Any], bool]


def _int(low: int, high: int) -> Check:
    return lambda value: type(value) in (int, bool) and low <= value <= high


def _word(pattern: str) -> Check:
    whole = re.compile(pattern)
    return lambda value: isinstance(value, str) and whole.fullmatch(value) is not None


def _list(check: Check, most: int = 256) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(check, value))


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


_NUMBER = _int(-2, _MOST)  # -1: at the root, -2: inlined
_FLAG = _int(0, 1)
_INDEX = _int(-2, 64)  # of a buffer, of a place among blocks, of an axis
_VARIABLE = _word(r"[blv][0-9]{1,6}")  # a block, a loop, a number that was drawn
_NAME = _word(r"[A-Za-z_][A-Za-z0-9_.]{0,200}")
_SCOPE = _word(r"global|shared|local")
_COUNT = _int(0, 1 << 16)  # or a number that was drawn

# What an annotation may apply to, and its values.
_KEYS: dict[str, Check] = {
    "meta_schedule.parallel": _COUNT,
    "meta_schedule.vectorize": _COUNT,
    "meta_schedule.unroll_explicit": _COUNT,
    "meta_schedule.unroll_implicit": _COUNT,
    "meta_schedule.random_compute_producer": _COUNT,
    "meta_schedule.cooperative_fetch": _COUNT,
    "meta_schedule.thread_extent_low_inclusive": _COUNT,
    "meta_schedule.thread_extent_high_inclusive": _COUNT,
    "meta_schedule.tiling_structure": _word('"[SRT]{1,16}"'),
    "software_pipeline_async_stages": _list(_int(0, 64)),
    "software_pipeline_order": _list(_int(0, 64)),
    "software_pipeline_stage": _list(_int(0, 64)),
    "pragma_auto_unroll_max_step": _int(0, 1024),
    "pragma_unroll_explicit": _FLAG,
    "pragma_unroll_implicit": _FLAG,
}


def _key(value: Any) -> bool:
    return isinstance(value, str) and value in _KEYS


def _probability(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


# The attributes of each instruction; its inputs are variables, numbers and None.
_ATTRIBUTES: dict[str, tuple[Check, ...]] = {
    "AddUnitLoop": (),
    "Annotate": (_key,),
    "Bind": (_word(r"(blockIdx|threadIdx)\.[xyz]|vthread(\.[xyz])?"),),
    "CacheRead": (_INDEX, _SCOPE),
    "CacheWrite": (_INDEX, _SCOPE),
    "ComputeAt": (_FLAG, _INDEX),
    "ComputeInline": (),
    "DecomposeReduction": (),
    "EnterPostproc": (),
    "Fuse": (_FLAG,),
    "GetChildBlocks": (),
    "GetConsumers": (),
    "GetLoops": (),
    "GetProducers": (),
    "GetSBlock": (_NAME, _NAME),
    "Parallel": (),
    "RFactor": (_INDEX,),
    "Reorder": (),
    "ReverseComputeAt": (_FLAG, _INDEX),
    "ReverseComputeInline": (),
    "SampleCategorical": (_list(_int(0, 1 << 16)), _list(_probability)),
    "SampleComputeLocation": (),
    "SamplePerfectTile": (_int(2, 16), _int(1, 1 << 16)),
    "SetScope": (_INDEX, _SCOPE),
    "Split": (_FLAG, _FLAG),
    "Unannotate": (_key,),
    "Vectorize": (),
}
_INPUT = _either(_VARIABLE, _NUMBER, lambda value: value in (None, "None"))
_INPUTS = _list(_either(_INPUT, _list(_INPUT)))
_OUTPUTS = _list(_VARIABLE)


def refusal(text: Any) -> str | None:
    """Why a trace, as JSON text, must not be replayed: the instruction, and what is wrong with it. None if it
    may be."""
    if not isinstance(text, str):
        return f"{_short(text)}, expected text"
    if len(text) > _MOST_TEXT:
        return f"{len(text)} characters, expected at most {_MOST_TEXT}"
    try:
        trace = json.loads(text)
    except (ValueError, RecursionError):
        return "no JSON, expected a trace of meta_schedule"
    if not (isinstance(trace, list) and [type(part) for part in trace] == [list, list]):
        return "expected instructions and decisions"
    instructions, decisions = trace
    if len(instructions) > _MOST_INSTRUCTIONS:
        return f"{len(instructions)} instructions, expected at most {_MOST_INSTRUCTIONS}"
    decided: dict[int, Any] = {}
    for decision in decisions:
        place = _int(0, len(instructions) - 1)
        if not (isinstance(decision, list) and len(decision) == 2 and place(decision[0])
                and decision[1] is not None):  # fmt: skip
            return f"decision {_short(decision)}, expected an instruction's number, and numbers"
        if decision[0] in decided:
            return f"decision {_short(decision)}, expected one an instruction"
        decided[decision[0]] = decision[1]
    drawn: dict[str, int] = {}
    for number, instruction in enumerate(instructions):
        wrong = _wrong(instruction) or _wrong_numbers(instruction, decided.get(number), drawn)
        if wrong is not None:
            return f"instruction {number}{wrong}"
    return None


def _wrong(instruction: Any) -> str | None:
    if not (isinstance(instruction, list) and len(instruction) == 4 and isinstance(instruction[0], str)):
        return f" is {_short(instruction)}, expected a name, inputs, attributes and outputs"
    kind, inputs, attributes, outputs = instruction
    if kind not in _ATTRIBUTES:
        return f" is {_short(kind)}, which is none of meta_schedule's spaces for LLVM and CUDA"
    checks = _ATTRIBUTES[kind]
    if not isinstance(attributes, list) or len(attributes) != len(checks):
        return f", {kind}: attributes {_short(attributes)}, expected {len(checks)}"
    for check, value in zip(checks, attributes, strict=True):
        if not check(value):
            return f", {kind}: {_short(value)} is none of what meta_schedule's spaces for LLVM and CUDA have"
    if kind == "Annotate":
        if not (isinstance(inputs, list) and len(inputs) == 2 and _VARIABLE(inputs[0])):
            return f", {kind}: inputs {_short(inputs)}, expected a variable and a value"
    elif not _INPUTS(inputs):
        return f", {kind}: inputs {_short(inputs)}, expected variables and numbers"
    return None if _OUTPUTS(outputs) else f", {kind}: outputs {_short(outputs)}, expected variables"


def _wrong_numbers(instruction: list[Any], decision: Any, drawn: dict[str, int]) -> str | None:
    """What is wrong with the numbers that an otherwise valid instruction draws or uses: TVM divides by
    factors, and counts in 32 bits. ``drawn`` has the variables' values, and is given those of this
    instruction."""
    kind, inputs, attributes, outputs = instruction
    match kind:
        case "SamplePerfectTile":
            tiles = attributes[0]
            if not (_list(_int(1, _MOST))(decision) and len(decision) == len(outputs) == tiles):
                return f", {kind}: decision {_short(decision)}, expected {tiles} factors from 1 on"
            if prod(decision) > _MOST:
                return f", {kind}: decision {_short(decision)}, expected factors of a loop's extent"
            drawn.update(zip(outputs, decision, strict=True))
        case "SampleCategorical":
            candidates, chances = attributes
            if len(candidates) != len(chances) or len(outputs) != 1:
                return f", {kind}: {_short(attributes)}, expected a probability for each of the candidates"
            if not _int(0, len(candidates) - 1)(decision):
                return f", {kind}: decision {_short(decision)}, expected one of {len(candidates)} places"
            drawn[outputs[0]] = candidates[decision]
        case "SampleComputeLocation":
            if not _INDEX(decision):
                return f", {kind}: decision {_short(decision)}, expected a loop's place"
        case _ if decision is not None:
            return f", {kind}: decision {_short(decision)}, expected none"
        case "Annotate":
            value = _value(inputs[1], drawn)
            if not _KEYS[attributes[0]](value):
                return f", {kind}: {attributes[0]!r} is {_short(value)}, expected what meta_schedule gives it"
        case "Split":
            factors = [_value(factor, drawn) for factor in inputs[1:]]
            given = [factor for factor in factors if factor not in (None, "None")]
            if len(given) < len(factors) - 1 or not all(map(_int(1, _MOST), given)):
                return f", {kind}: factors {_short(factors)}, expected numbers from 1 on, at most one None"
            most = _MOST if len(given) == len(factors) else _MOST_SPLIT
            if prod(given) > most:
                return f", {kind}: factors {_short(factors)}, expected a product of at most {most}"
    return None


def _value(given: Any, drawn: Mapping[str, int]) -> Any:
    """The number that an input stands for, if it was drawn."""
    return drawn.get(given, given) if isinstance(given, str) else given


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
