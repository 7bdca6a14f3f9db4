"""The C header of a library: its ABI described and declared, for C99 and C++."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tvmconv.compiler.artifact.c_source import Source, c_comment, c_parameters
from tvmconv.compiler.artifact.entries import Entry
from tvmconv.compiler.artifact.gpu_source import GpuSource, cuda_major
from tvmconv.formats.device_code import GPU_ALIGNMENT
from tvmconv.formats.kernel import PACKED_ALIGNMENT
from tvmconv.formats.manifest import WORKSPACE
from tvmconv.formats.program import Argument

# Return codes as in errors.c.
CODES = {
    "OK": (0, "done"),
    "ERR_NULL": (1, "an argument that is needed is NULL"),
    "ERR_ALIGN": (2, "an argument is not aligned as stated"),
    "ERR_OVERLAP": (3, "what is written overlaps an argument that is read"),
    "ERR_CPU": (4, "this CPU lacks a feature that the library was compiled for"),
    "ERR_KERNEL": (5, "the kernel failed, out of memory for instance"),
    "ERR_STEPS": (7, "NAME_steps: no such steps"),
    "ERR_WEIGHTS": (8, "the file with the weights is missing, damaged, or another model's"),
}

_TOP = """/* {title}
 *
 * Made by tvmconv {tvmconv} for {target} ({triple}), C ABI version {abi}.
 * Needs a CPU with {requires};
 * on another, functions return TVMCONV_ERR_CPU.{choice}
 *
 * Arrays are dense and row-major, in the shapes and types stated at each function. Each pointer must be
 * aligned to one element of its type, and `packed` to {packed_align} bytes; where the others begin at
 * multiples of 64 bytes too, kernels are faster, depthwise ones up to 1.6 times. What is written must not
 * overlap what is read. Functions return 0 (TVMCONV_OK), or one of the codes below, and {prefix}_last_error()
 * says what was wrong.
 *
 * Threads: all functions may be called from any number of threads at once, on different outputs; a packed
 * blob may be shared. Kernels run on a pool of threads that starts at the first call, as many as
 * TVMCONV_NUM_THREADS says, or TVM_NUM_THREADS (1 to 256; anything else is told on stderr and ignored), or as
 * many CPUs as the process may run on and its control group has time for; while one call has the pool, others
 * run on their own thread. All round, and flush to zero, as the calling thread does. After fork() the child
 * starts a pool of its own.
 *
 * Beside its arrays a call takes NAME_WORKSPACE_BYTES of memory, and each thread that computes for it
 * NAME_THREAD_WORKSPACE_BYTES; threads keep up to 64 MiB each for their next call. A function of several
 * steps takes its NAME_WORKSPACE_BYTES from the caller; for a thread that gives none the library keeps as
 * much.
 *
 * TVMCONV_TRACE=FILE in the environment adds what each step of each call took to FILE, for Chrome's tracing
 * and Perfetto.
 *
 * A static library (.a) or object (.o) of it is linked into a program with -pthread -lm.
 *
 * TVM loads a shared library as well; its functions there have the same names and take tensors in the same
 * order, None for NULL, and `packed` as a tensor of so many bytes.
 */
#ifndef {guard}
#define {guard}

#ifdef {macro}_ABI
#error "two libraries with the prefix {prefix} in one program: compile one of them with another prefix"
#endif

#include <stddef.h>
#include <stdint.h>

#ifndef TVMCONV_OK
{codes}
#endif

#ifdef __cplusplus
extern "C" {{
#endif

/* The C ABI version of the library: compare with {macro}_ABI. */
#define {macro}_ABI {abi}
int {prefix}_abi_version(void);

/* What went wrong in this thread's last failed call: one line, valid until its next call. */
const char *{prefix}_last_error(void);

/* How many threads kernels run on from now on; less than 1: the default. Waits for a call under way. */
void {prefix}_set_num_threads(int n);

/* The target whose kernels run on this CPU; NULL, and an error, if there is none. */
const char *{prefix}_variant(void);
"""

CUDA_CODES = {
    **{name: CODES[name] for name in ("OK", "ERR_NULL", "ERR_ALIGN", "ERR_OVERLAP")},
    "ERR_DEVICE": (4, "no NVIDIA driver, no GPU, or none that the library has code for"),
    "ERR_KERNEL": (5, "a kernel could not be loaded or launched, out of memory for instance"),
    "ERR_MEMORY": (6, "an argument is not in the memory of the GPU that the call is for"),
}

_CUDA_TOP = """/* {title}
 *
 * Made by tvmconv {tvmconv} for {target} ({triple}), C ABI version {abi}.
 * Needs a driver for CUDA {cuda} or newer, its libcuda.so.1, and a GPU of compute capability
 * {requires}, or newer of the same generation; without one, functions return TVMCONV_ERR_DEVICE.
 *
 * Arrays are in the memory of one GPU, dense and row-major, in the shapes and types stated at each function.
 * Each pointer must be aligned to {align} bytes, and `packed` to {packed_align}; what is written must not
 * overlap what is read. `stream` is a CUstream (a cudaStream_t is one), NULL for the default stream: kernels
 * are launched on it and the function returns, with the arrays yet to be read and written. It uses the
 * calling thread's current context, or where there is none the primary context of the GPU that holds the
 * result. Functions return 0 (TVMCONV_OK), or one of the codes below, and {prefix}_last_error() says what was
 * wrong; what fails on the GPU later, the stream reports. The first call of a function loads its code: make
 * it before a stream is captured.
 *
 * All functions may be called from any number of threads at once, on different outputs; a packed blob may be
 * shared. Nothing is allocated.
 */
#ifndef {guard}
#define {guard}

#include <stddef.h>
#include <stdint.h>

#ifndef TVMCONV_OK
{codes}
#endif

#ifdef __cplusplus
extern "C" {{
#endif

/* The C ABI version of the library: compare with {macro}_ABI. */
#define {macro}_ABI {abi}
int {prefix}_abi_version(void);

/* What went wrong in this thread's last failed call: one line, valid until its next call. */
const char *{prefix}_last_error(void);

/* Whether the library can run on a GPU, by its number; with -1, on any GPU of this machine. */
int {prefix}_check_device(int device);
"""

_BOTTOM = """
#ifdef __cplusplus
}}
#endif

#endif /* {guard} */
"""


_WEIGHTS = """
/* The weights are in the file {file}: {bytes} bytes, with the SHA-256
 * {sha256}.
 * The first call maps it from the folder of the library, or of the program that the library is linked into.
 * This maps it from another path, before the first call; NULL: from there. TVMCONV_ERR_WEIGHTS where it is
 * not that file. */
#define {macro}_WEIGHTS "{file}"
int {prefix}_weights(const char *path);
"""

_CHOICE = """
 * The kernels are there for {targets}; the best that the CPU can run is chosen at
 * the first call. What is in `packed` is for that one: do not keep it for another CPU."""


def generate(source: Source, manifest: dict[str, Any], title: str) -> str:
    """The header's text. ``title``: the library's file name."""
    variants, prefix = source.variants, source.prefix
    macro = prefix.upper()
    guard = re.sub(r"\W", "_", f"{macro}_{title}_H".upper(), flags=re.ASCII)
    machine = variants[-1].machine
    targets = ", ".join(variant.machine.name for variant in variants)
    gpu = isinstance(source, GpuSource)
    if gpu:
        requires = " or ".join(f"{sm // 10}.{sm % 10}" for sm in machine.sms)
    else:
        requires = _wrapped(machine.requires) or f"nothing beyond {machine.arch}"
    codes = CUDA_CODES if gpu else CODES
    top = (_CUDA_TOP if gpu else _TOP).format(
        title=c_comment(title),
        tvmconv=manifest["tvmconv"],
        target=targets,
        choice=_CHOICE.format(targets=targets) if len(variants) > 1 else "",
        triple=machine.triple,
        requires=requires,
        align=GPU_ALIGNMENT,
        cuda=cuda_major(source.kernels.values()) if gpu else None,
        abi=manifest["abi"],
        packed_align=PACKED_ALIGNMENT,
        prefix=prefix,
        macro=macro,
        guard=guard,
        codes="\n".join(f"#define TVMCONV_{name} {code} /* {why} */" for name, (code, why) in codes.items()),
    )
    if weights := manifest.get("weights"):
        top += _WEIGHTS.format(prefix=prefix, macro=macro, **weights)
    entries = {entry.name: entry for entry in source.entries}
    declared = "".join(_function(facts, entries, source.after) for facts in manifest["functions"])
    return top + declared + _BOTTOM.format(guard=guard)


def _function(facts: dict[str, Any], entries: Mapping[str, Entry], after: str) -> str:
    name = facts.get("symbol", facts["name"])
    macro = name.upper()
    run, pack = entries[name], entries[f"{name}_prepack"] if facts["packed_bytes"] else None
    lines = ["", f"/* {name}: {c_comment(facts['descriptor'])}", " *", *_facts(run)]
    if run.by_arrays and not after:
        lines.append(" *             with NULL the library keeps one for the calling thread")
    if facts["baked"]:
        lines += [" *", " * The library holds this function's weights: with packed NULL it uses them."]
    if pack:
        lines += [
            " *",
            f" * {name}_prepack, once for given weights, fills `packed` from",
            *(f" *   {_fact(argument)}" for argument in pack.arguments[:-1]),
        ]
    arrays = [a.array for entry in (run, pack) if entry for a in entry.arguments if a.array]
    lines += [
        " */",
        f"#ifdef {macro}_{_last_array(run).upper()}_ELEMS",
        f'#error "two libraries with a function {name}: compile one of them with a --prefix of its own"',
        "#endif",
        *dict.fromkeys(f"#define {macro}_{array.name.upper()}_ELEMS {array.elements}" for array in arrays),
    ]
    if run.by_arrays or not after:  # on a GPU a kernel takes none
        lines += [f"#define {macro}_{key.upper()} {facts[key]}" for key in WORKSPACE]
    if pack:
        lines += [
            f"#define {macro}_PACKED_BYTES {pack.packed_bytes}",
            f"size_t {pack.bytes_name}(void);",
            f"int {pack.name}({c_parameters(pack)}{after});",
        ]
    lines.append(f"int {name}({c_parameters(run)}{after});")
    if run.by_arrays and not after:
        most = max(len(program.steps) for program in run.programs)
        lines += [
            "/* Its steps first to last - 1, after those before them in the same memory; ns[i], where ns is",
            " * not NULL: the nanoseconds that step first + i took. */",
            f"#define {macro}_STEPS {most}",
            f"int {run.steps_name}({c_parameters(run)}, int first, int last, int64_t *ns);",
        ]
    return "\n".join(lines) + "\n"


def _facts(entry: Entry) -> list[str]:
    """One line per argument."""
    if not entry.by_arrays:
        return [f" *   {_fact(argument)}" for argument in entry.arguments]
    lines, (*arrays, workspace) = [], entry.arguments
    for where in ("in", "out"):
        found = [a for a in arrays if a.written == (where == "out")]
        lines += [f" *   {where}[{i}] {_fact(argument)}" for i, argument in enumerate(found)]
    return [*lines, f" *   {_fact(workspace)}"]


def _last_array(entry: Entry) -> str:
    return [a.name for a in entry.arguments if a.array][-1]


def _fact(argument: Argument) -> str:
    if argument.array is None:
        if argument.nbytes == 0:
            return f"{argument.name:<8} not used, NULL is fine"
        return f"{argument.name:<8} {argument.nbytes} bytes, aligned to {argument.align}"
    array = argument.array
    shape = "x".join(map(str, array.shape)) or "1"
    return f"{argument.name:<8} {array.dtype} {shape} {array.layout}".rstrip()


def _wrapped(names: Sequence[str]) -> str:
    return "\n * ".join(textwrap.wrap(", ".join(names), 104))
