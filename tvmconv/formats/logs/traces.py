"""Points as meta_schedule's traces hold them, read from their JSON. No TVM.

The root block's annotations name each knob, ``tvmconv.STRATEGY.KNOB``; if a knob's values are words, the name
lists them after a colon, and the decision is an index. A trace of meta_schedule's own space is the point
itself: its last annotations state the spec and, as a word, the strategy.
"""

from __future__ import annotations

import json
from typing import Any

from tvmconv.formats.choice import TRACE, Choice

SPEC = "tvmconv.spec"
ERROR = "tvmconv.error"
EMULATED = "tvmconv.emulated"
COLD = "tvmconv.cold"
STRATEGY = "strategy"
_PREFIX = "tvmconv."


def key_of(name: str, values: list[Any]) -> str:
    """The annotation's key for a knob, or for the strategy."""
    words = "" if isinstance(values[0], int) else ":" + "|".join(values)
    return _PREFIX + name + words


def read(trace: list[Any]) -> tuple[str, Choice, str | None]:
    """(descriptor, point, what was wrong with it or None) of a trace. Raises ValueError for another trace."""
    insts, decisions = trace
    decided = dict(decisions)
    drawn: dict[str, int] = {}
    found: dict[str, Any] = {}
    descriptor = error = end = None  # end: of a trace that is the point itself
    for number, (kind, inputs, attrs, outputs) in enumerate(insts):
        if kind == "SampleCategorical":
            drawn[outputs[0]] = attrs[0][decided[number]]
        elif kind == "Annotate":
            (_, value), (key,) = inputs, attrs
            if key == SPEC:
                descriptor, before = _text(value), number - 1  # which looks up the root block
            elif key == ERROR:
                error = _text(value)
            elif key == _PREFIX + STRATEGY and value not in drawn:
                found[STRATEGY], end = _text(value), before
            elif isinstance(value, str) and value in drawn:
                name, _, words = key.removeprefix(_PREFIX).partition(":")
                found[name] = words.split("|")[drawn[value]] if words else drawn[value]
    if descriptor is None or STRATEGY not in found:
        raise ValueError("the trace of another tool")
    strategy = found[STRATEGY]
    if end is not None:
        return descriptor, Choice(strategy, {TRACE: text_of([insts[:end], decisions])}), error
    point = {
        name.partition(".")[2]: value
        for name, value in found.items()
        if name.startswith(f"{strategy}.")
    }
    return descriptor, Choice(strategy, point), error


def is_emulated(trace: list[Any]) -> bool:
    """Whether a trace that ``read`` takes is stamped as measured under emulation."""
    return _is_stamped(trace, EMULATED)


def is_cold(trace: list[Any]) -> bool:
    """Whether a trace that ``read`` takes is stamped as measured with cold weights."""
    return _is_stamped(trace, COLD)


def _is_stamped(trace: list[Any], mark: str) -> bool:
    return any(kind == "Annotate" and attrs == [mark] for kind, _, attrs, _ in trace[0])


def text_of(trace: list[Any]) -> str:
    """A trace in the canonical form that points hold."""
    return json.dumps(trace, separators=(",", ":"))


def _text(value: str) -> str:
    """A string as traces quote it."""
    return value[1:-1] if value[:1] == '"' == value[-1:] else value
