"""Building kernels, here or in several processes at once.

Each worker is a Python that runs ``serve``: a JSON line in with a descriptor, a machine and the place in the
cache for the kernel, a JSON line out. Plain subprocesses, so that a caller's script needs no ``__main__``
guard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmconv.base import cache_folder, errors
from tvmconv.compiler import cache
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.lookup import Tuned
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine, Machine
from tvmconv.specs.kinds import Spec, parse_spec


@dataclass(frozen=True)
class Job:
    """A kernel to be built: by a tuning log's record, if there is one."""

    spec: Spec
    machine: AnyMachine
    tuned: Tuned | None = None

    @property
    def path(self) -> Path:
        """Its place in the cache."""
        return cache.kernel_path(self.spec, self.machine, self.tuned)


def build(job: Job) -> Kernel:
    """Build a kernel in this process and cache it."""
    kernel = _built(job)
    cache_folder.write(job.path, cache.kernel_bytes(kernel))
    return kernel


def _built(job: Job) -> Kernel:
    from tvmconv.compiler.codegen import build_kernel

    if job.tuned is None:
        return build_kernel(job.spec, job.machine)
    try:
        kernel = build_kernel(job.spec, job.machine, job.tuned.choice)
        schedule = {**kernel.schedule, **job.tuned.origin}
    except ValueError as error:  # a schedule that has changed since
        kernel = build_kernel(job.spec, job.machine)
        told = {key: value for key, value in job.tuned.origin.items() if key == "twin"}
        schedule = {**kernel.schedule, "unused_record": job.tuned.origin["record"], **told, "why": str(error)}
    return dataclasses.replace(kernel, schedule=schedule)


def build_all(jobs: list[Job], count: int, finish: Callable[[Spec, Kernel], None]) -> None:
    """Build with ``count`` workers; ``finish`` is called in this thread. Raises the first error."""
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Spec, Kernel | Exception | None]] = queue.SimpleQueue()
    for job in sorted(jobs, key=lambda job: -job.spec.flops):
        todo.put(job)
    workers = [_start() for _ in range(count)]
    shared = (todo, results)
    threads = [threading.Thread(target=_drive, args=(worker, *shared), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        by_spec = {job.spec: job for job in jobs}
        for _ in jobs:
            spec, outcome = results.get()
            if isinstance(outcome, Exception):
                raise outcome
            # The entry may not have found room in the cache, or be gone again: then once more, here.
            finish(spec, outcome or build(by_spec[spec]))
    finally:
        for worker in workers:
            worker.kill()
        for worker, thread in zip(workers, threads, strict=True):
            thread.join()
            worker.communicate()


def program(module: str) -> str:
    """Python source of a process that runs ``serve`` of ``module``.

    It has this process's import path, not one that begins with the working directory, and no torch, which
    TVM would import wherever it is installed: that takes longer than all the rest.
    """
    return f"import sys; sys.path[:] = {sys.path!r}; sys.modules['torch'] = None; " \
           f"from {module} import serve; serve()"


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """For an import of TVM in this process, as ``program`` has it: where the process is ours. (tvm_ffi then
    takes tensors of a torch that comes later by the common protocol, not by its own shorter way.)"""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None
    try:
        yield
    finally:
        del sys.modules["torch"]


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """For an import of TVM: a sixth of its time goes into looking for garbage that is not there."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _start() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", program(__name__)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        # Even if it is a temporary one.
        env={**os.environ, "TVMCONV_CACHE": str(cache_folder.folder().absolute())},
    )


def _drive(
    worker: subprocess.Popen, todo: queue.SimpleQueue, results: queue.SimpleQueue
) -> None:
    while True:
        try:
            job = todo.get_nowait()
        except queue.Empty:
            return
        spec = job.spec
        try:
            tuned = None if job.tuned is None else dataclasses.asdict(job.tuned)
            worker.stdin.write(json.dumps([str(spec), dataclasses.asdict(job.machine), tuned]) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            ended = f"{spec}: the process that compiled it ended with code {worker.wait()}"
            results.put((spec, errors.TargetError(ended)))
            return
        kind, text = json.loads(answer)
        if kind:
            results.put((spec, getattr(errors, kind, errors.Error)(text)))
            return
        results.put((spec, cache.read_kernel(job.path)))


def machine_of(facts: dict[str, Any]) -> AnyMachine:
    """The machine whose ``dataclasses.asdict`` went through JSON."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return GpuMachine(**given) if "sms" in facts else Machine(**given)


def serve() -> None:
    """What a worker does until its input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a compiler prints must not mix with the answers
    for line in sys.stdin:
        descriptor, facts, tuned = json.loads(line)
        try:
            build(Job(parse_spec(descriptor), machine_of(facts), tuned and Tuned.from_facts(tuned)))
            answer = ["", ""]
        except Exception as error:
            if isinstance(error, errors.Error):
                answer = [type(error).__name__, str(error)]
            else:
                answer = ["Error", f"{descriptor}: {error!r}"]
        print(json.dumps(answer), file=answers, flush=True)

