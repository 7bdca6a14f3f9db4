"""The operators that networks are made of: few, each checked, each with a text and a float64 reference."""

from __future__ import annotations

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import Operator, Type, read_dims
from tvmconv.specs.operators.copy import Copy, Piece
from tvmconv.specs.operators.gather import Gather, Scatter
from tvmconv.specs.operators.layer import Layer
from tvmconv.specs.operators.map import Map
from tvmconv.specs.operators.matmul import MatMul
from tvmconv.specs.operators.normalise import Normalise
from tvmconv.specs.operators.recurrent import Recurrent
from tvmconv.specs.operators.reduce import Reduce
from tvmconv.specs.operators.resize import Resize

KINDS: dict[str, type[Operator]] = {
    kind.kind: kind for kind in (
        Map, Copy, Gather, Scatter, Reduce, Normalise, Resize, MatMul, Recurrent, Layer,
    )
}

__all__ = [
    "KINDS", "Copy", "Gather", "Layer", "Map", "MatMul", "Normalise", "Operator", "Piece", "Recurrent",
    "Reduce", "Resize", "Scatter", "Type", "parse_operator",
]  # fmt: skip


def parse_operator(text: str) -> Operator:
    """The operator that a text states: the reverse of ``str``. Raises SpecError."""
    kind, *tokens = text.split(":") if isinstance(text, str) else [""]
    if kind not in KINDS or len(tokens) < 2:
        raise SpecError(f"operator: {text!r}, expected one of {', '.join(KINDS)} with shapes, types, options")
    shapes, dtypes = (token.split(",") for token in tokens[:2])
    if len(dtypes) == 1:
        dtypes *= len(shapes)
    if len(dtypes) != len(shapes):
        raise SpecError(f"operator: {text!r}, expected a type for each of its {len(shapes)} shapes")
    types = tuple(Type(read_dims(shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
    try:
        return KINDS[kind].from_options(types, tokens[2:])
    except (ValueError, TypeError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"operator: {text!r}, expected other options of {kind} ({error})") from None
