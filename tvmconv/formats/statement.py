"""What a library will say about itself: its manifest, from what is to be linked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tvmconv.formats import manifest
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Place, Program, Variant, arrays_of

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

_OF_SCHEDULE = ("algorithm", "combines")  # facts of a kernel's schedule that a step states too


def build(
    variants: Sequence[Variant],
    prefix: str,
    versions: dict[str, str],
    *,
    about: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The manifest of a library not yet linked; its hash is zeros.

    ``variants``: of the same functions, the most demanding first; "target" is the last of them, which states
    the minimum a CPU must have. "libc" is known once the library is linked. ``versions``: of "tvmconv" and
    "tvm". ``about``: more keys of the manifest; ``facts``: more keys of functions' entries, by name.
    """
    functions = variants[0].functions
    plain = all(isinstance(function, Kernel) for function in functions.values())
    targets = [_target(variant.machine) for variant in variants]
    return {
        "format": manifest.FORMAT,
        "abi": manifest.ABI if plain else manifest.PROGRAM_ABI,
        "kind": "shared",
        "tvmconv": versions["tvmconv"],
        "tvm": versions["tvm"],
        "prefix": prefix,
        "target": targets[-1],
        "variants": targets,
        **(about or {}),
        "functions": [
            {**_function(name, prefix, variants), **(facts or {}).get(name, {})}
            for name in functions
        ],
        "libc": None,
        "sha256": manifest.ZEROS,
    }


def _target(machine: AnyMachine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "triple": machine.triple,
        "cpu": machine.cpu,
        "arch": machine.arch,
        "requires": list(machine.requires),
        **({"sms": list(machine.sms)} if hasattr(machine, "sms") else {}),
    }


def _function(name: str, prefix: str, variants: Sequence[Variant]) -> dict[str, Any]:
    functions = [variant.functions[name] for variant in variants]
    first, symbol = functions[0], manifest.symbol_of(name, prefix)
    device = first.device if isinstance(first, Kernel) else first.kernels[0].device
    packed = [f.packed_bytes for f in functions if isinstance(f, Kernel)]
    found = {
        "name": name,
        **({"symbol": symbol} if symbol != name else {}),  # in C
        "descriptor": first.descriptor,
        "arguments": [
            {"name": array.name, "shape": list(array.shape), "dtype": array.dtype, "layout": array.layout,
             "role": role}
            for array, role in arrays_of(first)
        ],
        "packed_bytes": max(packed, default=0),
        **dict(zip(manifest.WORKSPACE, workspace(name, variants), strict=True)),
        "flops": first.flops,
        "bytes": first.traffic,
        "schedule": first.schedule,
        "baked": name in variants[0].baked,
        **({"compiler": device.compiler} if device else {}),
        **({} if isinstance(first, Kernel) else _steps(first)),
    }  # fmt: skip
    others = {v.machine.name: _steps(f) for v, f in zip(variants, functions, strict=True)
              if isinstance(f, Program)}  # fmt: skip
    if plans := {name: plan for name, plan in others.items() if plan != others[variants[0].machine.name]}:
        found[manifest.PLANS] = plans
    if len(variants) > 1:  # "schedule" is that of the first
        found["schedules"] = {v.machine.name: f.schedule for v, f in zip(variants, functions, strict=True)}
    return found


def _steps(program: Program) -> dict[str, Any]:
    """What each step is, see `manifest.steps_of`."""

    def at(place: Place) -> str:
        return "workspace" if place.of == "workspace" else program.arguments[place.index].name

    facts = [
        {
            "flops": step.flops,
            "bytes": step.traffic,
            **{key: step.kernel.schedule[key] for key in _OF_SCHEDULE if key in step.kernel.schedule},
            "results": [
                {"value": value, "at": at(place), "offset": place.offset, "shape": list(param.shape),
                 "dtype": param.dtype, **({"pitch": param.pitch} if param.pitch else {})}
                for value, (param, place) in zip(step.values, step.written, strict=False)
                if not step.prepack
            ],
        }
        for step in program.steps
    ]  # fmt: skip
    return {
        manifest.STEPS: [step.kernel.descriptor for step in program.steps],
        "sources": [list(step.source) for step in program.steps],
        "step_facts": facts,
    }


def workspace(name: str, variants: Sequence[Variant]) -> tuple[int, int]:
    """The memory a function needs besides its arrays: per call, and per computing thread; for each, the
    maximum over the variants. A program's calling thread computes as well."""
    taken = []
    for function in (variant.functions[name] for variant in variants):
        if isinstance(function, Kernel):
            taken.append(function.workspace)
        else:
            of_kernels = (sum(kernel.workspace) for kernel in function.kernels)
            taken.append((function.workspace, max(of_kernels, default=0)))
    call, thread = zip(*taken, strict=True)
    return max(call), max(thread)
