"""The arrays of a call, as each kind of spec states them in its ``signature``."""

from __future__ import annotations

from dataclasses import dataclass

from tvmconv.base.dense import Dense

ROLES = ("input", "weight", "output")


@dataclass(frozen=True)
class Operand(Dense):
    """One array of a call. ``role``: "input" if it changes from call to call, "weight" if it is bound
    beforehand, "output" for the result."""

    role: str = "input"

    @property
    def is_quantisation(self) -> bool:
        """Whether it maps integers to real numbers: a scale or a zero point."""
        return self.name.endswith(("_scale", "_zero_point"))


Signature = tuple[Operand, ...]
