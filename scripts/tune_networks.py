"""Tune the layers whose records ship, network by network; interrupted, the same command goes on.

    python scripts/tune_networks.py                          # all steps, for this machine's CPU
    python scripts/tune_networks.py --list                   # the steps, and how many layers each still lacks
    python scripts/tune_networks.py --steps 1,2,4 --trials 200
    python scripts/tune_networks.py --minutes 90             # stop after so long
    python scripts/tune_networks.py --replay                 # measure the best few of each layer again

Nothing else should run on the machine. What is measured goes to --log, every record of it; after each step
the best record of each layer goes from there to --ship, so that at any time there is something to commit.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench_layers import network

from tvmconv.base.errors import Error
from tvmconv.cli import main as tvmconv
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import read_index
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.log_upkeep import merge, prune

ROOT = Path(__file__).resolve().parent.parent

# (set of scripts/bench_layers.py, layout, epilogue), what is missed most first.
STEPS = [
    ("mobilenet_v1", "NHWC", "none"), ("mobilenet_v2", "NHWC", "none"), ("te_workload", "NHWC", "none"),
    ("resnext50_32x4d", "NHWC", "none"), ("shufflenet_v2", "NHWC", "none"), ("aspp", "NHWC", "none"),
    ("mobilenet_v3_large", "NHWC", "none"), ("odd", "NHWC", "none"), ("depthwise", "NHWC", "none"),
    ("grouped", "NHWC", "none"), ("mobilenet_v1", "NCHW", "none"), ("mobilenet_v2", "NCHW", "none"),
    ("resnet50", "NHWC", "none"), ("mobilenet_v1", "NHWC", "full"), ("mobilenet_v2", "NHWC", "full"),
    ("int8", "NHWC", "none"), ("dense", "NHWC", "none"), ("transposed", "NHWC", "none"),
]  # fmt: skip


def lacking(step: tuple[str, str, str], folder: Path, trials: int) -> list[Spec]:
    """The step's layers that have no verdict, or one of fewer trials."""
    known = read_index(folder)
    found = []
    for spec in network(*step):
        entry = known.get(str(spec))
        if entry is None or entry.trials < trials // 2:  # some need fewer: their spaces are small
            found.append(spec)
    return found


def ship(folder: Path, into: Path, machine: Machine) -> str:
    """Take the best records over, and those alone; how many there are."""
    folders.prepare(into, machine)
    merge(folder, into)
    for facts in folders.read_metadata(folder).get("runs", []):
        folders.note_run(into, facts)
    kept, _ = prune(into)
    return f"{into}: {kept} records"


def main() -> int:
    """Tune the layers that lack records, step by step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="native", help="default: the one for this CPU, or its base")
    parser.add_argument("--trials", type=int, default=96, help="schedules to measure per layer, on average")
    parser.add_argument("--threads", type=int, help="threads that kernels run on (default: the CPU affinity)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this many minutes")
    parser.add_argument("--steps", help="numbers of steps, as 1,2,5 (default: all)")
    parser.add_argument("--log", type=Path, default=ROOT / "build" / "tuning_logs", help="for every record")
    parser.add_argument("--ship", type=Path, default=ROOT / "tuning_logs", help="for the best ones")
    parser.add_argument("--list", action="store_true", help="list the steps, and tune nothing")
    parser.add_argument("--replay", action="store_true", help="measure the best few of each layer again")
    args = parser.parse_args()
    machine = resolve(args.target)
    if args.target == "native" and machine.base and {*resolve(machine.base).requires} <= {*machine.requires}:
        machine = resolve(machine.base)  # whose records for floats serve both
    folder, into = (folders.folder_of(root, machine) for root in (args.log, args.ship))
    numbers = range(1, len(STEPS) + 1)
    wanted = numbers if args.steps is None else [int(n) for n in args.steps.split(",")]
    if not set(wanted) <= set(numbers):
        parser.error(f"--steps {args.steps}: expected numbers from 1 to {len(STEPS)}")
    deadline = time.monotonic() + 60 * args.minutes
    for number in wanted:
        step = STEPS[number - 1]
        specs = network(*step) if args.replay else lacking(step, folder, args.trials)
        print(f"{number}: {' '.join(step)}: {len(specs)} of {len(network(*step))} layers to tune", flush=True)
        left = (deadline - time.monotonic()) / 60
        if args.list or not specs:
            continue
        if left <= 0:
            break
        command = ["tune", *map(str, specs), "--target", machine.name, "--log", str(args.log)]
        command += ["--replay"] if args.replay else ["--trials", str(args.trials)]
        if args.threads:
            command += ["--threads", str(args.threads)]
        if left < float("inf"):
            command += ["--minutes", f"{left:.2f}"]
        status = tvmconv(command)
        if (folder / folders.METADATA).exists():
            print(ship(folder, into, machine), flush=True)
        if status:
            return status
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Error as error:
        print(f"tune_networks: {error}", file=sys.stderr)
        sys.exit(2)
