"""Tokens of descriptors: how each kind of argument is written and read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvmconv.base.dtypes import BYTES
from tvmconv.specs.activations import ACTIVATIONS, canonical_activation
from tvmconv.specs.names import LAYOUT_NAMES, NAMED_PADDINGS, OUT_DTYPES

_NUMBER = r"\d{1,12}"
DIMS = re.compile(rf"{_NUMBER}(?:x{_NUMBER})*")
_PADS = re.compile(rf"{_NUMBER}(?:\+{_NUMBER})?(?:x{_NUMBER}(?:\+{_NUMBER})?)*")


# The methods that a dataclass adds besides __init__ would cost a millisecond of every start.
@dataclass(eq=False, repr=False)
class Token:
    """How one argument of a spec is written. ``what``: its entry in a list of what is understood."""

    argument: str

    @property
    def what(self) -> str:
        return self.argument

    @property
    def words(self) -> tuple[str, ...]:
        """All its texts, if they are words, so that a typo is recognised."""
        return ()

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        """Arguments that a token states; None if the token is another's."""
        raise NotImplementedError

    def written(self, spec: Any) -> str | None:
        """The token of ``spec``; None for a default."""
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class Sizes(Token):
    """Letters before a size for each spatial dim, or one for all. Not written where all are ``default``.
    ``each``: written for each dim even if all are equal."""

    letters: str = ""
    default: int | None = None
    each: bool = False

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        rest = token[len(self.letters) :]
        if not token.startswith(self.letters) or not DIMS.fullmatch(rest):
            return None
        values = integers(rest)
        return {self.argument: values * rank if len(values) == 1 else values}

    def written(self, spec: Any) -> str | None:
        values = getattr(spec, self.argument)
        return None if set(values) == {self.default} else (
            self.letters + (every(values) if self.each else short(values))
        )  # fmt: skip


@dataclass(eq=False, repr=False)
class Count(Token):
    """Letters before one number. Not written where it is ``default``."""

    letters: str = ""
    default: int | None = None

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        rest = token[len(self.letters) :]
        if not token.startswith(self.letters) or not re.fullmatch(_NUMBER, rest):
            return None
        return {self.argument: int(rest)}

    def written(self, spec: Any) -> str | None:
        value = getattr(spec, self.argument)
        return None if value == self.default else f"{self.letters}{value}"


@dataclass(eq=False, repr=False)
class Pads(Token):
    """p1, p1x2, p0+1x0+1, pSAME."""

    letters: str = "p"

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        rest = token[1:]
        if token[:1] != "p" or not (rest in NAMED_PADDINGS or _PADS.fullmatch(rest)):
            return None
        if rest in NAMED_PADDINGS:
            return {self.argument: rest}
        ends = (part.partition("+") for part in rest.split("x"))
        pairs = tuple((int(lo), int(hi or lo)) for lo, _, hi in ends)
        return {self.argument: pairs * rank if len(pairs) == 1 else pairs}

    def written(self, spec: Any) -> str | None:
        padding = getattr(spec, self.argument)
        return None if set(padding) == {(0, 0)} else f"p{pads(padding)}"


@dataclass(eq=False, repr=False)
class Flag(Token):
    """A word that makes an argument True."""

    word: str = ""

    @property
    def what(self) -> str:
        return self.word

    @property
    def words(self) -> tuple[str, ...]:
        return (self.word,)

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        return {self.argument: True} if token == self.word else None

    def written(self, spec: Any) -> str | None:
        return self.word if getattr(spec, self.argument) else None


@dataclass(eq=False, repr=False)
class Name(Token):
    """One of ``names``, after ``prefix``. ``silent`` is not written, nor is anything not in the list."""

    names: tuple[str, ...] = ()
    called: str = ""
    prefix: str = ""
    silent: str | None = None

    @property
    def what(self) -> str:
        return self.called

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.prefix + name for name in self.names)

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        return {self.argument: token[len(self.prefix) :]} if token in self.words else None

    def written(self, spec: Any) -> str | None:
        value = getattr(spec, self.argument)
        return None if value not in self.names or value == self.silent else self.prefix + value


@dataclass(eq=False, repr=False)
class Types(Token):
    """The element type; with ``out``, that of x, then a slash and that of the result if it differs."""

    out: bool = False

    @property
    def what(self) -> str:
        return "a dtype"

    @property
    def words(self) -> tuple[str, ...]:
        return OUT_DTYPES

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        dtype, slash, out_dtype = token.partition("/")
        if dtype not in OUT_DTYPES or (slash and not (self.out and out_dtype in OUT_DTYPES)):
            return None
        return {self.argument: dtype, **({"out_dtype": out_dtype} if slash else {})}

    def written(self, spec: Any) -> str | None:
        return spec.dtype if spec.dtype == spec.out_dtype else f"{spec.dtype}/{spec.out_dtype}"


@dataclass(eq=False, repr=False)
class Activations(Token):
    """An activation, with its parameters, after ``prefix``."""

    prefix: str = ""

    @property
    def what(self) -> str:
        return f"{self.prefix}an activation"

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.prefix + name for name in ACTIVATIONS)

    def read(self, token: str, rank: int) -> Mapping[str, Any] | None:
        text = token[len(self.prefix) :]
        known = token.startswith(self.prefix) and text.partition("=")[0] in ACTIVATIONS
        return {self.argument: canonical_activation(text)} if known else None

    def written(self, spec: Any) -> str | None:
        value = getattr(spec, self.argument)
        return None if value is None else self.prefix + value


LAYOUT = Name("layout", LAYOUT_NAMES, "a layout")
PADDING = Pads("padding")
WEIGHTS = Name("weight_dtype", BYTES, "a type of weights", prefix="w", silent="int8")


def integers(text: str) -> tuple[int, ...]:
    """The sizes in a text such as 3x5."""
    return tuple(int(part) for part in text.split("x"))


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
