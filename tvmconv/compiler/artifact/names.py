"""Names of a library's C functions: how the prefix makes them, and which ones are not allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.formats.manifest import symbol_of

# Keywords of C23 and C++26, with GNU's; what compilers predefine on some architecture; main; std.
_KEYWORDS = """
    alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break
    case catch char char16_t char32_t char8_t class co_await co_return co_yield compl concept const
    const_cast consteval constexpr constinit continue contract_assert decltype default delete do double
    dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public reflexpr register
    reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct
    switch synchronized template this thread_local throw true try typedef typeid typename typeof
    typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq i386 linux riscv unix
    main std
"""

_OURS = ("tcv_", "TVM")  # names of the support code begin so


BESIDE_WEIGHTS = ("_prepack", "_packed_bytes")  # after the name of a function that takes weights
BESIDE_STEPS = ("_steps",)  # of one of several steps


def check_names(
    functions: Mapping[str, Sequence[str]], prefix: str, library_functions: Sequence[str]
) -> None:
    """Raises SpecError for names that are not C identifiers, are reserved in C, or collide.

    ``functions``: names, each with the endings of the C functions beside it. ``library_functions``: the
    library's own, without the prefix.
    """
    _check_identifier("prefix", prefix, _KEYWORDS.split())
    taken = {f"{prefix}_{name}".upper(): "the library" for name in library_functions}
    for name, beside in functions.items():
        _check_identifier("function name", name, ())
        symbol = symbol_of(name, prefix)
        if symbol in _taken():
            raise SpecError(f"function name: {symbol!r}, expected a C identifier that C has not taken itself")
        for own in (symbol, *(f"{symbol}{end}" for end in beside)):
            owner = taken.setdefault(own.upper(), name)  # the header's macros are in capitals
            if owner != name:
                raise SpecError(f"function name: {name!r}, expected one that does not collide with {owner!r}")


def is_free(name: str) -> bool:
    """Whether C leaves an identifier to programs, and so do we."""
    return name not in _taken() and not name.startswith(_OURS)


def _check_identifier(what: str, name: Any, reserved: Sequence[str]) -> None:
    good = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    if not good or name in reserved or name.startswith(_OURS):
        raise SpecError(f"{what}: {name!r}, expected a C identifier that is no keyword")


@cache
def _taken() -> frozenset[str]:
    """Keywords, and the names in the C library and its headers (from scripts/c_names.py)."""
    names = Path(__file__).with_name("c_names.txt").read_text(encoding="ascii")
    return frozenset((_KEYWORDS + names).split())
