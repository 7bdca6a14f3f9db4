"""A compiled kernel, as the compiler hands it to the artifact side: bytes and plain facts, no TVM."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from tvmconv.base.dense import Dense
from tvmconv.base.errors import SpecError
from tvmconv.formats.device_code import DeviceCode

PACKED_ALIGNMENT = 64  # of a packed blob and of each of its parts


@dataclass(frozen=True)
class Param(Dense):
    """One array that a kernel reads or writes.

    ``kernel_shape``: the shape in which the compiled code sees the same memory, if different. ``pitch``:
    elements from the beginning of a row, what lies along the last dim, to that of the next; 0: it is dense.
    """

    kernel_shape: tuple[int, ...] | None = None
    pitch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_shape is not None:
            object.__setattr__(self, "kernel_shape", tuple(self.kernel_shape))
        if self.pitch and self.pitch < self.width:
            raise SpecError(f"pitch of {self.name}: {self.pitch}, expected {self.width}, its rows, or more")

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def span(self) -> int:
        """Bytes from the first element to the last."""
        if not self.pitch or not self.elements:
            return self.nbytes
        return ((self.elements // self.width - 1) * self.pitch + self.width) * self.itemsize

    def overlaps(self, at: int, other: Param, there: int) -> bool:
        """Whether it has bytes in common with another array, given where in memory each begins."""
        if not (at < there + other.span and there < at + self.span):
            return False
        row = self.pitch * self.itemsize
        if not row or row != other.pitch * other.itemsize:
            return True
        # Ranges of the columns of one wider array.
        apart = (there - at) % row
        return apart < self.width * self.itemsize or apart + other.width * other.itemsize > row


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: a relocatable object and what a caller must know to use it.

    ``object`` exports ``__tvm_ffi_<symbol>(inputs..., packed..., output)`` and, where there are
    weights, ``__tvm_ffi_<symbol>_prepack(weights..., packed...)``; with ``packer``, that is an object for the
    latter only. The parts of ``packed`` lie one after the other in one blob, each at a multiple of 64 bytes.
    ``parallel``: iterations of the parallel loops that a call runs, in order, if that is known.
    ``workspace``: the most bytes that a call uses at a time besides its arrays, for the calling thread, and
    for each computing thread. With ``device``, ``object`` holds cubins. ``order``: names of all but the
    packed arrays, as its spec's signature has them. ``more_outputs``: results that follow ``output``.
    """

    symbol: str
    descriptor: str
    object: bytes = field(repr=False)
    inputs: tuple[Param, ...]
    weights: tuple[Param, ...]
    packed: tuple[Param, ...]
    output: Param
    schedule: dict[str, Any] = field(default_factory=dict, hash=False)
    flops: int = 0
    device: DeviceCode | None = field(default=None, repr=False)
    packer: bytes = field(default=b"", repr=False)
    parallel: tuple[int, ...] = ()
    workspace: tuple[int, int] = (0, 0)
    order: tuple[str, ...] = ()
    more_outputs: tuple[Param, ...] = ()

    @property
    def outputs(self) -> tuple[Param, ...]:
        """All that a call writes, in order."""
        return (self.output, *self.more_outputs)

    @property
    def objects(self) -> tuple[bytes, ...]:
        """All that is to be linked."""
        return (self.object, self.packer) if self.packer else (self.object,)

    @property
    def arguments(self) -> tuple[tuple[Param, str], ...]:
        """All but the packed arrays, and the role of each, in the order of a Python call."""
        roles = [(self.inputs, "input"), (self.weights, "weight"), (self.outputs, "output")]
        found = {param.name: (param, role) for params, role in roles for param in params}
        return tuple(found[name] for name in self.order or found)

    def packed_offsets(self) -> tuple[int, ...]:
        """Byte offset of each part of ``packed`` in the blob."""
        return tuple(self._layout()[0])

    @property
    def traffic(self) -> int:
        """Bytes that one call must move at least: inputs, weights and output once each."""
        return sum(p.nbytes for p in (*self.inputs, *self.weights, *self.outputs))

    @property
    def packed_bytes(self) -> int:
        """Size of the packed blob, a multiple of 64 (0 without weights)."""
        return self._layout()[1]

    def _layout(self) -> tuple[list[int], int]:
        offsets, end = [], 0
        for part in self.packed:
            offsets.append(end)
            end += -(-part.nbytes // PACKED_ALIGNMENT) * PACKED_ALIGNMENT
        return offsets, end


def renamed(kernel: Kernel, place: str) -> Kernel:
    """``kernel`` with its own symbol in ``place``, so that one program can use it in several places."""
    # The digits are a hash of the descriptor: nothing else in an object looks like them.
    old = kernel.symbol
    new = ("k_" + hashlib.sha256(f"{place} {old}".encode()).hexdigest())[: len(old)]
    code, packer = (part.replace(old.encode(), new.encode()) for part in (kernel.object, kernel.packer))
    return replace(kernel, symbol=new, object=code, packer=packer)
