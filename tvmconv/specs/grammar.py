"""Descriptors of the kinds that are no plain convolution: one table-driven reader, and the pieces of text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.specs.descriptor import LAYOUT_NAMES, NAMED_PADDINGS, OUT_DTYPES, shown, unknown

_NUMBER = r"\d{1,12}"
_DIMS = re.compile(rf"{_NUMBER}(?:x{_NUMBER})*")
_PADS = re.compile(rf"{_NUMBER}(?:\+{_NUMBER})?(?:x{_NUMBER}(?:\+{_NUMBER})?)*")


@dataclass(frozen=True)
class Grammar:
    """The tokens of one kind of descriptor.

    ``kinds``: first words without their rank. ``dims`` and ``counts``: argument by the letters before a
    size per spatial dim, or before one number. ``flags``: argument by the word that makes it True. "p",
    layouts and dtypes are understood in all of them. ``needed``: arguments that must be there.
    """

    kinds: tuple[str, ...]
    example: str
    ranks: tuple[int, ...] = (1, 2, 3)
    dims: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()

    def read(self, text: Any) -> tuple[str, dict[str, Any]]:
        """(kind, arguments by name) that ``text`` states. Raises SpecError."""
        if not isinstance(text, str):
            raise SpecError(f"descriptor: {shown(text)}, expected a string such as {self.example}")
        head, *tokens = text.strip().split(":")
        heads = {f"{kind}{rank}d": (kind, rank) for kind in self.kinds for rank in self.ranks}
        if head not in heads:
            raise unknown("descriptor's first token", head, heads)
        kind, rank = heads[head]
        if not tokens or not _DIMS.fullmatch(tokens[0]):
            what = shown(tokens[0]) if tokens else "nothing"
            raise SpecError(f"descriptor's second token: {what}, expected an input shape such as 1x8x8x3")
        shape = _ints(tokens.pop(0))
        if len(shape) != rank + 2:
            raise SpecError(f"descriptor's input shape: {shown(shape)}, expected {rank + 2} dims for {head}")
        found: dict[str, Any] = {"input_shape": shape}
        for token in tokens:
            name, value = self._token(token, text, rank)
            if name in found:
                raise SpecError(f"descriptor's token: {shown(token)}, expected {name} once")
            found[name] = value
        for name in self.needed:
            if name not in found:
                raise SpecError(f"descriptor: {shown(text)}, expected {name} in it, as in {self.example}")
        return kind, found

    def _token(self, token: str, text: str, rank: int) -> tuple[str, Any]:
        if token in self.flags:
            return self.flags[token], True
        if token in LAYOUT_NAMES:
            return "layout", token
        if token in OUT_DTYPES:
            return "dtype", token
        letters = re.match(r"[a-z]*", token)[0]  # type: ignore[index]
        rest = token[len(letters):]
        if token[:1] == "p" and (token[1:] in NAMED_PADDINGS or _PADS.fullmatch(token[1:])):
            return "padding", token[1:] if token[1:] in NAMED_PADDINGS else _pads(token[1:], rank)
        if letters in self.dims and _DIMS.fullmatch(rest):
            values = _ints(rest)
            return self.dims[letters], values * rank if len(values) == 1 else values
        if letters in self.counts and re.fullmatch(_NUMBER, rest):
            return self.counts[letters], int(rest)
        sizes = ", ".join((*self.counts, *self.dims, "p"))
        words = ", ".join(self.flags)
        raise SpecError(
            f"descriptor's token: {shown(token)} in {shown(text)}, expected {sizes} with sizes, a layout, "
            f"a dtype, or one of {words}"
        )


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x"))


def _pads(text: str, rank: int) -> tuple[tuple[int, int], ...]:
    pairs = []
    for part in text.split("x"):
        lo, _, hi = part.partition("+")
        pairs.append((int(lo), int(hi or lo)))
    return tuple(pairs * rank if len(pairs) == 1 else pairs)


def every(dims: Sequence[int]) -> str:
    """Sizes of all dims: 3x3."""
    return "x".join(map(str, dims))


def short(dims: Sequence[int]) -> str:
    """Sizes of all dims, equal ones once: 3, 3x5."""
    return str(dims[0]) if len(set(dims)) == 1 else every(dims)


def pads(padding: Sequence[tuple[int, int]]) -> str:
    """Padding: 1, 1x2, 0+1x0+1."""
    if all(lo == hi for lo, hi in padding):
        return short([lo for lo, _ in padding])
    return "x".join(f"{lo}+{hi}" for lo, hi in padding)
