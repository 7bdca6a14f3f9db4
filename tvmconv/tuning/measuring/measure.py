"""The process that measures candidates: numpy and our runtime, no compiler.

Each candidate runs in a fork of it, so that a crash or a hang costs only that candidate. It is checked
against the float64 reference, then timed in turns with the baseline, in the same process.

With cold weights each call takes another copy of them, of so many that one is far away when its turn comes
again; what it is multiplied with stays as near as a preceding layer would leave it.

One thread is timed by the time that it had a CPU, so that a busy machine makes it little slower.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import cycle
from typing import Any

from tvmconv.base.clock import last_cache, preemptions, timed
from tvmconv.base.processes import answer_lines, forked
from tvmconv.frontends.verify import Case, operands, prepare
from tvmconv.runtime import Module, load
from tvmconv.runtime import arrays as buffers
from tvmconv.tuning.measuring import sequence

_FEWEST_ROUNDS = 3
_TRIES = 3  # times as many rounds, if other processes take our CPUs away
_MOST_COPIES = 1024  # of cold weights; of any smaller than this allows for, so many fill the nearer caches
_Clock = Callable[[], float]


def serve() -> None:
    """What a process of a runner does until its input ends."""
    answer_lines(measure)


def measure(message: dict[str, Any]) -> dict[str, Any]:
    """``{"seconds": [...], "baseline": [...]}``, a mean a round, or ``{"error": text}``; for the steps of a
    network what ``sequence.play`` says of it."""
    if "turns" in message:
        return sequence.play(message)
    try:
        module = _library(message["library"])
        entry = next(e for e in module.manifest["functions"] if e["name"] == message["function"])
        facts = {"name": "", **{key: entry[key] for key in ("descriptor", "arguments")}}
        # What the data and the tolerance depend on, and no more: candidates that share it share a case.
        facts["schedule"] = {k: v for k, v in entry["schedule"].items() if k in ("exact", "combines")}
        cases = [_case(json.dumps(facts), fill) for fill in message["fills"]]
    except Exception as error:
        return {"error": f"loading: {error}"}
    return forked(partial(_run, message, module, cases), message["timeout"])


@lru_cache(maxsize=1)
def _library(path: str) -> Module:
    return load(path)


@lru_cache(maxsize=8)
def _case(entry: str, fill: str) -> Case:
    """Data and result for all candidates of a spec."""
    return prepare(json.loads(entry), fill)


def _run(message: dict[str, Any], module: Module, cases: list[Case]) -> dict[str, Any]:
    function = module[message["function"]]
    for case in cases:
        check = case.check(function)
        if not check.ok:
            return {"error": f"wrong: {check.wrong} elements on {check.fill} data, error {check.max_rel:.1e}"}
    candidate = _call(function, cases[0], message["cold"])
    clock = time.thread_time if message["threads"] == 1 else time.perf_counter
    if message["baseline"] == message["function"]:
        seconds = _alone(candidate, message["rounds"], message["burst"], clock)
        return {"seconds": seconds, "baseline": seconds}
    baseline = _call(module[message["baseline"]], cases[0], message["cold"])
    return _in_turns(candidate, baseline, message, clock)


def _call(function: Any, case: Case, cold: int) -> Callable[[], Any]:
    """A call of a function on the case's arrays with little overhead, with cold weights if so many bytes of
    them come before the same again."""
    weights, inputs = operands(case.entry["arguments"], case.arrays)
    y = function.arguments[-1]
    inputs = [buffers.aligned(a) for a in inputs]  # as a preceding layer would leave them
    result = buffers.empty(y.shape, y.numpy_dtype, y.nbytes)
    first = function.bind(*weights)
    if not cold or not first.packed_bytes:
        return first.on(*inputs, out=result)
    count = min(_MOST_COPIES, max(2, -(-min(cold, last_cache()) // first.packed_bytes)))
    copies = [first, *(first.copy() for _ in range(count - 1))]
    turns = cycle([bound.on(*inputs, out=result) for bound in copies])
    return lambda: next(turns)()


def _time(call: Callable[[], Any], times: int, clock: _Clock) -> float:
    return timed(call, times, clock) / times


def _times(call: Callable[[], Any], burst: float, clock: _Clock) -> int:
    """Calls that take ``burst`` seconds together."""
    once = _time(call, 1, clock)
    if once < 10 * burst:
        once = min(once, _time(call, 1, clock))
    return max(1, min(20000, int(burst / max(once, 1e-7))))


def _alone(call: Callable[[], Any], rounds: int, burst: float, clock: _Clock) -> list[float]:
    times = _times(call, burst, clock)
    return [_time(call, times, clock) for _ in range(rounds)]


def _in_turns(
    candidate: Callable[[], Any], baseline: Callable[[], Any], message: dict[str, Any], clock: _Clock
) -> dict[str, Any]:
    rounds, start = message["rounds"], clock()
    own, other = (_times(call, message["burst"], clock) for call in (candidate, baseline))
    all_rounds: list[tuple[float, float]] = []
    clean: list[tuple[float, float]] = []
    while len(clean) < rounds and len(all_rounds) < _TRIES * rounds:
        lost = preemptions()
        if len(all_rounds) % 2:
            pair = _time(candidate, own, clock), _time(baseline, other, clock)
        else:
            pair = (_time(baseline, other, clock), _time(candidate, own, clock))[::-1]
        all_rounds.append(pair)
        if len(all_rounds) > 1 and clock() - start > message["seconds"]:
            break
        if preemptions() != lost:
            continue
        clean.append(pair)
        if len(clean) == _FEWEST_ROUNDS and _ratio(clean) > message["hopeless"]:
            break
    taken = clean if len(clean) >= _FEWEST_ROUNDS else all_rounds
    return {"seconds": [s for s, _ in taken], "baseline": [b for _, b in taken]}


def _ratio(rounds: list[tuple[float, float]]) -> float:
    return min(s for s, _ in rounds) / min(b for _, b in rounds)


