"""The C source of a library: support text, the table of CPU features, and one set of entries a function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.formats import manifest as manifests
from tvmconv.formats.cpu_features import FEATURES, check_features
from tvmconv.formats.kernel import PACKED_ALIGNMENT, Kernel, Param, Variant

# DLPack's type codes.
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}
MAX_OPERANDS = 24  # TCV_MAX_ARGS

LIBRARY_FUNCTIONS = ("abi_version", "last_error", "set_num_threads", "variant")  # after the prefix
TVM_VARIABLES = ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace")
_TVM_NAMES = (*TVM_VARIABLES, "TVMFFIErrorSetRaisedFromCStrParts")  # that kernels refer to


@dataclass(frozen=True)
class Argument:
    """One pointer argument of a C function; ``bytes`` 0 where the function does not look at it."""

    name: str
    bytes: int
    align: int
    param: Param | None = None


def run_arguments(kernel: Kernel) -> tuple[Argument, ...]:
    """Arguments of NAME: x, packed (where there are weights), the other inputs, y."""
    inputs = [_argument(param) for param in kernel.inputs]
    packed = [Argument("packed", kernel.packed_bytes, PACKED_ALIGNMENT)] if kernel.packed else []
    return (*inputs[:1], *packed, *inputs[1:], _argument(kernel.output))


def prepack_arguments(kernel: Kernel) -> tuple[Argument, ...]:
    """Arguments of NAME_prepack: w, bias (always there, not looked at without one), others, packed."""
    weights = [_argument(param) for param in kernel.weights]
    if len(weights) < 2 or weights[1].name != "bias":
        weights.insert(1, Argument("bias", 0, 1))
    return (*weights, Argument("packed", kernel.packed_bytes, PACKED_ALIGNMENT))


def _argument(param: Param) -> Argument:
    return Argument(param.name, param.nbytes, param.itemsize, param)


def exported_symbols(functions: Mapping[str, Kernel], prefix: str, kind: str = "shared") -> list[str]:
    """Every symbol that the library exports, sorted: C functions and, where it can be loaded, what those who
    load it look for."""
    symbols = [f"{prefix}_{name}" for name in LIBRARY_FUNCTIONS]
    loaders = [*TVM_VARIABLES, *manifests.SHARED]
    for name, kernel in functions.items():
        symbols.append(name)
        loaders.append(f"__tvm_ffi_{name}")
        if kernel.packed:
            symbols += [f"{name}_prepack", f"{name}_packed_bytes"]
            loaders.append(f"__tvm_ffi_{name}_prepack")
    return sorted(symbols + loaders if kind == "shared" else symbols)


def local_names(prefix: str) -> dict[str, str]:
    """Names of a static library's own for those that TVM's kernels refer to, each of the same length: a
    program may hold several such libraries, which nothing keeps apart but their symbols."""
    return {
        name: ("tcv_" + hashlib.sha256(f"{prefix} {name}".encode()).hexdigest())[: len(name)]
        for name in _TVM_NAMES
    }


def generate(
    variants: Sequence[Variant], prefix: str, manifest: dict[str, Any],
    baked: Sequence[Mapping[str, str]], kind: str = "shared",
) -> str:  # fmt: skip
    """The whole C source of a library. Raises TargetError for an unknown CPU feature.

    ``variants``: of the same functions, best first. ``baked``, for each of them: symbols of packed weights
    in the library, by the functions that use them if `packed` is NULL. ``kind``: as for ``linker.link``.
    """
    here = Path(__file__).parent
    static = []
    if kind != "shared":
        static = ["#define TCV_STATIC 1", *(f"#define {a} {b}" for a, b in local_names(prefix).items())]
    return "\n".join([
        *static,
        *(
            (here / name).read_text(encoding="ascii")
            for name in ("support.c", "arm.c", "threads.c", "pool.c")
        ),
        _variants(variants),
        (here / "call.c").read_text(encoding="ascii"),
        _library(prefix, manifest),
        *(
            _function(name, [v.functions[name] for v in variants], [held.get(name) for held in baked])
            for name in variants[0].functions
        ),
    ])  # fmt: skip


def _variants(variants: Sequence[Variant]) -> str:
    lines, table = [], []
    for i, machine in enumerate(variant.machine for variant in variants):
        check_features(machine.requires, machine.arch)
        features = FEATURES.get(machine.arch, {})
        rows = [f'  {{"{name}", {", ".join(f"{n}u" for n in features[name])}}},' for name in machine.requires]
        lines += [f"static const tcv_feature tcv_required_{i}[] = {{", *rows, "  {0, 0, 0, 0, 0, 0},", "};"]
        table.append(f'  {{"{machine.name}", {machine.part:#x}u, tcv_required_{i}}},')
    table = ["static const tcv_variant tcv_variants[] = {", *table, "  {0, 0, 0},", "};", ""]
    return "\n".join([*lines, *table])


def _library(prefix: str, manifest: dict[str, Any]) -> str:
    text = c_string(manifests.embedded(manifest))
    return f"""/* ---- this library ---- */

static const char tcv_manifest[] =
{text};

TCV_EXPORT int {prefix}_abi_version(void) {{
  __asm__ volatile("" : : "r"(tcv_manifest)); /* so that no linker drops it */
  return {manifest["abi"]};
}}
TCV_EXPORT const char *{prefix}_last_error(void) {{ return tcv_error; }}
TCV_EXPORT void {prefix}_set_num_threads(int n) {{ tcv_set_num_threads(n); }}
TCV_EXPORT const char *{prefix}_variant(void) {{
  int i = tcv_variant_here();
  return i < 0 ? 0 : tcv_variants[i].name;
}}
"""


def c_string(data: bytes) -> str:
    """A string literal, in lines; ``data`` is ASCII with no '?' pairs that would be trigraphs."""
    escaped = [
        f"\\{chr(byte)}" if byte in b'"\\?' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in data
    ]
    return "\n".join(f'  "{"".join(escaped[i : i + 96])}"' for i in range(0, len(escaped), 96))


def _function(name: str, kernels: Sequence[Kernel], baked: Sequence[str | None]) -> str:
    """The C functions of one name; ``kernels`` and ``baked``: of each variant."""
    first = kernels[0]
    run = run_arguments(first)
    operands = [
        [
            *((param, _index(run, param.name), 0) for param in kernel.inputs),
            *((part, _index(run, "packed"), offset) for part, offset in _parts(kernel)),
            (kernel.output, len(run) - 1, 0),
        ]
        for kernel in kernels
    ]
    size = max(kernel.packed_bytes for kernel in kernels)
    entries = [f"__tvm_ffi_{kernel.symbol}" for kernel in kernels]
    loops = [kernel.parallel for kernel in kernels]
    text = [f"/* {name}: {first.descriptor} */",
            _entry(name, entries, _sized(run, size), operands, baked, loops)]
    if first.packed:
        pack = prepack_arguments(first)
        operands = [
            [
                *((param, _index(pack, param.name), 0) for param in kernel.weights),
                *((part, len(pack) - 1, offset) for part, offset in _parts(kernel)),
            ]
            for kernel in kernels
        ]
        packs, none = [f"{entry}_prepack" for entry in entries], [None] * len(kernels)
        text += [
            f"TCV_EXPORT size_t {name}_packed_bytes(void) {{ return {size}u; }}",
            _entry(f"{name}_prepack", packs, _sized(pack, size), operands, none, [()] * len(kernels)),
        ]
    return "\n".join(text)


def _sized(arguments: Sequence[Argument], packed_bytes: int) -> list[Argument]:
    """``arguments`` with room for the largest of the variants' packed weights."""
    return [replace(a, bytes=packed_bytes) if a.name == "packed" else a for a in arguments]


def _parts(kernel: Kernel) -> zip[tuple[Param, int]]:
    return zip(kernel.packed, kernel.packed_offsets(), strict=True)


def _index(arguments: Sequence[Argument], name: str) -> int:
    return next(i for i, argument in enumerate(arguments) if argument.name == name)


def _entry(
    name: str, symbols: Sequence[str], arguments: Sequence[Argument],
    operands: Sequence[Sequence[tuple[Param, int, int]]], baked: Sequence[str | None],
    loops: Sequence[tuple[int, ...]],
) -> str:  # fmt: skip
    """A C function and TVM's entry beside it; of each variant the kernel, its operands, baked weights and
    parallel loops."""
    tables, functions = [], []
    for i, (symbol, seen, held, turns) in enumerate(zip(symbols, operands, baked, loops, strict=True)):
        if len(seen) > MAX_OPERANDS:
            raise SpecError(f"function {name}: {len(seen)} operands, expected at most {MAX_OPERANDS}")
        tables += [
            *([f'extern const char {held}[] __attribute__((visibility("hidden")));'] if held else []),
            f"extern int {symbol}(void *, const tcv_any *, int32_t, tcv_any *)",
            '  __attribute__((visibility("hidden")));',
            *_operands(f"{i}_{name}", seen),
            f"static const int32_t tcv_loops_{i}_{name}[] = {{{', '.join(map(str, (*turns, 0)))}}};",
        ]
        rest = f"tcv_operands_{i}_{name}, {len(arguments)}, {len(seen)}, {held or 0}, tcv_loops_{i}_{name}"
        functions.append(f'  {{"{name}", {symbol}, tcv_arguments_{name}, {rest}}},')
    return "\n".join([
        *_arguments(name, arguments),
        *tables,
        f"static const tcv_function tcv_function_{name}[] = {{",
        *functions,
        "};",
        f"TCV_EXPORT int {name}({c_arguments(arguments)}) {{",
        f"  const void *const pointer[] = {{{', '.join(a.name for a in arguments)}}};",
        f"  return tcv_call(tcv_function_{name}, pointer);",
        "}",
        "#ifndef TCV_STATIC",
        f"TCV_EXPORT int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret);",
        f"int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret) {{",
        "  (void)self, (void)ret;",
        f"  return tcv_call_packed(tcv_function_{name}, args, n);",
        "}",
        "#endif",
        "",
    ])


def _operands(name: str, operands: Sequence[tuple[Param, int, int]]) -> list[str]:
    shapes, rows = [], []
    for i, (param, argument, offset) in enumerate(operands):
        seen = param.shape if param.kernel_shape is None else param.kernel_shape
        shapes.append(_shape(f"tcv_seen{i}_{name}", seen))
        dtype = _dlpack_type(param.dtype)
        tensor = f"0, TCV_DEVICE_CPU, 0, {len(seen)}, {dtype}, 1, tcv_seen{i}_{name}, 0, 0"
        rows.append(f"  {{{{{tensor}}}, {offset}u, {argument}}},")
    return [*shapes, f"static const tcv_operand tcv_operands_{name}[] = {{", *rows, "};"]


def _arguments(name: str, arguments: Sequence[Argument]) -> list[str]:
    shapes, rows = [], []
    for i, a in enumerate(arguments):
        table, ndim, dtype = "0", 0, "0, 0"
        if a.param is not None:
            table, ndim, dtype = f"tcv_shape{i}_{name}", len(a.param.shape), _dlpack_type(a.param.dtype)
            shapes.append(_shape(table, a.param.shape))
        rows.append(f'  {{"{a.name}", {a.bytes}u, {a.align}u, {table}, {ndim}, {dtype}}},')
    return [*shapes, f"static const tcv_argument tcv_arguments_{name}[] = {{", *rows, "};"]


def _shape(name: str, shape: Sequence[int]) -> str:
    return f"static const int64_t {name}[] = {{{', '.join(map(str, shape)) or '1'}}};"


def c_arguments(arguments: Sequence[Argument]) -> str:
    """The parameter list of a C function; what is written is last."""
    last = len(arguments) - 1
    return ", ".join(f"{'' if i == last else 'const '}void *{a.name}" for i, a in enumerate(arguments))


def _dlpack_type(dtype: str) -> str:
    kind = dtype.rstrip("0123456789")
    return f"{_CODES[kind]}, {dtype[len(kind):]}"
