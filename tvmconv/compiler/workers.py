"""Building kernels, here or in several processes at once.

Each worker is a process that runs ``serve``: it takes a descriptor, a machine and a tuning log's record, and
puts the kernel into the cache.
"""

from __future__ import annotations

import dataclasses
import importlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tvmconv.base import cache_folder, errors
from tvmconv.base.processes import Process, ProcessError, answer_lines, importing_tvm
from tvmconv.compiler import cache
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.lookup import Tuned
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine, Machine
from tvmconv.specs.pitched import parse_work
from tvmconv.specs.work import Work

Made = TypeVar("Made")
Result = tuple[Work, "Kernel | Exception | None"]


@dataclass(frozen=True)
class Job:
    """A kernel to be built, from a tuning log's record if there is one."""

    spec: Work
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
    with importing_tvm():
        build_kernel = importlib.import_module(f"tvmconv.compiler.{job.spec.builder}").build_kernel
    kernel, told = by_record(job.tuned, lambda choice: build_kernel(job.spec, job.machine, choice))
    return dataclasses.replace(kernel, schedule={**kernel.schedule, **told})


def by_record(tuned: Tuned | None, make: Callable[[Choice | None], Made]) -> tuple[Made, dict[str, Any]]:
    """What ``make`` makes by a record's choice, or by the rules (None) without one and where it does not fit;
    and what manifests say of that."""
    if tuned is None:
        return make(None), {}
    try:
        return make(tuned.choice), tuned.origin
    except ValueError as error:  # the schedule has changed since
        told = {key: value for key, value in tuned.origin.items() if key == "twin"}
        return make(None), {"unused_record": tuned.origin["record"], **told, "why": str(error)}


def build_all(jobs: list[Job], count: int, finish: Callable[[Work, Kernel], None]) -> None:
    """Build with ``count`` workers; ``finish`` is called in this thread. Raises the first error."""
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    for job in sorted(jobs, key=lambda job: -job.spec.effort):
        todo.put(job)
    folder = str(cache_folder.folder().absolute())  # even if it is a temporary one
    workers = [Process(__name__, {"TVMCONV_CACHE": folder}, stderr=None) for _ in range(count)]
    for worker in workers:
        worker.start()
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
            # The entry may not have fitted in the cache, or be gone already: build again, here.
            finish(spec, outcome or build(by_spec[spec]))
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()


def _drive(worker: Process, todo: queue.SimpleQueue[Job], results: queue.SimpleQueue[Result]) -> None:
    while True:
        try:
            job = todo.get_nowait()
        except queue.Empty:
            return
        spec = job.spec
        tuned = None if job.tuned is None else dataclasses.asdict(job.tuned)
        try:
            kind, text = worker.ask([str(spec), dataclasses.asdict(job.machine), tuned])
        except ProcessError as error:
            results.put((spec, errors.TargetError(f"{spec}: {error}")))
            return
        if kind:
            results.put((spec, getattr(errors, kind, errors.Error)(text)))
            return
        results.put((spec, cache.read_kernel(job.path)))


def machine_of(facts: dict[str, Any]) -> AnyMachine:
    """The machine from its ``dataclasses.asdict`` after a round trip through JSON."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return GpuMachine(**given) if "sms" in facts else Machine(**given)


def serve() -> None:
    """What a worker does until its input ends."""
    answer_lines(_answer)


def _answer(message: list[Any]) -> list[str]:
    descriptor, facts, tuned = message
    try:
        build(Job(parse_work(descriptor), machine_of(facts), tuned and Tuned.from_facts(tuned)))
    except errors.Error as error:
        return [type(error).__name__, str(error)]
    except Exception as error:
        return ["Error", f"{descriptor}: {error!r}"]
    return ["", ""]
