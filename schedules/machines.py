"""Targets by name: CPUs and GPUs of the tables, this machine, and targets that are not in a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from tvmconv.base.errors import TargetError
from tvmconv.base.messages import shown
from tvmconv.schedules import gpu_machines
from tvmconv.schedules.cpu_machines import CHOSEN_BY_MODEL, Machine, near, preset_of, presets
from tvmconv.schedules.gpu_machines import GpuMachine

__all__ = [
    "CHOSEN_BY_MODEL", "AnyMachine", "GpuMachine", "Machine", "Target", "names", "native", "near", "presets",
    "resolve", "resolve_all", "warn_of_another_cpu",
]  # fmt: skip

AnyMachine = Machine | GpuMachine
Target = str | AnyMachine


def names() -> list[str]:
    """Every name that ``resolve`` takes; it also takes triple=...,cpu=...,features=...."""
    return ["native", *(preset.name for preset in presets()), *gpu_machines.names()]


def _listed() -> str:
    """The names as an error shows them: GPUs as a shell's braces do, cuda-sm_{75,80}, for it is one line."""
    cpus = ", ".join(name for name in names() if not name.startswith(gpu_machines.PREFIX))
    stem = f"{gpu_machines.PREFIX}sm_"
    return f"{cpus}, {stem}{{{','.join(name.removeprefix(stem) for name in gpu_machines.names())}}}"


def resolve(name: str | AnyMachine) -> AnyMachine:
    """The machine of a target name, of several GPUs joined by commas, or of ``triple=T,cpu=C,features=+F-G``
    (see ``custom_targets``); a machine is returned as it is. Raises TargetError with near names."""
    if isinstance(name, AnyMachine):
        return name
    if isinstance(name, str) and name.startswith(gpu_machines.PREFIX):
        return gpu_machines.resolve(name)
    if isinstance(name, str) and name == "native":
        return native()
    if isinstance(name, str) and (preset := preset_of(name)) is not None:
        return preset
    if isinstance(name, str) and "=" in name:
        from tvmconv.schedules import custom_targets  # needs TVM

        return custom_targets.machine(name)
    if isinstance(name, str) and "," in name and all(part in names() for part in name.split(",")):
        raise TargetError(f"target: {name!r}, expected one target here, not several")
    hint = near(name, names())
    raise TargetError(
        f"target: {shown(name)}, expected one of {_listed()}, or triple=T,cpu=C,features=+F{hint}"
    )


def resolve_all(target: Target | Sequence[Target]) -> list[AnyMachine]:
    """The machines of one or more targets, separated by commas or in a sequence; several GPUs, served by one
    library, are one machine. Raises TargetError."""
    if isinstance(target, AnyMachine):
        return [target]
    if not isinstance(target, str):
        if not isinstance(target, Sequence):
            raise TargetError(f"target: {shown(target)}, expected one or more of {_listed()}")
        found = [machine for one in target for machine in resolve_all(one)]
    else:
        texts: list[str] = []
        for part in target.split(","):  # triple=T,cpu=C is one
            if "=" in part and not part.startswith("triple=") and texts and "=" in texts[-1]:
                texts[-1] += f",{part}"
            else:
                texts.append(part)
        gpus = [text for text in texts if text.startswith(gpu_machines.PREFIX)]
        if gpus and len(gpus) < len(texts):
            raise TargetError(f"target: {target!r}, expected either CPUs or GPUs for one library")
        found = [resolve(text) for text in ([",".join(gpus)] if gpus else texts)]
    if not found:
        raise TargetError(f"target: {target!r}, expected one or more of {_listed()}")
    return list({machine.name: machine for machine in found}.values())


def native() -> Machine:
    """The best preset that this CPU runs."""
    from tvmconv.formats.cpu_features import host_arch, host_features, host_part

    arch, features, part = host_arch(), host_features(), host_part()
    able = [m for m in presets() if m.arch == arch and features.issuperset(m.requires)]
    if not able:
        have = ", ".join(preset.name for preset in presets())
        raise TargetError(f"target: 'native', but no preset fits this {arch} CPU; there are {have}")
    return max(able, key=lambda m: (len(m.requires), bool(part) and m.part == part, not m.part))


def warn_of_another_cpu(machine: AnyMachine) -> None:
    """Warn where ``machine`` is a model of CPU and this is another, which runs its code: what is best, or how
    long it takes, may differ."""
    if isinstance(machine, Machine) and machine.part and (here := native()).name != machine.name:
        told = f"target {machine.name}: this CPU is another, {here.name} to tvmconv"
        warnings.warn(f"{told}; what is measured is true of this one", RuntimeWarning, stacklevel=3)
