"""The C source of a library: fixed texts, and tables and an entry for each C function.

All this is the same for any machine except for what a step is, which ``cpu_source`` and ``gpu_source``
define.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from tvmconv.base.errors import ArtifactError
from tvmconv.compiler.artifact.entries import Entry, entries_of
from tvmconv.formats import manifest as manifests
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Argument, Program, Variant

HIDDEN = '__attribute__((visibility("hidden")))'  # of what is linked in from elsewhere

_C_TYPES = {
    "float32": "float", "float64": "double", "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
# DLPack's type codes.
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}


class Source(ABC):
    """A library's C source and what is linked with it.

    ``variants``: of the same functions, best first. ``kind``: as for ``linker.link``. ``weights``: the name
    of the file that has the constants; None: they are in the library.
    Raises ArtifactError where two kernels have one symbol.
    """

    LIBRARY_FUNCTIONS: ClassVar[tuple[str, ...]]  # after the prefix
    headers: ClassVar[tuple[str, ...]] = ("call.h",)  # what all functions are made of
    texts: ClassVar[tuple[str, ...]]  # of the machine's part, after the common ones
    own_workspace: ClassVar[bool]  # whether threads have a workspace for callers that pass none
    after: ClassVar[str] = ""  # pointers after the others of a C function

    def __init__(
        self, variants: Sequence[Variant], prefix: str, kind: str = "shared", weights: str | None = None
    ) -> None:
        self.variants, self.prefix, self.kind, self.weights = variants, prefix, kind, weights
        self.entries = [
            entry
            for name in variants[0].functions
            for entry in entries_of(
                manifests.symbol_of(name, prefix), [v.functions[name] for v in variants],
                [v.baked.get(name) for v in variants],
            )
        ]
        self.kernels: dict[str, Kernel] = {}
        self.constants: dict[bytes, str] = {}  # symbols; equal ones are stored once
        for entry in self.entries:
            for program in entry.programs:
                for kernel in program.kernels:
                    held = self.kernels.setdefault(kernel.symbol, kernel)
                    if replace(held, schedule=kernel.schedule) != kernel:  # where it is from is told apart
                        what = f"function {entry.name}: symbol {kernel.symbol}"
                        raise ArtifactError(f"{what} is also another kernel's")
                for constant in program.constants:
                    self.constants.setdefault(constant, f"tcv_baked_{prefix}_{len(self.constants)}")

    @property
    def apart(self) -> bool:
        """Whether what does not depend on the functions may be compiled apart from them."""
        return False

    def text(self, manifest: Mapping[str, Any]) -> str:
        """The whole source, in one file. Raises TargetError for an unknown CPU feature."""
        return "\n".join(self._parts(manifest))

    def files(self, manifest: Mapping[str, Any]) -> list[str]:
        """The source in files to compile: the library's own last, before it what does not depend on its
        functions. Errors as for `text`."""
        if not self.apart:
            return [self.text(manifest)]
        return [f"#define TCV_OWN {HIDDEN}\n{part}" for part in self._parts(manifest)]

    def _parts(self, manifest: Mapping[str, Any]) -> list[str]:
        headers = [_read(name) for name in self.headers]
        *texts, last = [_read(name) for name in ("errors.c", "call.c", *self.texts)]
        common = [*self.before(), *headers, *texts, *self.tables(), last]
        self._shapes: dict[tuple[int, ...], None] = {}
        functions = self.before_functions()
        functions += [line for entry in self.entries for line in self._function(entry)]
        constants = (f"extern const char {symbol}[] {HIDDEN};" for symbol in self._in_library.values())
        shapes = (
            f"static const int64_t {_shape_name(shape)}[] = {{{', '.join(map(str, shape)) or '1'}}};"
            for shape in self._shapes
        )
        own = [*headers, *self._library(manifest), *constants, *shapes, "", *functions]
        return ["\n".join(common), "\n".join(own)]

    def shape(self, shape: Sequence[int]) -> str:
        """The symbol of a table of extents."""
        self._shapes[tuple(shape)] = None
        return _shape_name(shape)

    def exported(self) -> list[str]:
        """Every symbol that the library exports, sorted."""
        symbols = [f"{self.prefix}_{name}" for name in self.LIBRARY_FUNCTIONS]
        for entry in self.entries:
            symbols += [entry.name, *([entry.bytes_name] if entry.packed_bytes else [])]
            symbols += [entry.steps_name] if entry.by_arrays and self.own_workspace else []
        return sorted(symbols)

    def weights_facts(self) -> dict[str, Any]:
        """What the manifest says of weights in a file."""
        return {}

    def objects(self) -> list[bytes]:
        """What is linked with the source."""
        return []

    def data(self) -> dict[str, bytes]:
        """Read-only bytes that the source refers to, by symbol."""
        return {symbol: data for data, symbol in self._in_library.items()}

    @property
    def _in_library(self) -> dict[bytes, str]:
        return {} if self.weights else self.constants

    # ---- what the machine adds ----

    def before(self) -> list[str]:
        """Lines at the top of the source."""
        return []

    @abstractmethod
    def tables(self) -> list[str]:
        """Lines before the last of ``texts``."""

    @abstractmethod
    def library_functions(self) -> list[str]:
        """The definitions of LIBRARY_FUNCTIONS that are not the same everywhere."""

    @abstractmethod
    def steps(
        self, name: str, program: Program, held: int, variant: int
    ) -> tuple[list[str], list[str]]:
        """Declarations, and the rows of the table of a program's steps. ``name`` is for symbols; ``held``:
        the number of arguments, and so the index of what the library holds; ``variant``: the program's."""

    def before_functions(self) -> list[str]:
        """Definitions that functions refer to."""
        return []

    def beside_program(self, number: int, name: str, program: Program) -> tuple[list[str], str]:
        """More definitions for a program of a C function, and members of its tcv_program; ``number``: of its
        variant."""
        return [], "0, 0"

    def beside(self, entry: Entry) -> list[str]:
        """More definitions for a C function."""
        return []

    # ---- the same for all ----

    def _library(self, manifest: Mapping[str, Any]) -> list[str]:
        kept = ", ".join(f'"r"({symbol})' for symbol in ("tcv_manifest", *self._kept()))
        return [
            "/* ---- this library ---- */",
            "",
            "static const char tcv_manifest[] =",
            f"{c_string(manifests.embedded(dict(manifest)))};",
            *(f"extern const char {symbol}[] {HIDDEN};" for symbol in self._kept()),
            "",
            f"TCV_EXPORT int {self.prefix}_abi_version(void) {{",
            f'  __asm__ volatile("" : : {kept}); /* so that no linker drops it */',
            f"  return {manifest['abi']};",
            "}",
            f"TCV_EXPORT const char *{self.prefix}_last_error(void) {{ return tcv_last_error(); }}",
            *self.library_functions(),
            "",
        ]

    def _kept(self) -> tuple[str, ...]:
        """Data that nothing refers to."""
        return ()

    def _function(self, entry: Entry) -> Iterable[str]:
        name, arguments = entry.name, entry.arguments
        written = sum(a.written for a in arguments)
        yield f"/* {name}: {c_comment(entry.programs[0].descriptor)} */"
        yield from self._arguments(name, arguments)
        programs = []
        for i, program in enumerate(entry.programs):
            declared, rows = self.steps(f"{i}_{name}", program, len(arguments), i)
            yield from declared
            yield from (f"static const tcv_step tcv_steps_{i}_{name}[] = {{", *rows, "};")
            defaults = [a.default for a in program.arguments]
            instead = "0"
            if any(default is not None for default in defaults):
                instead = f"tcv_instead_{i}_{name}"
                held = ("0" if d is None else self.constants[program.constants[d]] for d in defaults)
                yield f"static const void *const {instead}[] = {{{', '.join(held)}}};"
            more, members = self.beside_program(i, f"{i}_{name}", program)
            yield from more
            programs.append(f"  {{tcv_steps_{i}_{name}, {len(rows)}, {instead}, {members}}},")
        workspace = len(arguments) - 1 if entry.by_arrays and self.own_workspace else -1
        facts = f"tcv_arguments_{name}, tcv_programs_{name}, {len(arguments)}, {written}, "
        facts += f"{entry.scratch}u, {workspace}"
        stream = self.after.rpartition("*")[2] or "0"
        yield from (f"static const tcv_program tcv_programs_{name}[] = {{", *programs, "};")
        yield f'static const tcv_function tcv_function_{name} = {{"{name}", {facts}}};'
        if entry.packed_bytes:
            yield f"TCV_EXPORT size_t {entry.bytes_name}(void) {{ return {entry.packed_bytes}u; }}"
        yield f"TCV_EXPORT int {name}({c_parameters(entry)}{self.after}) {{"
        if entry.by_arrays:
            yield f"  return tcv_call_arrays(&tcv_function_{name}, in, out, workspace, {stream});"
        else:
            yield f"  const void *const pointer[] = {{{', '.join(a.name for a in arguments)}}};"
            yield f"  return tcv_call(&tcv_function_{name}, pointer, {stream});"
        yield from ("}", *self.beside(entry), "")

    def _arguments(self, name: str, arguments: Sequence[Argument]) -> list[str]:
        rows = []
        for a in arguments:
            kind = "0, 0, 0, 0"
            if a.array is not None:
                shape = a.array.shape
                kind = f"{self.shape(shape)}, {len(shape)}, {c_dtype(a.array.dtype)}"
            rows.append(f'  {{"{a.name}", {a.nbytes}u, {a.align}u, {kind}}},')
        return [f"static const tcv_argument tcv_arguments_{name}[] = {{", *rows, "};"]


def c_parameters(entry: Entry) -> str:
    """The parameter list of a C function, without what a machine adds."""
    if entry.by_arrays:
        return "const void *const *in, void *const *out, void *workspace"
    return ", ".join(f"{'' if a.written else 'const '}{_c_type(a)} *{a.name}" for a in entry.arguments)


def _c_type(argument: Argument) -> str:
    """What a pointer points to, so that swapped arguments do not compile; void where C has no type for it
    (16-bit floats, packed weights)."""
    return _C_TYPES.get(argument.array.dtype, "void") if argument.array else "void"


def c_comment(text: str) -> str:
    """``text`` as ASCII that cannot end a comment."""
    return text.encode("ascii", "replace").decode().replace("*/", "* /")


def c_string(data: bytes) -> str:
    """A string literal, in lines; ``data`` is ASCII with no '?' pairs that would be trigraphs."""
    escaped = [
        f"\\{chr(byte)}" if byte in b'"\\?' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in data
    ]
    return "\n".join(f'  "{"".join(escaped[i : i + 96])}"' for i in range(0, len(escaped), 96))


def c_dtype(dtype: str) -> str:
    """DLPack's type code and bits."""
    kind = dtype.rstrip("0123456789")
    return f"{_CODES[kind]}, {dtype[len(kind):] or 8}"


@lru_cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="ascii")


def _shape_name(shape: Sequence[int]) -> str:
    return "_".join(["tcv_shape", *map(str, shape)])
