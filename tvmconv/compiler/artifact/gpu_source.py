"""The C source of a library for GPUs: the driver's part, the code it has, and steps that launch kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tvmconv.base.errors import SpecError
from tvmconv.compiler.artifact.c_source import HIDDEN, Source
from tvmconv.formats import cuda_source as sources
from tvmconv.formats.device_code import DeviceCode
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Place, Program, Variant

if TYPE_CHECKING:
    from tvmconv.schedules.gpu_machines import GpuMachine

_SOURCES = "tcv_sources"


class GpuSource(Source):
    """Of a CUDA library."""

    LIBRARY_FUNCTIONS = ("abi_version", "last_error", "check_device")
    texts = ("cuda.c",)
    own_workspace = False
    after = ", void *stream"

    def __init__(
        self, variants: Sequence[Variant], prefix: str, kind: str = "shared", weights: str | None = None
    ) -> None:
        super().__init__(variants, prefix, kind, weights)
        self.machine: GpuMachine = variants[0].machine
        for entry in self.entries:
            if any(program.constants for program in entry.programs):
                raise SpecError(f"function {entry.name}: constants for {self.machine.name}, expected none")

    def data(self) -> dict[str, bytes]:
        """Cubins, and the sources of the kernels by function."""
        found = {}
        for kernel in self.kernels.values():
            for sm, cubin in _device(kernel).cubins(kernel.object).items():
                found[_code(kernel, sm)] = cubin
        named = {name: _source(f) for name, f in self.variants[0].functions.items()}
        return {**found, _SOURCES: sources.embedded(named)}

    def before(self) -> list[str]:
        """What the library has code for."""
        sms = self.machine.sms
        return [
            f"#define TCV_VARIANTS {len(sms)}",
            f"#define TCV_CUDA {cuda_major(self.kernels.values())}",
            f"#define TCV_SMS {', '.join(map(str, sms))}",
            f'#define TCV_TARGETS "{", ".join(f"{sm // 10}.{sm % 10}" for sm in sms)}"',
        ]

    def tables(self) -> list[str]:
        """None that the text needs."""
        return []

    def _kept(self) -> tuple[str, ...]:
        return (_SOURCES,)

    def library_functions(self) -> list[str]:
        """What looks for a GPU; and the modules of code, which functions refer to."""
        return [
            f"TCV_EXPORT int {self.prefix}_check_device(int device) {{",
            "  return tcv_check_device(device);",
            "}",
            "",
            *(_module(kernel, self.machine.sms) for kernel in self.kernels.values()),
        ]

    def steps(
        self, name: str, program: Program, held: int, variant: int
    ) -> tuple[list[str], list[str]]:
        """A step is a launch with the pointers that it takes."""
        declared, rows = [], []
        for step in program.steps:
            code = _device(step.kernel)
            first = len(code.run) if step.prepack else 0
            for i, launch in enumerate(step.launches):
                table = f"tcv_operands_{len(rows)}_{name}"
                places = [_place(program, step.operands[operand][1]) for operand in launch.operands]
                declared.append(f"static const tcv_operand {table}[] = {{{', '.join(places)}}};")
                grid, block = (", ".join(map(str, extents)) for extents in (launch.grid, launch.block))
                which = f"&tcv_module_{step.kernel.symbol}, {first + i}, {len(places)}"
                rows.append(f"  {{{which}, {{{grid}}}, {{{block}}}, {table}}},")
        return declared, rows


def cuda_major(kernels: Iterable[Kernel]) -> int:
    """The lowest major CUDA version of a usable driver: that of the compiler, at least 12."""
    found = (re.search(r"(\d+)\.", _device(kernel).compiler) for kernel in kernels)
    return max(12, *(int(match.group(1)) for match in found if match))


def _device(kernel: Kernel) -> DeviceCode:
    if kernel.device is None:
        raise SpecError(f"{kernel.descriptor}: a kernel for a CPU, expected one for a GPU")
    return kernel.device


def _source(function: Kernel | Program) -> str:
    kernels = (function,) if isinstance(function, Kernel) else function.kernels
    return "\n".join(dict.fromkeys(_device(kernel).source for kernel in kernels))


def _code(kernel: Kernel, sm: int) -> str:
    return f"tcv_code_{kernel.symbol}_{sm}"


def _module(kernel: Kernel, sms: Sequence[int]) -> str:
    code = _device(kernel)
    names = [launch.kernel for launch in (*code.run, *code.prepack)]
    codes = [_code(kernel, sm) for sm in sms]
    return "\n".join([
        *(f"extern const char {symbol}[] {HIDDEN};" for symbol in codes),
        f"static const char *const tcv_names_{kernel.symbol}[] = {{",
        *(f'  "{name}",' for name in names),
        "};",
        f"static tcv_module tcv_module_{kernel.symbol} = {{",
        f"  tcv_names_{kernel.symbol}, {{{', '.join(codes)}}}, {len(names)}, {{0}}, {{{{0}}}},",
        "};",
    ])


def _place(program: Program, place: Place) -> str:
    index = place.index if place.of == "argument" else len(program.arguments)  # the workspace is last
    return f"{{{place.offset}u, {index}}}"
