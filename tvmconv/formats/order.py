"""The order in which functions take their arrays, where it is more than that of the spec's signature, which
the manifest lists: the one place that defines it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")


_FIRST = ("w", "bias")  # they have their places in a call whether or not a function has them


def call_order(names: Iterable[str], *, bind: bool = False) -> list[str]:
    """Of a call in Python, or of its ``bind``, by the signature's names: x unless bound; w; bias; others."""
    first = _FIRST if bind else ("x", *_FIRST)
    return [*first, *(name for name in names if name not in first)]


def run_order(inputs: Sequence[_T], outputs: Sequence[_T], packed: Sequence[_T] = ()) -> list[_T]:
    """Of NAME: x; the packed weights, if any; the other inputs; the result."""
    return [*inputs[:1], *packed, *inputs[1:], *outputs]


def prepack_order(weights: Mapping[str, _T], packed: _T, absent: _T) -> list[_T]:
    """Of NAME_prepack: w; the bias, or ``absent`` in its place; other weights; the packed ones."""
    found = list(weights.values())
    if "bias" not in weights:
        found.insert(1, absent)
    return [*found, packed]


def bind_order(weights: Mapping[str, _T]) -> list[_T | None]:
    """Of ``bind``: w; the bias, or None in its place; other weights."""
    others = [value for name, value in weights.items() if name not in _FIRST]
    return [*(weights.get(name) for name in _FIRST), *others]
