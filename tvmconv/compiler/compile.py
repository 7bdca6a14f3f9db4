"""compile: specs into a Library, several at a time, each kernel once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, TypeVar

from tvmconv.base.cpus import available
from tvmconv.base.errors import SpecError, TargetError
from tvmconv.compiler import cache
from tvmconv.compiler.artifact.compilers import find_cc
from tvmconv.compiler.artifact.library import Library, check_request
from tvmconv.compiler.artifact.names import BESIDE_WEIGHTS
from tvmconv.compiler.workers import Job, build, build_all
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.lookup import Folders, Logs
from tvmconv.formats.program import Variant
from tvmconv.schedules.machines import AnyMachine, Target, resolve_all
from tvmconv.specs.kinds import Spec, parse_spec
from tvmconv.specs.work import Work

Specs = Spec | str | Iterable["Spec | str"] | Mapping[str, "Spec | str"]
Progress = Callable[[int, int, str], None]
WorkT = TypeVar("WorkT", bound=Work)


def compile(
    specs: Specs,
    target: Target | Sequence[Target] = "native",
    tuning_logs: Folders | None = None,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    prefix: str = "tvmconv",
    cc: str | None = None,
) -> Library:
    """Compile convolutions for a target.

    ``specs``: a ConvSpec or its descriptor, several of them, or ``{name: spec}``; without a name a function
    is called by its kind and a hash of its descriptor. ``target``: a name that ``tvmconv targets`` lists, or
    any other as triple=T,cpu=C,features=+F; several, separated by commas or in a sequence, make one library
    that chooses by the CPU it runs on. ``jobs``: kernels to compile at a time, the number of CPUs if None.
    ``progress(done, total, descriptor)`` is called as kernels become ready. ``prefix`` and ``cc``: see
    ``Library``.

    A spec that a tuning log knows for the target is scheduled as its record says. ``tuning_logs``: a folder
    of logs, or several in order of precedence; "user" and "shipped", the default, are the user's own and
    tvmconv's. The manifest says which log it was.

    Kernels in the cache are reused. Raises SpecError, TargetError, TuningError, and ArtifactError for a
    ``cc`` that does not compile for the target.
    """
    machines, named = resolve_all(target), named_specs(specs)
    beside = {name: BESIDE_WEIGHTS if spec.weights else () for name, spec in named.items()}
    check_request(beside, machines, prefix)
    if cc is not None:
        find_cc(machines[0], cc)
    wanted = list(dict.fromkeys(named.values()))
    variants = []
    for i, machine in enumerate(machines):
        logs = Logs(machine, tuning_logs)
        kernels = compile_kernels(wanted, machine, logs, jobs, part_of(progress, i, len(machines)))
        variants.append(Variant(machine, {name: kernels[spec] for name, spec in named.items()}))
    first, *others = variants
    return Library(first.functions, first.machine, prefix=prefix, cc=cc, others=others)


def part_of(progress: Progress | None, i: int, parts: int) -> Progress | None:
    """A progress callback for the i-th of several equal parts of the work."""
    if progress is None or parts == 1:
        return progress
    return lambda done, total, text: progress(i * total + done, parts * total, text)


def named_specs(specs: Specs) -> dict[str, Spec]:
    """``specs``, in any form that ``compile`` takes, by name. Raises SpecError."""
    if isinstance(specs, Mapping):
        return {name: _spec(spec) for name, spec in specs.items()}
    if isinstance(specs, (Spec, str)):
        specs = [specs]
    return {default_name(spec): spec for spec in map(_spec, specs)}


def default_name(spec: Spec) -> str:
    """The C identifier of an unnamed function: its kind and a hash of its descriptor."""
    return f"{spec.kind}_{hashlib.sha256(str(spec).encode()).hexdigest()[:12]}"


def _spec(value: Spec | str) -> Spec:
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        return parse_spec(value)
    raise SpecError(f"specs: {value!r}, expected specs or descriptors")


def compile_kernels(
    works: Sequence[WorkT], machine: AnyMachine, logs: Logs, jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[WorkT, Kernel]:  # fmt: skip
    """The kernels of specs, and of operators of networks, for one target: from the cache, or compiled,
    ``jobs`` at a time. Errors as for `compile`."""
    for work in works:
        work.check_supported()
    done: dict[WorkT, Kernel] = {}

    def finish(spec: Any, kernel: Kernel) -> None:
        if kernel.schedule["source"] == "default" and (why := logs.default_won(spec)):
            kernel = replace(kernel, schedule={**kernel.schedule, **why})
        done[spec] = kernel
        if progress is not None:
            progress(len(done), len(works), str(spec))

    missing = []
    for spec in works:
        tuned = logs.find(spec)
        kernel = cache.read_kernel(cache.kernel_path(spec, machine, tuned))
        if kernel is None:
            missing.append(Job(spec, machine, tuned))
        else:
            finish(spec, kernel)
    if missing and find_spec("tvm") is None:
        raise TargetError(
            f"{missing[0].spec}: not in the cache, and compiling it needs TVM: pip install 'tvmconv[compile]'"
        )
    jobs = min(jobs or available(), len(missing) // _FEWEST_A_WORKER)
    if jobs > 1:
        build_all(missing, jobs, finish)
    else:
        for job in missing:
            finish(job.spec, build(job))
    return done


_FEWEST_A_WORKER = 6  # a worker imports TVM first, which takes as long as a few kernels
