"""Points as meta_schedule's traces hold them, read from their JSON. No TVM.

The root block's annotations name each knob, ``tvmconv.STRATEGY.KNOB``; of a knob whose values are words the
name lists them after a colon, and the decision counts them.
"""

from __future__ import annotations

from typing import Any

from tvmconv.schedules.plan import Choice

SPEC = "tvmconv.spec"
ERROR = "tvmconv.error"
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
    descriptor = error = None
    for number, (kind, inputs, attrs, outputs) in enumerate(insts):
        if kind == "SampleCategorical":
            drawn[outputs[0]] = attrs[0][decided[number]]
        elif kind == "Annotate":
            (_, value), (key,) = inputs, attrs
            if key == SPEC:
                descriptor = _text(value)
            elif key == ERROR:
                error = _text(value)
            elif value in drawn:
                name, _, words = key.removeprefix(_PREFIX).partition(":")
                found[name] = words.split("|")[drawn[value]] if words else drawn[value]
    if descriptor is None or STRATEGY not in found:
        raise ValueError("the trace of another tool")
    strategy = found[STRATEGY]
    point = {
        name.partition(".")[2]: value
        for name, value in found.items()
        if name.startswith(f"{strategy}.")
    }
    return descriptor, Choice(strategy, point), error


def _text(value: str) -> str:
    """A string as traces quote it."""
    return value[1:-1] if value[:1] == '"' == value[-1:] else value
