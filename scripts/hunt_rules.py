"""Hunts layers whose default schedule is a bad one.

Random layers of real networks (those of bench_layers.py, with batch, size, channels, stride, kernel,
dilation, groups, type, layout or epilogue changed): each by default, and by the best of a short search over
all strategies and points near the best ones. Where that is faster by more than --above, the layer is listed
with the strategy and the point that won: a rule, or a default point, to mend.

    python scripts/hunt_rules.py --log hunt.jsonl                    # 200 layers; again, and it goes on
    python scripts/hunt_rules.py --log hunt.jsonl --report           # what it found so far
    python scripts/hunt_rules.py --log hunt.jsonl --again after.jsonl  # the same layers, once rules changed
    python scripts/hunt_rules.py conv2d:1x64x56x56:o64:k5x5:p2:NCHW:float32
    python scripts/hunt_rules.py --sets channels_first,resnet50 --dtypes float32 --layers 50

Layer K of a seed is the same everywhere and needs no other before it. A candidate is checked against the
float64 reference, then timed in turns with the default in one process; the best one is timed once more, for
longer, and that ratio counts: of the default's best time to the candidate's, above 1 where the default is
slower. One above --above counts if it is confirmed: after a pause, both are timed once more, in a new process
on other data, and the lower ratio goes into the log. Tuned records play no part. Progress goes to stderr, all
findings to stdout at the end, worst first. Busy machines are all right: what counts of one thread is the time
that it had a CPU, and of several the rounds in which none was preempted.

Exit status: 0 if nothing was found, 1 if something was, 2 for a usage error.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from hunt_layers import SETS, layer
from hunt_log import Found, read, shown, write

from tvmconv.base.errors import Error
from tvmconv.compiler import codegen
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.schedules.plan import Choice, Space
from tvmconv.specs.kinds import Spec, parse_spec
from tvmconv.tuning.measuring.builder import Builder
from tvmconv.tuning.measuring.runner import BASELINE, Effort, LocalRunner, Measured

ABOVE = 1.3
_SEARCH = Effort(rounds=7, burst=0.0005, seconds=0.4)
_DUEL = Effort(rounds=15, burst=0.001, seconds=1.0)
_CONFIRMING = replace(_DUEL, fills=("integer",))
_PAUSE = 5.0  # seconds before a finding is confirmed; what disturbed it may be over then
_TIMEOUT = 60.0  # seconds for a check and a time, on a machine that does much else
_KEPT = 2  # points whose neighbours the next round tries


class Hunter:
    """Compares defaults with what a short search finds, on this machine; ratios beyond ``above`` twice."""

    def __init__(self, machine: Machine, threads: int, candidates: int, above: float) -> None:
        self.machine, self.candidates, self.above = machine, candidates, above
        self.builder = Builder(machine, len(os.sched_getaffinity(0)))
        self.runner = LocalRunner(machine, threads, _TIMEOUT)

    def stop(self) -> None:
        self.builder.stop()
        self.runner.stop()

    def hunt(self, spec: Spec, number: int | None = None) -> Found:
        """The default of ``spec`` against the best of a search."""
        made = codegen.scheduled(spec, self.machine).schedule
        default = Choice(made["strategy"], made["point"])
        (built,) = self.builder.build(spec, [default])
        times: dict[str, tuple[float, Choice, Kernel]] = {}  # the candidate's over the default's
        errors = []
        if isinstance(built, str):
            return Found(str(spec), default, default, 0.0, 0.0, 0, built, number)
        for choices in self._rounds(spec, default, times):
            kernels = self.builder.build(spec, choices)
            pairs = [(c, k) for c, k in zip(choices, kernels, strict=True) if isinstance(k, Kernel)]
            errors += [kernel for kernel in kernels if isinstance(kernel, str)]
            for (choice, kernel), measured in zip(pairs, self._timed(built, pairs, _SEARCH), strict=True):
                if measured.error:
                    errors.append(f"{shown(choice)}: {measured.error}")
                else:
                    times[shown(choice)] = (measured.ratio, choice, kernel)
        if not times:
            return Found(str(spec), default, default, 0.0, 0.0, 0, "; ".join(errors[:1]), number)
        _, choice, kernel = min(times.values(), key=lambda found: found[0])
        last = self._duel(built, choice, kernel)
        if last.error:
            return Found(str(spec), default, choice, 0.0, 0.0, len(times), last.error, number)
        seconds, default_seconds = min(last.seconds), min(last.baseline)
        wrong = next((error for error in errors if "wrong" in error), "")
        return Found(str(spec), default, choice, default_seconds, seconds, len(times), wrong, number)

    def _duel(self, default: Kernel, choice: Choice, kernel: Kernel) -> Measured:
        """The default and the winner in turns: of two such where the first is a finding, that which says less
        of it. A process keeps its luck with where arrays and code lie, a neighbour is busy for a while."""
        (first,) = self._timed(default, [(choice, kernel)], _DUEL)
        if first.error or 1 / first.ratio <= self.above:
            return first
        time.sleep(_PAUSE)
        self.runner.stop()
        (second,) = self._timed(default, [(choice, kernel)], _CONFIRMING)
        return second if second.error else max(first, second, key=lambda duel: duel.ratio)

    def _timed(
        self, default: Kernel, pairs: list[tuple[Choice, Kernel]], effort: Effort
    ) -> Iterator[Measured]:
        kernels = {f"c{i}": kernel for i, (_, kernel) in enumerate(pairs)}
        return self.runner.measure({BASELINE: default, **kernels}, list(kernels), effort)

    def _rounds(self, spec: Spec, default: Choice, times: dict) -> Iterator[list[Choice]]:
        """What to measure next: each strategy's own default; then, in two rounds, points near the best. The
        default itself is a candidate, so that there is one."""
        rng = random.Random(str(spec))
        spaces = codegen.spaces(spec, self.machine)
        seen: set[str] = set()

        def fresh(choices: Iterable[Choice], most: int) -> list[Choice]:
            taken: list[Choice] = []
            for choice in choices:
                key = shown(choice)
                if key in seen or len(taken) == most or not self._fits(spec, choice):
                    continue
                seen.add(key)
                taken.append(choice)
            return taken

        own = [self._settled(spec, name) for name in spaces]
        first = fresh([default, *(choice for choice in own if choice is not None)], len(spaces) + 1)
        yield first
        left = max(0, self.candidates - len(first))
        for part in (left - left // 2, left // 2):
            best = [choice for _, choice, _ in sorted(times.values(), key=lambda found: found[0])]
            tries = (
                near(choice, spaces[choice.strategy], rng)
                for _ in range(20 * part)
                for choice in best[:_KEPT]
                if choice.strategy in spaces
            )
            if taken := fresh(tries, part):
                yield taken

    def _settled(self, spec: Spec, strategy: str) -> Choice | None:
        """The default point of a strategy."""
        try:
            made = codegen.scheduled(spec, self.machine, Choice(strategy, {})).schedule
        except ValueError:
            return None
        return Choice(strategy, made["point"])

    def _fits(self, spec: Spec, choice: Choice) -> bool:
        try:
            codegen.check_choice(spec, self.machine, choice)
        except ValueError:
            return False
        return True


def near(choice: Choice, space: Space, rng: random.Random) -> Choice:
    """``choice`` with one knob changed, or a few."""
    able = [knob for knob, values in space.items() if len(values) > 1 and knob in choice.point]
    changed = rng.sample(able, min(len(able), rng.choice([1, 1, 2, 3])))
    return Choice(choice.strategy, {**choice.point, **{knob: rng.choice(space[knob]) for knob in changed}})


def arguments(argv: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("descriptors", nargs="*", metavar="DESCRIPTOR", help="layers, instead of random ones")
    add("--log", type=Path, metavar="FILE", help="findings, a line per layer; none in it is measured again")
    add("--report", action="store_true", help="show what the log has, and measure nothing")
    add("--again", type=Path, metavar="FILE", help="measure the layers of --log again, into this file")
    add("--layers", type=int, default=200, metavar="N", help="random layers (default 200)")
    add("--first", type=int, default=0, metavar="K", help="number of the first layer (default 0)")
    add("--seed", type=int, default=0, help="seed of the random layers (default 0)")
    add("--sets", type=names, default=list(SETS), metavar="SET,…", help=f"of {', '.join(SETS)} (default all)")
    add("--dtypes", type=names, default=[], metavar="TYPE,…", help="only these element types")
    add("--above", type=float, default=ABOVE, metavar="R", help=f"list ratios above (default {ABOVE})")
    add("--candidates", type=int, default=16, metavar="N", help="per layer (16), besides one per strategy")
    add("--threads", type=int, default=1, metavar="N", help="threads that kernels run on (default 1)")
    add("--target", default="native", help="target to compile for (default native)")
    add("--minutes", type=float, metavar="M", help="stop after this many minutes")
    args = parser.parse_args(argv)
    if (args.report or args.again) and args.log is None:
        parser.error("--report and --again need --log")
    if unknown := [name for name in args.sets if name not in SETS]:
        parser.error(f"--sets {unknown[0]}: expected some of {', '.join(SETS)}")
    if min(args.layers, args.candidates, args.threads) < 1:
        parser.error("--layers, --candidates and --threads must be positive")
    return args


def names(text: str) -> list[str]:
    return text.split(",")


def todo(args: argparse.Namespace) -> Iterator[tuple[int | None, Spec]]:
    """Layers, with their numbers, that the log does not have yet."""
    if args.again:
        done = {found.descriptor for found in read(args.again)}
        for found in sorted(read(args.log), key=lambda found: -found.ratio):
            if found.descriptor not in done:
                yield found.number, parse_spec(found.descriptor)
        return
    done = {found.descriptor for found in read(args.log)}
    if args.descriptors:
        yield from ((None, spec) for spec in map(parse_spec, args.descriptors) if str(spec) not in done)
        return
    for number in range(args.first, args.first + args.layers):
        spec = layer(args.seed, number, args.sets, args.dtypes)
        if str(spec) not in done:
            yield number, spec


def run(args: argparse.Namespace) -> list[Found]:
    """Hunt; what was found, log and all. Raises tvmconv.Error."""
    hunted = read(log := args.again or args.log)
    left = [] if args.report else list(todo(args))
    hunter = Hunter(resolve(args.target), args.threads, args.candidates, args.above) if left else None
    start = time.monotonic()
    try:
        for at, (number, spec) in enumerate(left):
            elapsed = time.monotonic() - start
            if args.minutes is not None and elapsed >= 60 * args.minutes:
                break
            rest = f", {elapsed / at * (len(left) - at) / 60:.0f} min left" if at else ""
            print(f"{at + 1}/{len(left)}{rest}: {spec}", file=sys.stderr)
            found = hunter.hunt(spec, number)
            hunted.append(found)
            if log:
                write(log, found)
            if found.error or found.ratio > args.above:
                print(found, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
    finally:
        if hunter is not None:
            hunter.stop()
    return hunted


def report(hunted: list[Found], above: float) -> int:
    """Print findings, worst first; their number."""
    broken = [found for found in hunted if found.error]
    bad = [found for found in hunted if found.ratio > above]
    for found in [*broken, *sorted(bad, key=lambda found: -found.ratio)]:
        print(found)
    print(f"{len(hunted)} layers: {len(bad)} above {above}, {len(broken)} with errors")
    return len(bad) + len(broken)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        hunted = run(args)
    except (Error, OSError) as problem:
        print(f"hunt_rules: {problem}", file=sys.stderr)
        return 2
    return 1 if report(hunted, args.above) else 0


if __name__ == "__main__":
    sys.exit(main())
