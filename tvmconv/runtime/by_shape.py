"""A network compiled for several shapes: one name, and the function for the shapes of the arrays given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.runtime import arrays
from tvmconv.runtime.program import ProgramFunction


class ByShape:
    """``functions`` of one network for different shapes, in the library's order; a call is a call of the one
    that takes arrays of the given shapes. Safe to call from several threads at once."""

    __slots__ = ("_by_shapes", "functions", "name")

    def __init__(self, name: str, functions: Sequence[ProgramFunction]) -> None:
        self.name, self.functions = name, tuple(functions)
        self._by_shapes = {tuple(a.shape for a in f._inputs): f for f in self.functions}

    def __repr__(self) -> str:
        return f"<tvmconv functions {self.name}: {', '.join(f.name for f in self.functions)}>"

    def for_shapes(self, *inputs: Any) -> ProgramFunction:
        """The function for arrays of these shapes; NumPy's or any DLPack arrays. Raises SpecError if there is
        none."""
        names = [a.name for a in self.functions[0]._inputs]
        if len(inputs) != len(names):
            raise SpecError(f"inputs: {len(inputs)}, expected {len(names)}: {', '.join(names)}")
        shapes = tuple(arrays.view(name, value).shape for name, value in zip(names, inputs, strict=True))
        if shapes not in self._by_shapes:
            found, *others = (_text(names, each) for each in (shapes, *self._by_shapes))
            raise SpecError(f"{found}: expected {' or '.join(others)}, as {self.name} was compiled for")
        return self._by_shapes[shapes]

    def __call__(self, *inputs: Any, out: Any = None, workspace: Any = None) -> Any:
        """As a call of the function for these shapes. Raises SpecError where there is none."""
        return self.for_shapes(*inputs)(*inputs, out=out, workspace=workspace)

    def on(self, *inputs: Any, out: Any, workspace: Any = None) -> Callable[[], Any]:
        """As ``on`` of the function for these shapes."""
        return self.for_shapes(*inputs).on(*inputs, out=out, workspace=workspace)

    def bind(self) -> ByShape:
        """Itself: there are no weights to bind."""
        return self


def groups_of(manifest: Mapping[str, Any], functions: Mapping[str, Any]) -> dict[str, ByShape]:
    """Those of a library, by name."""
    members: dict[str, list[ProgramFunction]] = {}
    for facts in manifest["functions"]:
        function = functions[facts["name"]]
        if isinstance(function, ProgramFunction) and "group" in facts and facts["group"] not in functions:
            members.setdefault(facts["group"], []).append(function)
    return {name: ByShape(name, own) for name, own in members.items()}


def _text(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> str:
    each = zip(names, shapes, strict=True)
    return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in each)
