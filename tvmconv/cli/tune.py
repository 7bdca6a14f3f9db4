"""`tvmconv tune`: search for faster schedules on this machine, and remember them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import TuningError
from tvmconv.base.processes import without_torch
from tvmconv.cli import completion, console, given, models, network_tuning, networks
from tvmconv.cli import tuning_report as report
from tvmconv.cli.options import (
    AsJson,
    DescriptorsOrModel,
    Files,
    OneTarget,
    Seed,
    Threads,
    WriteLog,
    log_of,
    logs_of,
)
from tvmconv.cli.targets import check_one

if TYPE_CHECKING:
    from tvmconv.cli.specs import Named
    from tvmconv.specs.kinds import Spec

HELP = """Search for faster schedules on this machine; 'compile' then uses the best of them.

\b
Examples:
  tvmconv tune conv2d:1x56x56x64:o64:k3x3:p1:NHWC:float32 --trials 64
  tvmconv tune -f layers.txt --minutes 20 --threads 2 --log my_logs
  tvmconv tune --onnx model.onnx --shape x=1x3x224x224 --trials 100
  tvmconv tune model.onnx --shape x=1x3x224x224 --minutes 20
  tvmconv tune -f layers.txt --replay
  tvmconv tune -f layers.txt --target cuda-sm_90 --trials 64
  tvmconv tune -f layers.txt --target cuda-sm_90 --offline-round round
  tvmconv tune -f layers.txt --trials 64 --target cortex-a72 --tracker 127.0.0.1:9190 --key rpi4

--trials is the number of schedules to measure for each descriptor, on the average: each gets half of them,
and the others go where the whole gains most. Those that the log has already count, so the same command, after
Ctrl-C or worse, goes on where it stopped. Each schedule is checked against the float64 reference, and one is
kept only if it beats the default one. Nothing else should run on the machine. See 'tvmconv logs --help' for
what was found.

--space meta searches meta_schedule's own space in place of the strategies' knobs, for convolutions in floats;
of the two, the faster schedule is kept.

--cold measures with weights that come from far caches or memory, as they do in a network. What is found so is
kept apart: compiling a network prefers it, compiling layers alone what was found without --cold.

--whole, or a model alone without --onnx, times each layer where it runs in the network, tries schedules where
most time is lost, and keeps those that make the whole network faster than it was, the two in turns. 'compile'
uses them.

A cuda target is tuned for on this machine's GPU, or with --offline-round on one elsewhere.

--tracker measures on boards instead of this machine, on all that TVM's tracker knows by the key, at once; see
'tvmconv board serve --help'.
"""

_TRIALS = 64  # of each descriptor, where no budget is given


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("tune", help=HELP, short_help="Search for faster schedules, on this machine.")(tune_verb)


def tune_verb(
    descriptors: DescriptorsOrModel = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    whole: models.Whole = False,
    target: OneTarget = "native",
    log: WriteLog = None,
    no_user_logs: Annotated[
        bool, typer.Option("--no-user-logs", help="With --log: take no schedules over from your own logs.")
    ] = False,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", show_default=False,
                     help="Schedules to measure for each descriptor (64 if no budget is given)."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="N", help="Stop after this time.", show_default=False)
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Do not search; measure the best few again.")
    ] = False,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="NAME", help="Search only this strategy.", show_default=False),
    ] = None,
    space: Annotated[
        str,
        typer.Option("--space", metavar="NAME", help="strategies; or meta: meta_schedule's own.",
                     autocompletion=completion.words("strategies", "meta")),
    ] = "strategies",
    cold: Annotated[
        bool, typer.Option("--cold", help="Weights come from memory, as in a network, not from the caches.")
    ] = False,
    offline: Annotated[
        Path | None,
        typer.Option("--offline-round", metavar="DIR", show_default=False,
                     help="For a GPU elsewhere: read the round in DIR, make the next (of --trials each)."),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option("--tracker", metavar="HOST:PORT", show_default=False,
                     help="TVM's RPC tracker, with which boards register."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="What kind of boards.", show_default=False)
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    descriptors, onnx, whole = given.whole_if_bare(descriptors, onnx, whole)
    check_one(target)
    folder = log_of(log)
    if no_user_logs and folder is None:
        raise TuningError("--no-user-logs: expected --log DIR beside it, where to write")
    if whole:
        network_tuning.check_flags(onnx, [*(descriptors or []), *(files or [])], offline is not None, target)
    _check_boards(target, tracker, key)
    from tvmconv.tuning.search.tuner import Options, check, run

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    if trials is None and minutes is None and not replay:
        trials = _TRIALS
    others = logs_of(None, no_user_logs)
    options = Options(trials, minutes, threads, strategy, space, seed, replay, command, cold or whole, others)
    if whole and onnx is not None:
        network = networks.read(onnx, shapes or [], layout, fixed or [])
        layers = network_tuning.layers_of(network, options)
        runner = _runner(target, tracker, key, threads)
        roof = report.roofline_of(target, threads, layers, folder) if runner is None else None
        network_tuning.tune(network, target, folder, options, roof, runner, as_json)
        return
    specs = _specs(
        models.requested(descriptors or [], files or [], onnx, shapes or [], layout, "tune", fixed or [])
    )
    if offline is not None:
        if cold:
            raise TuningError("--cold: expected without --offline-round: only CPUs run networks")
        _offline(specs, target, folder, offline, trials, seed, space, as_json)
        return
    check(options, specs)
    runner = _runner(target, tracker, key, threads)
    roof = report.roofline_of(target, threads, specs, folder) if runner is None else None
    with report.watching(roof) as watch, without_torch():
        try:
            found = run(specs, target, folder, options, watch, runner)
        except KeyboardInterrupt:
            console.log("interrupted; what was measured is in the log, where the same command goes on")
            raise typer.Exit(130) from None
    if as_json:
        console.print_json([report.facts(spec, entry) for spec, entry in found.items()])
    else:
        report.print_found(found)


def _offline(
    specs: dict[Spec, int], target: str, log: Path | None, folder: Path, trials: int | None, seed: int,
    space: str, as_json: bool,
) -> None:  # fmt: skip
    from tvmconv.tuning.measuring.builder import BATCH
    from tvmconv.tuning.offline_rounds import offline_round

    made = offline_round(specs, target, log, folder, trials or BATCH, seed, space)
    if as_json:
        console.print_json(made)
        return
    made_now = console.count(made["candidates"], "candidate")
    print(f"{made['read']} results read; {made_now} in {folder}: run its run.sh where the GPU is")
    for descriptor, best in made["best"].items():
        print(f"{best['us']:.1f} us (default {best['default_us']:.1f})  {best['strategy']}  {descriptor}")


def _check_boards(target: str, tracker: str | None, key: str | None) -> None:
    """Check --tracker and --key at once, before anything slow."""
    if (tracker is None) != (key is None):
        one = "--key" if tracker is None else "--tracker"
        raise TuningError(f"{one}: expected --tracker and --key together")
    if tracker is None:
        return
    from tvmconv.tuning.measuring import tracker as trackers

    if target == "native" or target.startswith("cuda-"):
        raise TuningError(f"--target: {target}, expected the boards' target, a CPU, beside --tracker")
    trackers.boards(trackers.address(tracker))


def _runner(target: str, tracker: str | None, key: str | None, threads: int | None) -> Any:
    """The runner for boards, if requested, or for this machine's GPU; None for its CPUs."""
    from tvmconv.schedules.gpu_machines import GpuMachine
    from tvmconv.schedules.machines import resolve

    machine = resolve(target)
    if isinstance(machine, GpuMachine):  # never with boards
        from tvmconv.tuning.search.tuner import runner_here

        return runner_here(machine, threads)
    if tracker is None or key is None:
        from tvmconv.tuning.measuring.runner import check_here

        check_here(machine)
        return None
    from tvmconv.tuning.measuring.remote import RPCRunner

    return RPCRunner(machine, tracker, key, threads)


def _specs(layers: Sequence[Named]) -> dict[Spec, int]:
    """What to tune, and how often each counts."""
    counts: dict[Spec, int] = {}
    for _, spec in layers:
        spec.check_supported()
        counts[spec] = counts.get(spec, 0) + 1
    return counts
