"""Hash every kernel of the sets of layers: proof that a refactoring changes no byte of what is compiled.

    python scripts/kernel_hashes.py -o before.json            # all sets, four targets; then change the code
    python scripts/kernel_hashes.py --against before.json     # the same kernels again; 1 if any differs
    python scripts/kernel_hashes.py --set mobilenet_v1 --target x86-64-v3 --sample 10 -o few.json
    python scripts/kernel_hashes.py --epilogue none --epilogue full --sample 40 -o fused.json

By the shipped records, with no cache. A kernel is its objects (cubins on a GPU, with their CUDA source); the
schedule that the manifest will state is compared as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from bench_layers import SETS, network
from network_layers import EPILOGUES

import tvmconv
from tvmconv.base.errors import Error

TARGETS = ("x86-64-v3", "znver5", "cortex-a76", "cuda-sm_90")
LOGS = Path(__file__).resolve().parent.parent / "tuning_logs"


def hashes(descriptors: Sequence[str], target: str) -> dict[str, list[str]]:
    """[hash of the code, hash of the schedule] of each descriptor's kernel; of its error, if it has none."""
    found = {}
    try:
        library = tvmconv.compile({f"f{i}": d for i, d in enumerate(descriptors)}, target, tuning_logs=LOGS)
    except Error as error:
        if len(descriptors) == 1:
            return {descriptors[0]: ["error", _hash(str(error).encode())]}
        for descriptor in descriptors:  # one of them is refused: find which
            found.update(hashes([descriptor], target))
        return found
    for kernel in library.functions.values():
        schedule = json.dumps(kernel.schedule, sort_keys=True, default=str)
        found[kernel.descriptor] = [_hash(*kernel.objects), _hash(schedule.encode())]
    return found


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compare(before: dict, after: dict) -> list[str]:
    """What differs, a line each."""
    return [
        f"{target} {descriptor}: {what} differs"
        for target, kernels in after.items()
        for descriptor, pair in kernels.items()
        for what, old, new in zip(("code", "schedule"), before[target][descriptor], pair, strict=True)
        if old != new
    ]


def main() -> int:
    """Hash, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--set", dest="sets", action="append", choices=list(SETS), help="default: all")
    parser.add_argument("--layout", action="append", choices=["NHWC", "NCHW"], help="default: both")
    parser.add_argument("--epilogue", action="append", choices=EPILOGUES,
                        help="full: bias, residual, activation of networks; default: none")  # fmt: skip
    parser.add_argument("--target", dest="targets", action="append", help=f"default: {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, help="this many layers per target, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of that draw")
    parser.add_argument("-o", "--output", type=Path, help="write the hashes, as JSON")
    parser.add_argument("--against", type=Path, help="hash the kernels of this file again, and compare")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tvmconv-hashes-") as cache:
        os.environ["TVMCONV_CACHE"] = cache
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if args.against:
        before = json.loads(args.against.read_text())
        wanted = {target: list(kernels) for target, kernels in before.items()}
    else:
        ways = product(args.sets or SETS, args.layout or ["NHWC", "NCHW"], args.epilogue or ["none"])
        found = (network(*way) for way in ways)
        descriptors = list(dict.fromkeys(str(spec) for specs in found for spec in specs))
        if args.sample and args.sample < len(descriptors):
            descriptors = random.Random(args.seed).sample(descriptors, args.sample)
        wanted = dict.fromkeys(args.targets or TARGETS, descriptors)
    after = {}
    for target, descriptors in wanted.items():
        after[target] = {}
        for i in range(0, len(descriptors), 32):
            after[target].update(hashes(descriptors[i : i + 32], target))
            print(f"{target}: {len(after[target])} of {len(descriptors)}", file=sys.stderr)
    if args.output:
        args.output.write_text(json.dumps(after, indent=1) + "\n")
    if args.against:
        wrong = compare(before, after)
        print(*wrong, sep="\n", end="\n" if wrong else "")
        print(f"{sum(map(len, after.values()))} kernels, {len(wrong)} differences")
        return 1 if wrong else 0
    print(f"{sum(map(len, after.values()))} kernels hashed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
