"""Packages whose names are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazily(
    package: str, names: Mapping[str, Sequence[str]], public: Sequence[str],
    modules: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:  # fmt: skip
    """``__getattr__`` and ``__dir__`` of ``package``. ``names``: what each module has; ``public``: its
    ``__all__``; ``modules``: names of modules themselves."""
    home = {name: module for module, found in names.items() for name in found}
    whole = modules or {}
    space = vars(sys.modules[package])

    def get(name: str) -> Any:
        from importlib import import_module

        if name in whole:
            value: Any = import_module(whole[name])
        elif name in home:
            value = getattr(import_module(home[name]), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        space[name] = value  # found directly from now on
        return value

    return get, lambda: sorted({*space, *public})
