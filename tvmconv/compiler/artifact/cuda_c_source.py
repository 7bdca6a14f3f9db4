"""The C source of a CUDA library: the driver's part, the code it has, and one set of entries a function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.compiler.artifact.c_source import (
    MAX_OPERANDS,
    Argument,
    c_arguments,
    c_string,
    prepack_arguments,
    run_arguments,
)
from tvmconv.formats import cuda_source as sources
from tvmconv.formats import manifest as manifests
from tvmconv.formats.device_code import Launch
from tvmconv.formats.kernel import Kernel, Param

if TYPE_CHECKING:
    from tvmconv.schedules.gpu_machines import GpuMachine

LIBRARY_FUNCTIONS = ("abi_version", "last_error", "check_device")  # after the prefix
ALIGNMENT = 16  # of arrays on a GPU: kernels load and store so many bytes at a time
_SOURCES = "tcv_sources"


def exported_symbols(functions: Mapping[str, Kernel], prefix: str) -> list[str]:
    """Every symbol that the library exports, sorted."""
    symbols = [f"{prefix}_{name}" for name in LIBRARY_FUNCTIONS]
    for name, kernel in functions.items():
        symbols += [name, *([f"{name}_prepack", f"{name}_packed_bytes"] if kernel.packed else [])]
    return sorted(symbols)


def data(functions: Mapping[str, Kernel]) -> dict[str, bytes]:
    """What the library holds besides compiled C, by symbol: cubins, and the sources of the kernels."""
    found = {}
    for kernel in functions.values():
        for sm, cubin in kernel.device.cubins(kernel.object).items():
            found[_code(kernel, sm)] = cubin
    return {**found, _SOURCES: sources.embedded({name: k.device.source for name, k in functions.items()})}


def generate(
    functions: Mapping[str, Kernel], machine: GpuMachine, prefix: str, manifest: Mapping[str, Any]
) -> str:
    """The whole C source of a library."""
    kernels: dict[str, Kernel] = {}
    for name, kernel in functions.items():
        if kernels.setdefault(kernel.symbol, kernel) != kernel:
            raise ArtifactError(f"function {name}: symbol {kernel.symbol} is also another kernel's")
    return "\n".join([
        f"#define TCV_VARIANTS {len(machine.sms)}",
        f"#define TCV_CUDA {cuda_major(functions)}",
        f"#define TCV_SMS {', '.join(map(str, machine.sms))}",
        f'#define TCV_TARGETS "{", ".join(f"{sm // 10}.{sm % 10}" for sm in machine.sms)}"',
        Path(__file__).with_name("cuda.c").read_text(encoding="ascii"),
        _library(prefix, manifest),
        *(_module(kernel, machine.sms) for kernel in kernels.values()),
        *(_function(name, kernel) for name, kernel in functions.items()),
    ])


def cuda_major(functions: Mapping[str, Kernel]) -> int:
    """The major version of CUDA that a driver has to be of, or newer: that of the compiler, 12 at least."""
    found = (re.search(r"(\d+)\.", kernel.device.compiler) for kernel in functions.values())
    return max(12, *(int(match.group(1)) for match in found if match))


def aligned(arguments: Sequence[Argument]) -> list[Argument]:
    """A function's arguments with the alignment that it wants of them on a GPU."""
    return [replace(a, align=max(a.align, ALIGNMENT)) if a.bytes else a for a in arguments]


def _code(kernel: Kernel, sm: int) -> str:
    return f"tcv_code_{kernel.symbol}_{sm}"


def _library(prefix: str, manifest: Mapping[str, Any]) -> str:
    return f"""/* ---- this library ---- */

static const char tcv_manifest[] =
{c_string(manifests.embedded(dict(manifest)))};
extern const char {_SOURCES}[] __attribute__((visibility("hidden")));

TCV_EXPORT int {prefix}_abi_version(void) {{
  __asm__ volatile("" : : "r"(tcv_manifest), "r"({_SOURCES})); /* so that no linker drops them */
  return {manifest["abi"]};
}}
TCV_EXPORT const char *{prefix}_last_error(void) {{ return tcv_error; }}
TCV_EXPORT int {prefix}_check_device(int device) {{ return tcv_check_device(device); }}
"""


def _module(kernel: Kernel, sms: Sequence[int]) -> str:
    names = [launch.kernel for launch in (*kernel.device.run, *kernel.device.prepack)]
    codes = [_code(kernel, sm) for sm in sms]
    return "\n".join([
        *(f'extern const char {code}[] __attribute__((visibility("hidden")));' for code in codes),
        f"static const char *const tcv_names_{kernel.symbol}[] = {{",
        *(f'  "{name}",' for name in names),
        "};",
        f"static tcv_module tcv_module_{kernel.symbol} = {{",
        f"  tcv_names_{kernel.symbol}, {{{', '.join(codes)}}}, {len(names)}, {{0}}, {{{{0}}}},",
        "};",
        "",
    ])


def _function(name: str, kernel: Kernel) -> str:
    device, run = kernel.device, run_arguments(kernel)
    packed = list(zip(kernel.packed, kernel.packed_offsets(), strict=True))
    operands = [*_whole(run, kernel.inputs), *_parts(run, packed), *_whole(run, [kernel.output])]
    text = [f"/* {name}: {kernel.descriptor} */",
            _entry(name, kernel, aligned(run), operands, device.run, 0)]
    if kernel.packed:
        pack = prepack_arguments(kernel)
        operands = [*_whole(pack, kernel.weights), *_parts(pack, packed)]
        text += [
            f"TCV_EXPORT size_t {name}_packed_bytes(void) {{ return {kernel.packed_bytes}u; }}",
            _entry(f"{name}_prepack", kernel, pack, operands, device.prepack, len(device.run)),
        ]
    return "\n".join(text)


def _whole(arguments: Sequence[Argument], params: Sequence[Param]) -> list[tuple[int, int]]:
    names = [argument.name for argument in arguments]
    return [(names.index(param.name), 0) for param in params]


def _parts(arguments: Sequence[Argument], packed: Sequence[tuple[Param, int]]) -> list[tuple[int, int]]:
    at = [argument.name for argument in arguments].index("packed") if packed else 0
    return [(at, offset) for _, offset in packed]


def _entry(
    name: str, kernel: Kernel, arguments: Sequence[Argument], operands: Sequence[tuple[int, int]],
    launches: Sequence[Launch], first: int,
) -> str:  # fmt: skip
    if len(operands) > MAX_OPERANDS:
        raise SpecError(f"function {name}: {len(operands)} operands, expected at most {MAX_OPERANDS}")
    rows = [f'  {{"{a.name}", {a.bytes}u, {a.align}u}},' for a in arguments]
    launched, lists = [], []
    for i, launch in enumerate(launches):
        places = f"tcv_operands{i}_{name}"
        lists.append(f"static const signed char {places}[] = {{{', '.join(map(str, launch.operands))}, -1}};")
        grid, block = (", ".join(map(str, extents)) for extents in (launch.grid, launch.block))
        launched.append(f"  {{{first + i}, {{{grid}}}, {{{block}}}, {places}}},")
    return "\n".join([
        *lists,
        f"static const tcv_argument tcv_arguments_{name}[] = {{",
        *rows,
        "};",
        f"static const tcv_operand tcv_operands_{name}[] = {{",
        *(f"  {{{offset}u, {argument}}}," for argument, offset in operands),
        "};",
        f"static const tcv_launch tcv_launches_{name}[] = {{",
        *launched,
        "};",
        f"static const tcv_function tcv_function_{name} = {{",
        f'  "{name}", &tcv_module_{kernel.symbol}, tcv_arguments_{name}, tcv_operands_{name},',
        f"  tcv_launches_{name}, {len(arguments)}, {len(launches)},",
        "};",
        f"TCV_EXPORT int {name}({c_arguments(arguments)}, void *stream) {{",
        f"  const void *const pointer[] = {{{', '.join(a.name for a in arguments)}}};",
        f"  return tcv_call(&tcv_function_{name}, pointer, stream);",
        "}",
        "",
    ])
