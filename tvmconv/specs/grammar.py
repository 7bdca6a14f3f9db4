"""Descriptors: the canonical one-line text of a spec, read and written by a table of tokens for each kind.

``conv2d:1x112x112x32:o32:k3x3:s2:p1:g32:NHWC:float32:bias:relu6``: tokens joined by ":", no spaces, safe in a
shell, a file name or a test id. The first two are the kind and the input shape; the others may come in any
order, each at most once. Numbers are checked here only for their form; the spec checks whether they make a
layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import hint, near, shown, unknown
from tvmconv.specs.tokens import DIMS, Count, Pads, Sizes, Token, every, integers


@dataclass(frozen=True)
class Grammar:
    """The descriptors of some kinds. ``kinds``: first words without their rank. ``tokens``: what may follow
    the input shape, in the order of writing; ``needed``: required arguments."""

    kinds: tuple[str, ...]
    example: str
    tokens: tuple[Token, ...]
    needed: tuple[str, ...]
    ranks: tuple[int, ...] = (1, 2, 3)

    @cached_property
    def heads(self) -> dict[str, tuple[str, int]]:
        """(kind, rank) by first word."""
        return {f"{kind}{rank}d": (kind, rank) for kind in self.kinds for rank in self.ranks}

    def read(self, text: Any) -> tuple[str, dict[str, Any]]:
        """(kind, arguments by name) that ``text`` states. Raises SpecError."""
        if not isinstance(text, str):
            raise SpecError(f"descriptor: {shown(text)}, expected a string such as {self.example}")
        head, *tokens = text.strip().split(":")
        if head not in self.heads:
            raise unknown("descriptor's first token", head, self.heads)
        kind, rank = self.heads[head]
        if not tokens or not DIMS.fullmatch(tokens[0]):
            what = shown(tokens[0]) if tokens else "nothing"
            raise SpecError(f"descriptor's second token: {what}, expected an input shape such as 1x8x8x3")
        shape = integers(tokens.pop(0))
        if len(shape) != rank + 2:
            raise SpecError(f"descriptor's input shape: {shown(shape)}, expected {rank + 2} dims for {head}")
        found: dict[str, Any] = {"input_shape": shape}
        for token in tokens:
            for name, value in self._token(token, text, rank).items():
                if name in found:
                    raise SpecError(f"descriptor's token: {shown(token)}, expected {name} once")
                found[name] = value
        for name in self.needed:
            if name not in found:
                raise SpecError(f"descriptor: {shown(text)}, expected {name} in it, as in {self.example}")
        return kind, found

    def _token(self, token: str, text: str, rank: int) -> Mapping[str, Any]:
        for known in self.tokens:
            found = known.read(token, rank)
            if found is not None:
                return found
        sized = ", ".join(known.letters for known in self.tokens if isinstance(known, Sizes | Count | Pads))
        others = ", ".join(known.what for known in self.tokens if not isinstance(known, Sizes | Count | Pads))
        words = [word for known in self.tokens for word in known.words]
        raise SpecError(
            f"descriptor's token: {shown(token)} in {shown(text)}, expected {sized} with sizes, {others}"
            f"{hint(near(token, words))}"
        )

    def write(self, spec: Any, kind: str) -> str:
        """The canonical descriptor of ``spec``, of ``kind``; defaults are left out, so that equal specs have
        one text."""
        said = (known.written(spec) for known in self.tokens)
        words = (word for word in said if word is not None)
        return ":".join([f"{kind}{spec.rank}d", every(spec.input_shape), *words])
