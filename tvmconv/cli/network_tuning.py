"""`tvmconv tune --whole`: tuning a network as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tvmconv.base.errors import TuningError
from tvmconv.base.processes import without_torch
from tvmconv.cli import console, networks

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline
    from tvmconv.network.compiling import Network
    from tvmconv.network.tuning.report import NetworkStatus, Report, Watch
    from tvmconv.specs.kinds import Spec
    from tvmconv.tuning.search.tuner import Options


def check_flags(model: Path | None, others: Sequence[str], offline: bool, target: str) -> None:
    """Raise Error for what makes no sense beside `tune --whole`."""
    networks.check_whole(model, others)
    if offline:
        raise TuningError("--offline-round: expected without --whole: whole networks do not run on GPUs")
    if target.startswith("cuda-"):
        raise TuningError(f"--target: {target}, expected a CPU: whole networks do not run on GPUs")


def layers_of(network: Network, options: Options) -> list[Spec]:
    """What of it can be tuned. Raises TuningError for options that make no sense."""
    from tvmconv.network.tuning.layers import check_options, layers_of

    check_options(options, network)
    return layers_of(network)


def tune(
    network: Network, target: str, log: Path | None, options: Options, roof: Roofline | None, runner: Any,
    as_json: bool,
) -> None:  # fmt: skip
    """Tune a network with progress on stderr, and print the outcome."""
    from tvmconv.network.tuning.tuner import tune

    with without_torch(), _watch(options.minutes) as watch:
        try:
            report = tune(network, target, log, options, roof=roof, runner=runner, watch=watch)
        except KeyboardInterrupt:
            console.log("interrupted; what was accepted is in the log, where the same command goes on")
            raise typer.Exit(130) from None
    if as_json:
        console.print_json({**asdict(report), "model": network.model.name})
    else:
        _print(report)


@contextmanager
def _watch(minutes: float | None) -> Iterator[Watch]:
    """A function that shows progress on stderr: a bar on a terminal, else lines."""
    with console.progress("tuning", verbose=True) as show:
        def watch(status: NetworkStatus) -> None:
            if status.left is None or minutes is None:
                show(status.done, status.total or status.done, f"trials: {status.text}")
            else:
                show(round(60 * minutes - status.left), round(60 * minutes),
                     f"s, {console.count(status.done, 'trial')}: {status.text}")  # fmt: skip

        yield watch


def _print(report: Report) -> None:
    columns = ("us before", "us after", "gain", "times", "strategy", "descriptor")
    rows = [
        (f"{c.before * 1e6:.1f}", f"{c.after * 1e6:.1f}", f"{c.before / c.after:.2f}", c.count, c.strategy,
         c.descriptor)
        for c in sorted(report.changes, key=lambda c: c.count * (c.after - c.before))
    ]  # fmt: skip
    if rows:
        console.print_table(columns, rows, right=columns[:4])
        print()
    whole, (before, after) = report.whole, report.predicted
    gain, error = 1 / whole.ratio, 2 * whole.error / whole.ratio**2
    console.print_table(
        ("ms", "before", "after", "gain"),
        [("predicted, by steps", f"{before * 1e3:.3f}", f"{after * 1e3:.3f}", f"{before / after:.3f}"),
         ("measured, in turns", f"{whole.before * 1e3:.3f}", f"{whole.after * 1e3:.3f}",
          f"{gain:.3f} +- {error:.3f}")],
        right=("before", "after", "gain"),
    )  # fmt: skip
    print(f"{console.count(len(rows), 'layer')} changed; {console.count(report.trials, 'trial')} in the log")
