"""What a GPU kernel has beyond the facts it shares with a CPU kernel: source, launches, code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GPU_ALIGNMENT = 16  # of arrays on a GPU: kernels load and store this many bytes at a time


@dataclass(frozen=True)
class Launch:
    """One launch of a device function. ``operands``: the pointers that it takes, by their positions among
    inputs, packed and output (in a prepack: weights, packed)."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    operands: tuple[int, ...]


@dataclass(frozen=True)
class DeviceCode:
    """``source`` in CUDA C, ``compiler`` that compiled it, and ``sizes``: for each compute capability,
    the bytes of its cubin in the kernel's ``object``, where they lie one after the other. ``run`` and
    ``prepack`` are launched in order."""

    source: str
    compiler: str
    sizes: tuple[tuple[int, int], ...]
    run: tuple[Launch, ...]
    prepack: tuple[Launch, ...] = ()

    def cubins(self, code: bytes) -> dict[int, bytes]:
        """The cubins in ``code``, by compute capability."""
        found, at = {}, 0
        for sm, size in self.sizes:
            found[sm] = code[at : at + size]
            at += size
        return found


def device_code(facts: dict[str, Any] | None) -> DeviceCode | None:
    """A DeviceCode from what ``dataclasses.asdict`` and JSON made of it."""
    if facts is None:
        return None

    def launches(rows: list[dict[str, Any]]) -> tuple[Launch, ...]:
        return tuple(Launch(row["kernel"], *map(tuple, (row["grid"], row["block"], row["operands"])))
                     for row in rows)

    return DeviceCode(facts["source"], facts["compiler"], tuple(map(tuple, facts["sizes"])),
                      launches(facts["run"]), launches(facts["prepack"]))
