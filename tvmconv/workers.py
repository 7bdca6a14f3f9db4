"""Building kernels, here or in several processes at once.

Each worker is a Python that runs ``serve``: a JSON line in with a descriptor, a machine and the place in the
cache for the kernel, a JSON line out. Plain subprocesses, so that a caller's script needs no ``__main__``
guard.
"""

from __future__ import annotations

import dataclasses
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tvmconv import cache, errors
from tvmconv.artifact.kernel import Kernel
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.specs import Spec, parse_spec


def build(spec: Spec, machine: Machine, path: Path) -> Kernel:
    """Build a kernel in this process and cache it at ``path``."""
    from tvmconv.codegen import build_kernel

    kernel = build_kernel(spec, machine)
    cache.write(path, cache.kernel_bytes(kernel))
    return kernel


def build_all(
    specs: list[Spec], machine: Machine, jobs: int, finish: Callable[[Spec, Kernel], None]
) -> None:
    """Build ``specs`` with ``jobs`` workers; ``finish`` is called in this thread. Raises the first error."""
    todo: queue.SimpleQueue[Spec] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Spec | None, Kernel | Exception | None]] = queue.SimpleQueue()
    for spec in sorted(specs, key=lambda s: -s.flops):
        todo.put(spec)
    workers = [_start() for _ in range(jobs)]
    shared = (todo, machine, results)
    threads = [threading.Thread(target=_drive, args=(worker, *shared), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in specs:
            spec, outcome = results.get()
            if isinstance(outcome, Exception):
                raise outcome
            finish(spec, outcome)
    finally:
        for worker in workers:
            worker.kill()
        for worker, thread in zip(workers, threads, strict=True):
            thread.join()
            worker.communicate()


def _start() -> subprocess.Popen:
    # This process's own import path, not one that begins with the working directory.
    program = f"import sys; sys.path[:] = {sys.path!r}; from tvmconv.workers import serve; serve()"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )


def _drive(
    worker: subprocess.Popen, todo: queue.SimpleQueue, machine: Machine, results: queue.SimpleQueue
) -> None:
    while True:
        try:
            spec = todo.get_nowait()
        except queue.Empty:
            return
        path = cache.kernel_path(spec, machine)
        try:
            worker.stdin.write(json.dumps([str(spec), dataclasses.asdict(machine), str(path)]) + "\n")
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
        unreadable = errors.Error(f"{spec}: compiled, but {path} cannot be read")
        results.put((spec, cache.read_kernel(path) or unreadable))


def serve() -> None:
    """What a worker does until its input ends."""
    import os

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a compiler prints must not mix with the answers
    for line in sys.stdin:
        descriptor, facts, path = json.loads(line)
        kind = GpuMachine if "sms" in facts else Machine
        machine = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})
        try:
            build(parse_spec(descriptor), machine, Path(path))
            answer = ["", ""]
        except Exception as error:
            if isinstance(error, errors.Error):
                answer = [type(error).__name__, str(error)]
            else:
                answer = ["Error", f"{descriptor}: {error!r}"]
        print(json.dumps(answer), file=answers, flush=True)

