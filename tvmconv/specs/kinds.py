"""All kinds of specs in one place: what a descriptor's first word says it describes."""

from __future__ import annotations

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import hint, near, shown
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.spec import Spec

__all__ = ["KINDS", "Spec", "parse_spec"]

KINDS: dict[str, type[ConvSpec | DeformSpec | PoolSpec | BlockSpec]] = {
    head: spec for spec in (ConvSpec, DeformSpec, PoolSpec, BlockSpec) for head in spec.grammar.heads
}


def parse_spec(text: str) -> Spec:
    """The spec that a descriptor states, of whichever kind: the inverse of ``str``. Raises SpecError."""
    head = text.partition(":")[0].strip() if isinstance(text, str) else ""
    if head in KINDS:
        return KINDS[head].parse(text)
    raise SpecError(
        f"descriptor: {shown(text)}, expected it to begin with one of {', '.join(KINDS)}"
        f"{hint(near(head, KINDS))}"
    )
