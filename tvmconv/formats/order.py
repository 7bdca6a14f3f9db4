"""The order in which the C functions of a kernel take their arrays: the one place that defines it.

A call in Python takes the arrays in the order of the spec's signature, which the manifest lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")


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
    others = [value for name, value in weights.items() if name not in ("w", "bias")]
    return [weights.get("w"), weights.get("bias"), *others]
