"""The C source of a library for CPUs: TVM's surroundings, the table of variants, steps that call kernels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from tvmconv.compiler.artifact.c_source import HIDDEN, Entry, Source, c_dtype, c_parameters, c_string
from tvmconv.formats import manifest as manifests
from tvmconv.formats.cpu_features import FEATURES, check_features
from tvmconv.formats.kernel import Kernel, renamed
from tvmconv.formats.program import Place, Program, Step, Variant

TVM_VARIABLES = ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace")
_TVM_NAMES = (*TVM_VARIABLES, "TVMFFIErrorSetRaisedFromCStrParts")  # that kernels refer to


class CpuSource(Source):
    """Of a library for the CPUs of one architecture."""

    LIBRARY_FUNCTIONS = ("abi_version", "last_error", "set_num_threads", "variant")
    texts = ("support.c", "arm.c", "threads.c", "pool.c", "trace.c", "cpu.c")
    own_workspace = True

    def __init__(self, variants: Sequence[Variant], prefix: str, kind: str = "shared") -> None:
        if kind != "shared" or len(variants) > 1:  # where other kernels for the same specs may be present
            variants = [_apart(variant, f"{prefix} {i}") for i, variant in enumerate(variants)]
        super().__init__(variants, prefix, kind)

    def exported(self) -> list[str]:
        """As for any library; for one that can be loaded, also what loaders look for."""
        if self.kind != "shared":
            return super().exported()
        loaders = [*TVM_VARIABLES, *manifests.SHARED, *(f"__tvm_ffi_{entry.name}" for entry in self.entries)]
        return sorted([*super().exported(), *loaders])

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

    def before(self) -> list[str]:
        """Other names for a static library."""
        if self.kind == "shared":
            return []
        return ["#define TCV_STATIC 1", *(f"#define {a} {b}" for a, b in self._local_names().items())]

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
            f"TCV_EXPORT const char *{self.prefix}_variant(void) {{",
            "  int i = tcv_variant_here();",
            "  return i < 0 ? 0 : tcv_variants[i].name;",
            "}",
        ]

    def steps(self, name: str, program: Program, held: int) -> tuple[list[str], list[str]]:
        """A step is a kernel's entry with its tensors."""
        declared = [
            f"extern int __tvm_ffi_{entry}(void *, const tcv_any *, int32_t, tcv_any *) {HIDDEN};"
            for entry in dict.fromkeys(step.entry for step in program.steps)
        ]
        rows = []
        for i, step in enumerate(program.steps):
            table = f"{i}_{name}"
            declared += self._operands(table, program, step, held)
            loops = "0"
            if step.parallel:
                loops, turns = f"tcv_loops_{table}", ", ".join(map(str, (*step.parallel, 0)))
                declared.append(f"static const int32_t {loops}[] = {{{turns}}};")
            what = c_string(_what(i, step)).strip()
            facts = f"tcv_operands_{table}, {loops},\n   {what}, {len(step.operands)}"
            rows.append(f"  {{__tvm_ffi_{step.entry}, {facts}}},")
        return declared, rows

    def _operands(self, name: str, program: Program, step: Step, held: int) -> list[str]:
        rows = []
        for param, place in step.operands:
            seen = param.shape if param.kernel_shape is None else param.kernel_shape
            data, argument = self._place(program, place, held)
            kind = f"TCV_DEVICE_CPU, 0, {len(seen)}, {c_dtype(param.dtype)}, 1, {self.shape(seen)}, 0, 0"
            rows.append(f"  {{{{{data}, {kind}}}, {argument}}},")
        return [f"static const tcv_operand tcv_operands_{name}[] = {{", *rows, "};"]

    def _place(self, program: Program, place: Place, held: int) -> tuple[str, int]:
        """The offset, and the argument it is added to; the workspace comes after the program's own
        arguments."""
        if place.of == "constant":
            symbol = self.constants[program.constants[place.index]]
            return f"(char *){symbol} + {place.offset}", held
        index = place.index if place.of == "argument" else len(program.arguments)
        return f"(void *){place.offset}" if place.offset else "0", index

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
