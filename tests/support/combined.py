"""Fewer cases than all combinations of three lists: any two things meet in one of them."""

from collections.abc import Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def on_preset(
    preset: str, presets: Sequence[str], shapes: Sequence[A], types: Sequence[B]
) -> list[tuple[A, B]]:
    """The shapes, each with a type, to try on one of the presets. Over all presets every shape meets every
    type, and each of both meets every preset; shapes are the longest list."""
    at, few, many = presets.index(preset), len(presets), len(types)
    if many >= few:
        return [(shape, kind) for i, shape in enumerate(shapes) for j, kind in enumerate(types)
                if (i + j) % few == at]  # fmt: skip
    return [(shape, types[(i + at) % many]) for i, shape in enumerate(shapes)]
