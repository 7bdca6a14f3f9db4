"""The kernels of a library as text: found by the manifest, compiled again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error, TargetError
from tvmconv.base.processes import without_torch

if TYPE_CHECKING:
    from tvmconv.compiler.sources import Source


@dataclass(frozen=True)
class Kernel:
    """A kernel compiled again. ``steps``: of the function that run it, from 1 on; empty for a single kernel.
    ``same``: whether that gave the machine code that the library has; None where it cannot be told, for a
    GPU."""

    function: str
    steps: tuple[int, ...]
    descriptor: str
    target: str
    source: Source
    same: bool | None

    @property
    def origin(self) -> str:
        """What the text is, in words."""
        made = f"compiled again for {self.target}"
        if self.same is None:
            return made
        return f"{made}: {'the machine code is' if self.same else 'not the machine code'} that of the library"


def kernels_of(
    library: Path, manifest: Mapping[str, Any], functions: Sequence[Mapping[str, Any]],
    target: str | None = None, logs: Sequence[str] | None = None, step: int | None = None,
) -> Iterator[Kernel]:  # fmt: skip
    """Every kernel of these functions' entries in a library's manifest, each once, as they are asked for.
    ``target``: of those in the library, None for the first; ``logs``: as when it was compiled; ``step``: only
    that of a function of several, from 1 on. Raises Error for what there is not, before the first."""
    from tvmconv.schedules.machines import resolve

    names = [variant["name"] for variant in manifest["variants"]]
    target = target and resolve(target).name
    if target is not None and target not in names:
        raise Error(f"--target {target}: not in {library}; expected one of {', '.join(names)}")
    wanted = [(entry, _steps(entry, target or names[0], step)) for entry in functions]
    try:
        with without_torch():
            import tvmconv.compiler.sources  # noqa: F401  # where TVM is missing this says so, at once
    except ImportError as error:
        what = f"the code of kernels is compiled again: no module {error.name}"
        raise TargetError(f"{what}; pip install 'tvmconv[compile]'") from None
    return _compiled(library, wanted, target or names[0], logs)


def _steps(entry: Mapping[str, Any], target: str, step: int | None) -> dict[str, list[int]]:
    """Descriptors of a function's kernels, and the steps that run each."""
    from tvmconv.formats.manifest import PLANS, STEPS

    name = entry["name"]
    texts = entry.get(PLANS, {}).get(target, entry).get(STEPS)
    if texts is None:
        if step is not None:
            raise Error(f"--step {step}: {name} is a single kernel, expected a function of several steps")
        return {entry["descriptor"]: []}
    if step is not None and not 1 <= step <= len(texts):
        raise Error(f"--step {step}: expected 1 to {len(texts)}, the steps of {name}")
    found: dict[str, list[int]] = {}
    for number, text in enumerate(texts, 1):
        found.setdefault(text, []).append(number)
    return found if step is None else {texts[step - 1]: [step]}


def _compiled(
    library: Path, wanted: Sequence[tuple[Mapping[str, Any], Mapping[str, list[int]]]], target: str,
    given: Sequence[str] | None,
) -> Iterator[Kernel]:  # fmt: skip
    from tvmconv.compiler.sources import is_in, source_of
    from tvmconv.formats import library_file
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.gpu_machines import GpuMachine
    from tvmconv.schedules.machines import resolve
    from tvmconv.specs.pitched import parse_work

    machine, data = resolve(target), library_file.read(library)
    for entry, kernels in wanted:
        logs = Logs(machine, given, cold="steps" in entry)
        for text, steps in kernels.items():
            work = parse_work(text)
            source = source_of(work, machine, logs.find(work))
            same = None if isinstance(machine, GpuMachine) else is_in(data, source)
            yield Kernel(entry["name"], tuple(steps), text, target, source, same)
