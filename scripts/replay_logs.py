"""Compile every record that ships, and run and check those of this CPU's targets.

    python scripts/replay_logs.py                      # all of tuning_logs
    python scripts/replay_logs.py my_logs --sample 5   # some of each target

Prints both counts; ends with status 1 if a record no longer fits its strategy, or a kernel is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tvmconv.base.errors import Error
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.compile import compile_kernels
from tvmconv.formats.cpu_features import host_arch, host_features
from tvmconv.formats.kernel import renamed
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import descriptor_of, key_of, read_index
from tvmconv.formats.logs.lookup import Logs
from tvmconv.frontends.verify import verify
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.kinds import parse_spec

ROOT = Path(__file__).resolve().parent.parent


def runs_here(machine: Machine) -> bool:
    """Whether this CPU has what the target needs."""
    return machine.arch == host_arch() and host_features().issuperset(machine.requires)


def replay(folder: Path, keys: list[str]) -> tuple[int, int, list[str]]:
    """(records compiled, records run and right, what was wrong) of one target's folder."""
    machine = resolve(folders.read_metadata(folder)["target"])
    functions = {}
    for cold in (False, True):
        own = {key: parse_spec(descriptor_of(key)) for key in keys if key == key_of(descriptor_of(key), cold)}
        kernels = compile_kernels(list(own.values()), machine, Logs(machine, folder, cold=cold))
        functions |= {key: renamed(kernels[spec], key) for key, spec in own.items()}
    library = Library({f"r{i}": functions[key] for i, key in enumerate(keys)}, machine)
    entries = library.manifest["functions"]
    wrong = [
        f"{entry['descriptor']}: {entry['schedule'].get('why', 'its record was not used')}"
        for entry in entries
        if entry["schedule"]["source"] != "tuned"
    ]
    compiled = len(entries) - len(wrong)
    if not runs_here(machine):
        return compiled, 0, wrong
    right = {entry["name"] for entry in entries}
    for check in verify(library.load()):
        if not check.ok:
            right.discard(check.name)
            wrong.append(f"{check.descriptor}: {check.wrong} wrong elements on {check.fill} data")
    return compiled, len(right), wrong


def main() -> int:
    """Replay the folders; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT / "tuning_logs", help="a folder of logs")
    parser.add_argument("--sample", type=int, help="this many records of each target, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of that draw")
    args = parser.parse_args()
    found = sorted(path.parent for path in args.root.glob(f"**/{folders.METADATA}"))
    if not found:
        print(f"replay_logs: no logs in {args.root}", file=sys.stderr)
        return 2
    all_wrong = []
    for folder in found:
        keys = sorted(read_index(folder))
        if args.sample is not None and args.sample < len(keys):
            keys = sorted(random.Random(args.seed).sample(keys, args.sample))
        if not keys:
            continue
        compiled, right, wrong = replay(folder, keys)
        print(f"{folder.name}: {len(keys)} records, {compiled} compiled, {right} run and right here")
        all_wrong += [f"{folder.name}: {text}" for text in wrong]
    print(*all_wrong, sep="\n", end="\n" if all_wrong else "")
    return 1 if all_wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Error as error:
        print(f"replay_logs: {error}", file=sys.stderr)
        sys.exit(2)
