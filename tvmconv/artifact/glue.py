"""The C source of a library: support text, the table of CPU features, and one set of entries a function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.artifact import manifest as manifests
from tvmconv.artifact.kernel import PACKED_ALIGNMENT, Kernel, Param
from tvmconv.errors import SpecError
from tvmconv.runtime.cpu import FEATURES, check_features

if TYPE_CHECKING:
    from tvmconv.schedules.machines import Machine

# DLPack's type codes.
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}
MAX_OPERANDS = 16  # TCV_MAX_ARGS

LIBRARY_FUNCTIONS = ("abi_version", "last_error", "set_num_threads")  # after the prefix
TVM_VARIABLES = ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace")

# What C or C++ would not take as a function's name.
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr
    continue decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if inline int long main mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register restrict return short signed sizeof static static_assert struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor xor_eq
"""
_RESERVED = frozenset(_KEYWORDS.split())


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


def check_names(
    functions: dict[str, Kernel], prefix: str, library_functions: Sequence[str] = LIBRARY_FUNCTIONS
) -> None:
    """Raises SpecError for names that are no C identifiers, or that collide."""
    _check_identifier("prefix", prefix)
    taken = {f"{prefix}_{name}".upper(): "the library" for name in library_functions}
    for name, kernel in functions.items():
        _check_identifier("function name", name)
        for symbol in [name, *([f"{name}_prepack", f"{name}_packed_bytes"] if kernel.packed else [])]:
            owner = taken.setdefault(symbol.upper(), name)  # the header's macros are in capitals
            if owner != name:
                raise SpecError(f"function name: {name!r}, expected one that does not collide with {owner!r}")


def _check_identifier(what: str, name: Any) -> None:
    good = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    if not good or name in _RESERVED or name.startswith("tcv_"):
        raise SpecError(f"{what}: {name!r}, expected a C identifier that is no keyword")


def exported_symbols(functions: dict[str, Kernel], prefix: str) -> list[str]:
    """Every symbol that the library exports, sorted: C functions and what TVM looks for."""
    symbols = [f"{prefix}_{name}" for name in LIBRARY_FUNCTIONS] + list(TVM_VARIABLES)
    for name, kernel in functions.items():
        symbols += [name, f"__tvm_ffi_{name}"]
        if kernel.packed:
            symbols += [f"{name}_prepack", f"{name}_packed_bytes", f"__tvm_ffi_{name}_prepack"]
    return sorted(symbols)


def generate(
    functions: dict[str, Kernel],
    machine: Machine,
    prefix: str,
    manifest: dict[str, Any],
    baked: Mapping[str, str],
) -> str:
    """The whole C source of a library. Raises TargetError for an unknown CPU feature.

    ``baked``: symbols of packed weights in the library, by the functions that use them if `packed` is NULL.
    """
    here = Path(__file__).parent
    return "\n".join([
        (here / "support.c").read_text(encoding="ascii"),
        (here / "pool.c").read_text(encoding="ascii"),
        _required(machine.requires, machine.arch),
        (here / "call.c").read_text(encoding="ascii"),
        _library(prefix, manifest),
        *(_function(name, kernel, baked.get(name)) for name, kernel in functions.items()),
    ])


def _required(names: Sequence[str], arch: str) -> str:
    check_features(tuple(names), arch)
    rows = [f'  {{"{name}", {", ".join(f"{n}u" for n in FEATURES[arch][name])}}},' for name in names]
    rows.append("  {0, 0, 0, 0, 0, 0},")
    return "\n".join(["static const tcv_feature tcv_required[] = {", *rows, "};", ""])


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
"""


def c_string(data: bytes) -> str:
    """A string literal, in lines; ``data`` is ASCII with no '?' pairs that would be trigraphs."""
    escaped = [
        f"\\{chr(byte)}" if byte in b'"\\?' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in data
    ]
    return "\n".join(f'  "{"".join(escaped[i : i + 96])}"' for i in range(0, len(escaped), 96))


def _function(name: str, kernel: Kernel, baked: str | None) -> str:
    symbol = kernel.symbol
    run = run_arguments(kernel)
    operands = [
        *((param, _index(run, param.name), 0) for param in kernel.inputs),
        *((part, _index(run, "packed"), offset) for part, offset in _parts(kernel)),
        (kernel.output, len(run) - 1, 0),
    ]
    text = [f"/* {name}: {kernel.descriptor} */", _entry(name, f"__tvm_ffi_{symbol}", run, operands, baked)]
    if kernel.packed:
        pack = prepack_arguments(kernel)
        operands = [
            *((param, _index(pack, param.name), 0) for param in kernel.weights),
            *((part, len(pack) - 1, offset) for part, offset in _parts(kernel)),
        ]
        text += [
            f"TCV_EXPORT size_t {name}_packed_bytes(void) {{ return {kernel.packed_bytes}u; }}",
            _entry(f"{name}_prepack", f"__tvm_ffi_{symbol}_prepack", pack, operands),
        ]
    return "\n".join(text)


def _parts(kernel: Kernel) -> zip[tuple[Param, int]]:
    return zip(kernel.packed, kernel.packed_offsets(), strict=True)


def _index(arguments: Sequence[Argument], name: str) -> int:
    return next(i for i, argument in enumerate(arguments) if argument.name == name)


def _entry(
    name: str, symbol: str, arguments: Sequence[Argument], operands: Sequence[tuple[Param, int, int]],
    baked: str | None = None,
) -> str:  # fmt: skip
    if len(operands) > MAX_OPERANDS:
        raise SpecError(f"function {name}: {len(operands)} operands, expected at most {MAX_OPERANDS}")
    shapes, rows, described = [], [], []

    def shape_table(kind: str, i: int, shape: Sequence[int]) -> str:
        shapes.append(f"static const int64_t {kind}{i}_{name}[] = {{{', '.join(map(str, shape)) or '1'}}};")
        return f"{kind}{i}_{name}"

    for i, (param, argument, offset) in enumerate(operands):
        seen = param.shape if param.kernel_shape is None else param.kernel_shape
        table, dtype = shape_table("tcv_seen", i, seen), _dlpack_type(param.dtype)
        tensor = f"0, TCV_DEVICE_CPU, 0, {len(seen)}, {dtype}, 1, {table}, 0, 0"
        rows.append(f"  {{{{{tensor}}}, {offset}u, {argument}}},")
    for i, a in enumerate(arguments):
        fallback = baked if baked and a.name == "packed" else 0
        table, ndim, dtype = "0", 0, "0, 0"
        if a.param is not None:
            table, ndim = shape_table("tcv_shape", i, a.param.shape), len(a.param.shape)
            dtype = _dlpack_type(a.param.dtype)
        described.append(f'  {{"{a.name}", {a.bytes}u, {a.align}u, {fallback}, {table}, {ndim}, {dtype}}},')
    counts = f"{len(arguments)}, {len(operands)}"
    return "\n".join([
        *([f'extern const char {baked}[] __attribute__((visibility("hidden")));'] if baked else []),
        f"extern int {symbol}(void *, const tcv_any *, int32_t, tcv_any *)",
        '  __attribute__((visibility("hidden")));',
        *shapes,
        f"static const tcv_operand tcv_operands_{name}[] = {{",
        *rows,
        "};",
        f"static const tcv_argument tcv_arguments_{name}[] = {{",
        *described,
        "};",
        f"static const tcv_function tcv_function_{name} = {{",
        f'  "{name}", {symbol}, tcv_arguments_{name}, tcv_operands_{name}, {counts},',
        "};",
        f"TCV_EXPORT int {name}({c_arguments(arguments)}) {{",
        f"  const void *const pointer[] = {{{', '.join(a.name for a in arguments)}}};",
        f"  return tcv_call(&tcv_function_{name}, pointer);",
        "}",
        f"TCV_EXPORT int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret);",
        f"int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret) {{",
        "  (void)self, (void)ret;",
        f"  return tcv_call_packed(&tcv_function_{name}, args, n);",
        "}",
        "",
    ])


def c_arguments(arguments: Sequence[Argument]) -> str:
    """The parameter list of a C function; what is written is last."""
    last = len(arguments) - 1
    return ", ".join(f"{'' if i == last else 'const '}void *{a.name}" for i, a in enumerate(arguments))


def _dlpack_type(dtype: str) -> str:
    kind = dtype.rstrip("0123456789")
    return f"{_CODES[kind]}, {dtype[len(kind):]}"
