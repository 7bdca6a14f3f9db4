"""Steps of a network in the measuring process: functions called one after the other, each timed, on the same
arrays and workspace, as the network itself would run them.

A step may have several functions, of which each round calls one: what they are given, and which weights are
near, is then the same for all as in the network.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tvmconv.base.dtypes import FLOATS, epsilon, name_of, rounded, widened
from tvmconv.base.errors import Error
from tvmconv.base.processes import forked
from tvmconv.runtime import Module, load
from tvmconv.runtime import arrays as buffers
from tvmconv.runtime.program import ProgramFunction

_WARMUP = 3  # rounds that do not count
_FEWEST = 5  # that count, even if they take longer
_SLACK = 60.0  # seconds beyond what was asked for until a run counts as hanging

Array = np.ndarray[Any, Any]


def play(message: dict[str, Any]) -> dict[str, Any]:
    """``{"seconds": {function: [...]}, "apart": {function: a}}``: of each call, in the order of the rounds;
    and how far a function's results are from those of the first that is called, over the rounding of their
    type; or ``{"error": text}``.

    ``message``: "library", "turns" (for each step the names of its functions), "rounds", and "seconds" after
    which no other round begins. "compare": whether each is a whole network, whose results count."""
    try:
        module = load(message["library"])
    except (Error, OSError) as error:
        return {"error": f"loading: {error}"}
    return forked(partial(_play, module, message), message["seconds"] + _SLACK)


def _play(module: Module, message: dict[str, Any]) -> dict[str, Any]:
    turns: list[list[str]] = message["turns"]
    names = [name for turn in turns for name in turn]
    calls, results, _held = _calls(module, names)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rng, orders = random.Random(0), [list[str]() for _ in turns]
    start = time.monotonic()
    for number in range(_WARMUP + message["rounds"]):
        if number >= _WARMUP + _FEWEST and time.monotonic() - start > message["seconds"]:
            break
        for turn, order in zip(turns, orders, strict=True):
            if not order:  # each of them comes once before any comes again
                order += rng.sample(turn, len(turn))
            name = order.pop()
            call = calls[name]
            begun = time.perf_counter_ns()
            code = call()
            ended = time.perf_counter_ns()
            if code:
                return {"error": f"running: {name} returned {code}"}
            if number >= _WARMUP:
                seconds[name].append((ended - begun) / 1e9)
    return {"seconds": seconds, "apart": _apart(calls, results) if message["compare"] else {}}


def _calls(
    module: Module, names: list[str]
) -> tuple[dict[str, Callable[[], int]], list[Array], list[Array]]:
    """A call of each function, all on the same arrays; the results among those; and what they have to
    outlive."""
    functions = {name: module[name] for name in names}
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    most = max(entries[name]["workspace_bytes"] for name in names)
    workspace = buffers.empty((most,), np.dtype(np.uint8), max(most, 1))
    workspace[...] = 0
    arrays = [_filled(a) for a in functions[names[0]].arguments]
    roles = [a.role for a in functions[names[0]].arguments]
    read = [array for array, role in zip(arrays, roles, strict=True) if role == "input"]
    written = [array for array, role in zip(arrays, roles, strict=True) if role == "output"]
    calls = {}
    for name, function in functions.items():
        assert isinstance(function, ProgramFunction)
        calls[name] = function.unchecked(read, written, workspace)
    return calls, written, [workspace, *arrays]


def _filled(argument: buffers.Argument) -> Array:
    array = buffers.empty(argument.shape, argument.numpy_dtype, max(argument.nbytes, 1))
    array[...] = 0  # indices, sizes
    if argument.dtype in FLOATS:
        array[...] = rounded(np.random.default_rng(0).standard_normal(argument.shape), argument.dtype)
    return array


def _apart(calls: dict[str, Callable[[], int]], results: list[Array]) -> dict[str, float]:
    """How far each function's float results are from those of the first."""
    found: dict[str, float] = {}
    right: list[Array] = []
    for name, call in calls.items():
        call()
        now = [widened(r).astype(np.float64) for r in results if name_of(r) in FLOATS]
        right = right or now
        found[name] = 0.0
        for array, wanted, result in zip(now, right, results, strict=False):
            equal = (array == wanted) | (np.isnan(array) & np.isnan(wanted))
            span = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
            error = float(np.max(np.abs(array - wanted)[~equal], initial=0.0))
            error /= span * epsilon(name_of(result))
            found[name] = max(found[name], error if error == error else float("inf"))
    return found
