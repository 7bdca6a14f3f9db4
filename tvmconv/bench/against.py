"""Other engines on the same layers: which engines a name stands for, and interleaving them with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvmconv.base.errors import Error
from tvmconv.bench.engines.names import missing
from tvmconv.bench.engines.session import Session
from tvmconv.bench.ratios import OURS

PEERS: dict[str, tuple[str, ...]] = {
    "torch": ("torch", "torch-cl", "onednn"), "onnxruntime": ("ort", "ort-nchwc"),
    "openvino": ("openvino",), "litert": ("litert",),
}  # fmt: skip
"""By product name: its engines, the fastest of which counts for a layer."""


def chosen(text: str, known: Mapping[str, str] | None = None, what: str = "") -> list[str]:
    """The products of a list such as "torch,litert"; "all" for those that are installed. ``known``: of each
    product the engine that shows whether it is installed, those for layers if None; ``what``: that they are
    for, in errors. Raises Error."""
    known = {name: engines[0] for name, engines in PEERS.items()} if known is None else known
    if text == "all":
        names = [name for name, engine in known.items() if missing(engine) is None]
        if not names:
            raise Error("--against all: none is installed; pip install 'tvmconv[bench]'")
        return names
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise Error(f"--against {name}: expected some of {', '.join(known)}{what}, or all")
        if (module := missing(known[name])) is not None:
            raise Error(f"--against {name}: no module {module}; pip install 'tvmconv[bench]'")
    return names


def session(names: Sequence[str], threads: int, cpus: list[int], options: dict, rounds: int) -> Session:
    """Ours and all engines of ``names``, each in a process, to be entered. ``options``: see the worker."""
    engines = [OURS, *(engine for name in names for engine in PEERS[name])]
    return Session(engines, threads, cpus, options, rounds)


def fastest(names: Sequence[str], detail: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By product: µs of its fastest engine on one layer; absent if none ran it."""
    found = {}
    for name in names:
        if ran := [detail[engine]["us"] for engine in PEERS[name] if engine in detail]:
            found[name] = min(ran)
    return found
