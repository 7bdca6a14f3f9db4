"""The C source of a library for CPUs: TVM's surroundings, the table of variants, steps that call kernels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from tvmconv.compiler.artifact.c_source import HIDDEN, Source, c_dtype, c_parameters, c_string
from tvmconv.compiler.artifact.entries import Entry
from tvmconv.compiler.artifact.packing import Packing
from tvmconv.formats import manifest as manifests
from tvmconv.formats import weights_file
from tvmconv.formats.cpu_features import FEATURES, check_features
from tvmconv.formats.kernel import Kernel, Param, renamed
from tvmconv.formats.program import Place, Program, Step, Variant

TVM_VARIABLES = ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace")
_TVM_NAMES = (*TVM_VARIABLES, "TVMFFIErrorSetRaisedFromCStrParts")  # that kernels refer to


class CpuSource(Source):
    """Of a library for the CPUs of one architecture."""

    LIBRARY_FUNCTIONS = ("abi_version", "last_error", "set_num_threads", "variant")
    headers = ("call.h", "cpu.h")
    texts = ("support.c", "arm.c", "threads.c", "pool.c", "trace.c", "weights.c", "cpu.c")
    own_workspace = True

    def __init__(
        self, variants: Sequence[Variant], prefix: str, kind: str = "shared", weights: str | None = None
    ) -> None:
        if kind != "shared" or len(variants) > 1:  # where other kernels for the same specs may be present
            variants = [_apart(variant, f"{prefix} {i}") for i, variant in enumerate(variants)]
        super().__init__(variants, prefix, kind, weights)
        self.packing = [Packing(f"packing_{i}") for i in range(len(variants))]
        for entry in self.entries:
            for packing, program in zip(self.packing, entry.programs, strict=True):
                packing.add(program)
        self._offsets = dict(zip(self.constants, weights_file.places(self.constants), strict=True))

    @cached_property
    def weights_file(self) -> bytes:
        """The file with the constants."""
        return weights_file.made(self.constants)

    def weights_facts(self) -> dict[str, Any]:
        """The file's name, size and hash."""
        if not self.weights:
            return {}
        return {"weights": weights_file.facts_of(self.weights, self.weights_file)}

    def exported(self) -> list[str]:
        """As for any library; for one that can be loaded, also what loaders look for."""
        own = [*super().exported(), *([f"{self.prefix}_weights"] if self.weights else [])]
        if self.kind != "shared":
            return sorted(own)
        loaders = [*TVM_VARIABLES, *manifests.SHARED, *(f"__tvm_ffi_{entry.name}" for entry in self.entries)]
        return sorted([*own, *loaders])

    def objects(self) -> list[bytes]:
        """The kernels' objects."""
        found = [code for kernel in self.kernels.values() for code in kernel.objects]
        if self.kind != "shared":
            for old, new in self._local_names().items():
                found = [code.replace(old.encode(), new.encode()) for code in found]
        return found

    def _local_names(self) -> dict[str, str]:
        """A static library's own names for those that TVM's kernels refer to, each of the same length: a
        program may hold several such libraries, kept apart only by their symbols."""
        return {
            name: ("tcv_" + hashlib.sha256(f"{self.prefix} {name}".encode()).hexdigest())[: len(name)]
            for name in _TVM_NAMES
        }

    @property
    def apart(self) -> bool:
        """Not where a program would have it of several static libraries, nor where it holds the library's
        weights."""
        return self.kind == "shared" and not self.before()

    def before(self) -> list[str]:
        """Other names for a static library; what is to be packed, or in a file."""
        lines = []
        if self.kind != "shared":
            lines += ["#define TCV_STATIC 1", *(f"#define {a} {b}" for a, b in self._local_names().items())]
        if most := max(packing.bytes for packing in self.packing):
            lines.append(f"#define TCV_PACKED_BYTES {most}u")
        if self.weights:
            facts = self.weights_facts()["weights"]
            digest = ", ".join(map(str, bytes.fromhex(facts["sha256"])))
            lines += [
                f'#define TCV_WEIGHTS_FILE "{self.weights}"', f"#define TCV_WEIGHTS_BYTES {facts['bytes']}ll",
                f"#define TCV_WEIGHTS_SHA256 {digest}",
            ]  # fmt: skip
        return lines

    def tables(self) -> list[str]:
        """The variants, and the features that they need."""
        lines, table = [], []
        for i, machine in enumerate(variant.machine for variant in self.variants):
            check_features(machine.requires, machine.arch)
            found = FEATURES.get(machine.arch, {})
            numbers = {name: ", ".join(f"{n}u" for n in found[name]) for name in machine.requires}
            rows = [f'  {{"{name}", {text}}},' for name, text in numbers.items()]
            rows.append("  {0, 0, 0, 0, 0, 0},")
            lines += [f"static const tcv_feature tcv_required_{i}[] = {{", *rows, "};"]
            table.append(f'  {{"{machine.name}", {machine.part:#x}u, tcv_required_{i}}},')
        return [*lines, "static const tcv_variant tcv_variants[] = {", *table, "  {0, 0, 0},", "};", ""]

    def library_functions(self) -> list[str]:
        """The functions that set the number of threads, and return which variant runs."""
        return [
            f"TCV_EXPORT void {self.prefix}_set_num_threads(int n) {{ tcv_set_num_threads(n); }}",
            f"TCV_EXPORT const char *{self.prefix}_variant(void) {{ return tcv_variant_name(); }}",
            *([f"TCV_EXPORT int {self.prefix}_weights(const char *path) {{ return tcv_map_weights(path); }}"]
              if self.weights else []),
        ]  # fmt: skip

    def before_functions(self) -> list[str]:
        """What packs weights."""
        lines: list[str] = []
        for packing in self.packing:
            declared, rows = [], []
            for i, (program, one) in enumerate(packing.steps()):
                more, row = self._rows(f"{packing.name}_{i}", program, [one.step], 0, packing)
                declared += more
                rows += row
            if rows:
                lines += [*declared, f"static const tcv_step tcv_steps_{packing.name}[] = {{", *rows, "};",
                          f"static int tcv_done_{packing.name}[{len(rows)}];", ""]  # fmt: skip
        return lines

    def beside_program(self, number: int, name: str, program: Program) -> tuple[list[str], str]:
        """What it needs packed."""
        return self.packing[number].tables(name, program)

    def steps(
        self, name: str, program: Program, held: int, variant: int
    ) -> tuple[list[str], list[str]]:
        """A step is a kernel's entry with its tensors."""
        return self._rows(name, program, program.steps, held, self.packing[variant])

    def _rows(
        self, name: str, program: Program, steps: Sequence[Step], held: int, packing: Packing
    ) -> tuple[list[str], list[str]]:
        declared = [
            f"extern int __tvm_ffi_{entry}(void *, const tcv_any *, int32_t, tcv_any *) {HIDDEN};"
            for entry in dict.fromkeys(step.entry for step in steps)
        ]
        rows = []
        for i, step in enumerate(steps):
            table = f"{i}_{name}"
            operands = [(param, self._place(program, place, held, packing)) for param, place in step.operands]
            declared += self._operands(table, operands)
            loops = "0"
            if step.parallel:
                loops, turns = f"tcv_loops_{table}", ", ".join(map(str, (*step.parallel, 0)))
                declared.append(f"static const int32_t {loops}[] = {{{turns}}};")
            what = c_string(_what(i, step)).strip()
            facts = f"tcv_operands_{table}, {loops},\n   {what}, {len(step.operands)}"
            rows.append(f"  {{__tvm_ffi_{step.entry}, {facts}}},")
        return declared, rows

    def _operands(self, name: str, operands: Sequence[tuple[Param, tuple[str, int]]]) -> list[str]:
        rows = []
        for param, (data, argument) in operands:
            seen = param.shape if param.kernel_shape is None else param.kernel_shape
            kind = f"TCV_DEVICE_CPU, 0, {len(seen)}, {c_dtype(param.dtype)}, 1, {self.shape(seen)}, 0, 0"
            rows.append(f"  {{{{{data}, {kind}}}, {argument}}},")
        return [f"static const tcv_operand tcv_operands_{name}[] = {{", *rows, "};"]

    def _place(self, program: Program, place: Place, held: int, packing: Packing) -> tuple[str, int]:
        """The offset, and the argument it is added to; the workspace comes after the program's own
        arguments."""
        offset, index = place.offset, place.index if place.of == "argument" else len(program.arguments)
        if place.of == "constant":
            symbol = self.constants[program.constants[place.index]]
            if not self.weights:
                return f"(char *){symbol} + {offset}", held
            offset, index = offset + self._offsets[program.constants[place.index]], held + 2
        elif place.of == "prepared":
            offset, index = packing.offset(program, place), held + 1
        return f"(void *){offset}" if offset else "0", index

    def beside(self, entry: Entry) -> list[str]:
        """TVM's entry; for several steps, also the function that runs some of them."""
        name = entry.name
        some = [
            f"TCV_EXPORT int {entry.steps_name}({c_parameters(entry)}, int first, int last, int64_t *ns) {{",
            "  tcv_part part = {first, last, ns};",
            f"  return tcv_call_arrays(&tcv_function_{name}, in, out, workspace, &part);",
            "}",
        ]  # fmt: skip
        return [
            *(some if entry.by_arrays else []),
            "#ifndef TCV_STATIC",
            f"TCV_EXPORT int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret);",
            f"int __tvm_ffi_{name}(void *self, const tcv_any *args, int32_t n, tcv_any *ret) {{",
            "  (void)self, (void)ret;",
            f"  return tcv_call_packed(&tcv_function_{name}, args, n);",
            "}",
            "#endif",
        ]


def _what(number: int, step: Step) -> bytes:
    """What a trace says of a step: members of a JSON object."""
    kernel = f"prepack {step.kernel.descriptor}" if step.prepack else step.kernel.descriptor
    nodes = ", ".join(step.source)
    arguments = {"step": number + 1, **({"nodes": nodes} if nodes else {}), "kernel": kernel}
    return json.dumps({"name": nodes or kernel, "args": arguments}, separators=(",", ":"))[1:-1].encode()


def _apart(variant: Variant, place: str) -> Variant:
    """A variant over kernels with their own symbols."""
    functions = {
        name: renamed(f, place) if isinstance(f, Kernel) else f.over(lambda kernel: renamed(kernel, place))
        for name, f in variant.functions.items()
    }
    return replace(variant, functions=functions)
