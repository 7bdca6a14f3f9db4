"""Every kind of spec under one roof: what a descriptor's first word says it describes."""

from __future__ import annotations

import difflib
import re

from tvmconv.base.errors import SpecError
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.pooling import PoolSpec

Spec = ConvSpec | DeformSpec | PoolSpec
KINDS = {
    "conv": ConvSpec, "tconv": ConvSpec, "deform": DeformSpec, "maxpool": PoolSpec, "avgpool": PoolSpec,
}  # fmt: skip
SPEC_TYPES = (ConvSpec, DeformSpec, PoolSpec)


def parse_spec(text: str) -> Spec:
    """The spec that a descriptor states, of whichever kind: the inverse of ``str``. Raises SpecError."""
    word = text.partition(":")[0] if isinstance(text, str) else ""
    kind = re.sub(r"[123]d$", "", word.strip())
    if kind in KINDS:
        return KINDS[kind].parse(text)
    names = [f"{kind}{rank}d" for kind in KINDS for rank in (1, 2, 3)]
    near = difflib.get_close_matches(word, names, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise SpecError(f"descriptor: {text!r}, expected it to begin with one of {', '.join(names)}{hint}")
