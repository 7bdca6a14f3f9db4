"""What a C function of a library does: kernels run in order over places in memory. Plain facts, no TVM.

A single kernel makes two such programs, ``run_of`` and ``prepack_of``; a custom ``Program`` combines several
kernels, with constants and a planned workspace: see ``program`` and ``step``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tvmconv.base.errors import SpecError
from tvmconv.formats.device_code import Launch
from tvmconv.formats.kernel import PACKED_ALIGNMENT, Kernel, Param
from tvmconv.formats.order import prepack_order, run_order
from tvmconv.formats.program_checks import alignment, check_step

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

ALIGNMENT = 64  # of the workspace and of each constant
MOST_ARGUMENTS = 128  # TCV_MAX_ARGS

Role = Literal["input", "weight", "output", "packed", "workspace"]


@dataclass(frozen=True)
class Argument:
    """One pointer that a C function takes. ``nbytes``: the size of what it points to; 0 if it is not read and
    may be NULL. ``array``: what is there, if it is an array. ``default``: the constant that NULL stands
    for."""

    name: str
    nbytes: int
    align: int
    role: Role
    array: Param | None = None
    default: int | None = None

    @property
    def written(self) -> bool:
        """Whether the function writes to it."""
        return self.role in ("output", "workspace")


class Place(NamedTuple):
    """Where an array lies: ``offset`` bytes after the start of a program's argument or constant ``index``, or
    of its workspace, or of what its step ``index`` of ``prepared`` has packed."""

    of: Literal["argument", "constant", "workspace", "prepared"]
    index: int = 0
    offset: int = 0

    def after(self, offset: int) -> Place:
        """The place this many bytes further on."""
        return self._replace(offset=self.offset + offset)


Operand = tuple[Param, Place]


@dataclass(frozen=True)
class Step:
    """One run of a kernel, or with ``prepack`` of its weight packing, over ``operands``: the arrays that its
    code takes, in order, those that it writes last. On a GPU it makes as many launches as the kernel's device
    code states. ``in_place``: whether what it writes may be one of the arrays that it reads. ``source``: the
    names of a model's nodes that it comes from, ``values``: of what it writes; for people and checks."""

    kernel: Kernel
    operands: tuple[Operand, ...]
    prepack: bool = False
    in_place: bool = False
    source: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        """The name of the code, in the kernel's object."""
        return f"{self.kernel.symbol}_prepack" if self.prepack else self.kernel.symbol

    @property
    def launches(self) -> tuple[Launch, ...]:
        """On a GPU: its launches, each on some of ``operands``."""
        device = self.kernel.device
        return () if device is None else device.prepack if self.prepack else device.run

    @property
    def parallel(self) -> tuple[int, ...]:
        """On a CPU: iterations of its parallel loops, as ``Kernel.parallel``."""
        return () if self.prepack else self.kernel.parallel

    @property
    def flops(self) -> int:
        """Floating-point operations of a run."""
        return 0 if self.prepack else self.kernel.flops

    @property
    def traffic(self) -> int:
        """Bytes that a run must move at least: each operand once."""
        return sum(param.nbytes for param, _ in self.operands)

    @property
    def read(self) -> tuple[Operand, ...]:
        """The operands that it reads."""
        return self.operands[: -len(self.written)]

    @property
    def written(self) -> tuple[Operand, ...]:
        """The operands that it writes."""
        count = len(self.kernel.packed) if self.prepack else len(self.kernel.outputs)
        return self.operands[-count:]


class Prepared(NamedTuple):
    """Weights that a library packs once: by a ``step`` from constants to its own place; ``digest``: of what
    it makes, kept once for all programs of a target."""

    step: Step
    digest: str


@dataclass(frozen=True)
class Program:
    """What a C function does: ``steps`` one after another.

    ``arguments``: in call order, those that are written last. ``constants``: what the library holds for it.
    ``prepared``: packing of constants, before the first call and with memory that the library then keeps.
    ``workspace``: bytes for the values between steps, placed by whoever makes the program. As a function of a
    library (``Library(functions={"name": program}, ...)``) its arguments are its inputs and outputs.
    ``descriptor``: what it computes, one line; ``schedule``: as a kernel's. Raises SpecError for places out
    of bounds or not aligned to an element, and for a step that writes to something read-only, or over what it
    reads.
    """

    arguments: tuple[Argument, ...]
    steps: tuple[Step, ...]
    constants: tuple[bytes, ...] = field(default=(), repr=False)
    prepared: tuple[Prepared, ...] = ()
    workspace: int = 0
    descriptor: str = ""
    schedule: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if len(self.arguments) >= MOST_ARGUMENTS:
            what = f"{self.descriptor}: {len(self.arguments)} arguments"
            raise SpecError(f"{what}, expected fewer than {MOST_ARGUMENTS}")
        for number, step in enumerate(self.steps):
            check_step(self, f"{self.descriptor or step.kernel.descriptor}: step {number}", step)
        for number, one in enumerate(self.prepared):
            check_step(self, f"{self.descriptor}: packing {number}", one.step, packing=number)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels that it runs, each once."""
        every = (*self.steps, *(one.step for one in self.prepared))
        return tuple({id(step.kernel): step.kernel for step in every}.values())

    @property
    def flops(self) -> int:
        """Floating-point operations of a call."""
        return sum(step.flops for step in self.steps)

    @property
    def traffic(self) -> int:
        """Bytes that one call must move at least: arguments and constants once each."""
        return sum(a.nbytes for a in self.arguments) + sum(map(len, self.constants))

    def over(self, change: Callable[[Kernel], Kernel]) -> Program:
        """The same over other kernels."""
        changed = {id(kernel): change(kernel) for kernel in self.kernels}

        def on(step: Step) -> Step:
            return replace(step, kernel=changed[id(step.kernel)])

        prepared = tuple(one._replace(step=on(one.step)) for one in self.prepared)
        return replace(self, steps=tuple(map(on, self.steps)), prepared=prepared)


@dataclass(frozen=True)
class Variant:
    """A library's functions for one of its targets, by name; ``baked``: packed weights of those that are
    single kernels."""

    machine: AnyMachine
    functions: Mapping[str, Kernel | Program]
    baked: Mapping[str, bytes] = field(default_factory=dict)


def arrays_of(function: Kernel | Program) -> tuple[tuple[Param, str], ...]:
    """What callers give to a library's function, and the role of each, in the order of a call."""
    if isinstance(function, Kernel):
        return function.arguments
    return tuple((a.array, a.role) for a in function.arguments if a.array)


def program(
    descriptor: str, inputs: Sequence[Param], outputs: Sequence[Param], steps: Sequence[Step], *,
    constants: Sequence[bytes] = (), prepared: Sequence[Prepared] = (), workspace: int = 0,
) -> Program:  # fmt: skip
    """A program of several kernels; ``Place("argument", i)`` counts inputs, then outputs. ``workspace`` is
    rounded up to a multiple of 64. Raises SpecError as ``Program`` does."""
    kernel = steps[0].kernel if steps else None
    arguments = [
        *(_array(p, "input", kernel) for p in inputs), *(_array(p, "output", kernel) for p in outputs)
    ]  # fmt: skip
    if not inputs or not outputs:
        what = f"{descriptor}: {len(inputs)} inputs and {len(outputs)} outputs"
        raise SpecError(f"{what}, expected some of each")
    if not steps:
        raise SpecError(f"{descriptor}: no steps, expected some")
    names = [a.name for a in arguments]
    if len({name.upper() for name in (*names, "workspace")}) <= len(names):  # the header's macros
        raise SpecError(f"{descriptor}: arguments {', '.join(names)}, expected names that differ")
    for argument in arguments:
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", argument.name):
            raise SpecError(f"{descriptor}: argument {argument.name!r}, expected a C identifier")
        if argument.nbytes == 0:
            raise SpecError(f"{descriptor}: {argument.name} of no elements, expected some")
    rounded = -(-workspace // ALIGNMENT) * ALIGNMENT
    return Program(tuple(arguments), tuple(steps), tuple(constants), tuple(prepared), rounded, descriptor,
                   {"source": f"{len(steps)} steps"})  # fmt: skip


def step(
    kernel: Kernel, inputs: Sequence[Place], output: Place, packed: Place | None = None, *,
    more_outputs: Sequence[Place] = (), in_place: bool = False,
) -> Step:  # fmt: skip
    """A run of ``kernel`` on arrays at these places; ``packed``: its weights, packed, if it has any;
    ``in_place``: see `Step`. Raises SpecError for more or fewer than it takes."""
    outputs = (output, *more_outputs)
    for what, params, places in (("inputs", kernel.inputs, inputs), ("outputs", kernel.outputs, outputs)):
        if len(places) != len(params):
            names = ", ".join(p.name for p in params)
            raise SpecError(f"{kernel.descriptor}: {len(places)} {what}, expected {len(params)}: {names}")
    if (packed is not None) != bool(kernel.packed):
        wanted = f"{kernel.packed_bytes} bytes of packed weights" if kernel.packed else "no weights"
        raise SpecError(f"{kernel.descriptor}: {packed}, expected a place of {wanted}")
    if packed is not None and packed.offset % PACKED_ALIGNMENT:
        what = f"{kernel.descriptor}: packed weights at {packed.offset}"
        raise SpecError(f"{what}, expected a multiple of {PACKED_ALIGNMENT}")
    read = zip(kernel.inputs, inputs, strict=True)
    written = zip(kernel.outputs, outputs, strict=True)
    return Step(kernel, (*read, *_parts(kernel, packed), *written), in_place=in_place)


def run_of(kernel: Kernel, baked: bytes | None = None) -> Program:
    """NAME of a single kernel. ``baked``: packed weights used in place of NULL. Raises SpecError for a kernel
    with pitches: callers give dense arrays."""
    if any(p.pitch for p in (*kernel.inputs, *kernel.outputs)):
        raise SpecError(f"{kernel.descriptor}: a kernel with pitches, expected one in a program")
    inputs = [_array(p, "input", kernel) for p in kernel.inputs]
    packed = [replace(_packed(kernel), default=None if baked is None else 0)] if kernel.packed else []
    arguments = run_order(inputs, [_array(kernel.output, "output", kernel)], packed)
    at = {a.name: Place("argument", i) for i, a in enumerate(arguments)}
    run = step(kernel, [at[p.name] for p in kernel.inputs], at[kernel.output.name], at.get("packed"))
    return Program(tuple(arguments), (run,), () if baked is None else (baked,), descriptor=kernel.descriptor)


def prepack_of(kernel: Kernel) -> Program:
    """NAME_prepack of a kernel with weights; if it has no bias, that argument is not read."""
    given = {p.name: _array(p, "weight") for p in kernel.weights}
    packed, absent = replace(_packed(kernel), role="output"), Argument("bias", 0, 1, "weight")
    arguments = prepack_order(given, packed, absent)
    at = {a.name: Place("argument", i) for i, a in enumerate(arguments)}
    weights = [(p, at[p.name]) for p in kernel.weights]
    pack = Step(kernel, (*weights, *_parts(kernel, at["packed"])), prepack=True)
    return Program(tuple(arguments), (pack,), descriptor=kernel.descriptor)


def _array(param: Param, role: Role, kernel: Kernel | None = None) -> Argument:
    return Argument(param.name, param.nbytes, alignment(param, kernel), role, param)


def _packed(kernel: Kernel) -> Argument:
    return Argument("packed", kernel.packed_bytes, PACKED_ALIGNMENT, "packed")


def _parts(kernel: Kernel, packed: Place | None) -> list[Operand]:
    if packed is None:
        return []
    offsets = kernel.packed_offsets()
    return [(part, packed.after(offset)) for part, offset in zip(kernel.packed, offsets, strict=True)]
