"""What a kernel is compiled from and to, as text: its scheduled loops in TVMScript, its assembly.

A library keeps neither, so a kernel is compiled again, by its descriptor and the logs; `is_in` says whether
that gave the machine code that a library has.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tvm

from tvmconv.base.errors import TargetError
from tvmconv.compiler.codegen.kernel import symbol_of, written
from tvmconv.compiler.lower import generated, lowered
from tvmconv.compiler.workers import by_record
from tvmconv.formats.logs.lookup import Tuned
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.work import Work

_NOISE = re.compile(
    r"\s*\.(loc|file|cfi_\w+|addrsig\w*|ident)\b|\.L(tmp|func_begin|func_end|cfi)\d+:|\s*#(NO_)?APP$"
)
_DEBUG = re.compile(r'\s*\.section\s+"?\.(debug|note)')
_SECTION = re.compile(r"\s*\.(section|text)\b")
_SLACK = 3  # bytes before an address that a linker may change with it: the instruction's code


@dataclass(frozen=True)
class Source:
    """A kernel for one machine. ``symbol``: its name in TVMScript and assembly. ``schedule``: as the manifest
    has it."""

    symbol: str
    module: tvm.IRModule
    machine: AnyMachine
    schedule: Mapping[str, Any]

    @property
    def tir(self) -> str:
        """The scheduled loops, as TVMScript, before they are lowered. Weights come packed."""
        return self.module[self.symbol].script()

    @property
    def assembly(self) -> str:
        """The machine code in the assembler's syntax, without what is for debuggers. Raises TargetError for a
        GPU's kernel."""
        return _readable(self._built.inspect_source("asm"))

    @cached_property
    def object(self) -> bytes:
        """The object file. Raises TargetError for a GPU's kernel."""
        return written(self._built)

    @cached_property
    def _built(self) -> tvm.runtime.Module:
        if isinstance(self.machine, GpuMachine):
            raise TargetError(f"assembly: for {self.machine.name}, expected a CPU")
        target = llvm_target(self.machine)
        return generated(lowered(self.module, target), target)


def source_of(work: Work, machine: AnyMachine, tuned: Tuned | None = None) -> Source:
    """The kernel that `compile` makes of ``work`` with this record. Raises SpecError and TargetError."""
    module_for = importlib.import_module(f"tvmconv.compiler.{work.builder}").module_for
    (module, schedule), told = by_record(tuned, lambda choice: module_for(work, machine, choice))
    return Source(symbol_of(work), module, machine, {**schedule, **told})


def _readable(text: str) -> str:
    kept, debug = [], False
    for line in text.splitlines():
        if _SECTION.match(line):
            debug = _DEBUG.match(line) is not None
        if not debug and not _NOISE.match(line):
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"


def is_in(library: bytes, source: Source) -> bool:
    """Whether a library's file has the machine code of a kernel, addresses aside that linking fills in."""
    from elftools.elf.elffile import ELFFile

    made = ELFFile(io.BytesIO(source.object))
    # Conversions that no kernel calls have sections of their own.
    number = next(n for n, section in enumerate(made.iter_sections()) if section.name == ".text")
    code = made.get_section(number).data()
    return _holds(library, code, _fixed(made, number, len(code)))


def _fixed(made: Any, number: int, size: int) -> list[tuple[int, int]]:
    """(begin, end) of the parts of a section that no relocation touches, the longest first."""
    from elftools.elf.relocation import RelocationSection

    at: set[int] = set()
    for section in made.iter_sections():
        if isinstance(section, RelocationSection) and section["sh_info"] == number:
            at |= {relocation["r_offset"] for relocation in section.iter_relocations()}
    return sorted(_between(sorted(at), size), key=lambda part: part[0] - part[1])


def _between(addresses: list[int], size: int) -> Iterator[tuple[int, int]]:
    begin = 0
    for address in addresses:
        if address - _SLACK > begin:
            yield begin, address - _SLACK
        begin = address + 8
    if begin < size:
        yield begin, size


def _holds(data: bytes, code: bytes, fixed: list[tuple[int, int]]) -> bool:
    if not fixed:
        return False
    begin, end = fixed[0]
    at = data.find(code[begin:end])
    while at >= 0:
        start = at - begin
        if start >= 0 and all(data[start + a : start + b] == code[a:b] for a, b in fixed):
            return True
        at = data.find(code[begin:end], at + 1)
    return False
