"""Our tuner against meta_schedule's own tune_tir: trials a minute, and the winners side by side.

    python scripts/bench_tuner.py
    python scripts/bench_tuner.py --trials 64 conv2d:1x28x28x128:o128:k1x1:NHWC:float32

Each tunes in a process of its own, one after the other, from a cold start to its verdict; then the winners
run in turns. Takes a convolution of x and weights alone, channels-last. Needs xgboost (tune_tir also psutil
and cloudpickle) and a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LAYER = "conv2d:1x28x28x128:o128:k3x3:p1:g128:NHWC:float32"
ROUNDS, BURST = 15, 0.02
PATIENCE = 300.0  # seconds
FAILED = 1e9  # seconds, or more: how meta_schedule records a failure


def stock(descriptor: str, trials: int, folder: Path) -> dict[str, float]:
    """meta_schedule as it comes, with weights HWIO, but for the time that a build may take: in the usual 30 s
    its workers hardly get through their imports. The winner is exported to `folder`."""
    import tvm
    from tvm.s_tir import meta_schedule as ms

    from tvmconv.compiler.codegen.family import family_of
    from tvmconv.schedules.llvm import llvm_target
    from tvmconv.schedules.machines import resolve
    from tvmconv.specs.kinds import parse_spec
    from tvmconv.tuning.search.database import with_cores

    spec = parse_spec(descriptor)
    func = family_of(spec).definition(spec, meta=True)
    target = with_cores(llvm_target(resolve("native")), len(os.sched_getaffinity(0)))
    start = time.perf_counter()
    builder = ms.builder.LocalBuilder(timeout_sec=PATIENCE)
    database = ms.tune_tir(func, target, str(folder / "stock"), trials, builder=builder)
    seconds = time.perf_counter() - start
    records = database.get_all_tuning_records()
    done = [record for record in records if min(map(float, record.run_secs)) < FAILED]
    if not done:
        raise SystemExit(f"tune_tir measured nothing, with {PATIENCE:.0f} s for each build")
    best = ms.tir_integration.compile_tir(database, func, target)
    tvm.compile(best.mod, target).export_library(str(folder / "stock.so"))
    return {"seconds": seconds, "trials": len(done)}


def ours(descriptor: str, trials: int, folder: Path) -> dict[str, float]:
    """Our tuner; the library by its record, and the one by default, are exported to `folder`."""
    start = time.perf_counter()
    import tvmconv
    from tvmconv.base.processes import without_torch
    from tvmconv.formats.logs import folder as folders
    from tvmconv.formats.logs.traces import read

    logs = folder / "ours"
    with without_torch():  # as the command line has it
        tvmconv.tune(descriptor, trials=trials, tuning_logs=logs)
    seconds = time.perf_counter() - start
    (path,) = logs.glob(f"*/{folders.RECORDS}")
    found = [read(facts[0]) for _, facts in folders.read_lines(path)[0]]
    points = {str(choice) for _, choice, error in found if error is None}  # the duels measure some again
    tvmconv.compile({"f": descriptor}, tuning_logs=logs).export(folder / "ours.so", header=False)
    none = folder / "none"
    none.mkdir()
    tvmconv.compile({"f": descriptor}, tuning_logs=none).export(folder / "default.so", header=False)
    return {"seconds": seconds, "trials": len(points)}


def race(descriptor: str, trials: int, folder: Path) -> dict[str, float]:
    """Microseconds a call of the winners, and of our default schedule, in turns."""
    import numpy as np
    import tvm

    import tvmconv
    from tvmconv.specs.kinds import parse_spec

    spec = parse_spec(descriptor)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (spec.input_shape, spec.weight_shape))
    x, y = tvmconv.aligned(x), tvmconv.aligned(np.empty(spec.output_shape, np.float32))  # as TVM has them
    stocks = tvm.runtime.load_module(str(folder / "stock.so"))["main"]
    seen = _seen_shapes(descriptor)
    arrays = [tvm.runtime.tensor(a.reshape(shape)) for a, shape in zip((x, w, y), seen, strict=True)]
    calls: dict[str, Callable[[], Any]] = {"stock": lambda: stocks(*arrays)}
    for name in ("ours", "default"):
        bound = tvmconv.load(folder / f"{name}.so")["f"].bind(w)
        calls[name] = lambda bound=bound: bound(x, out=y)
    calls["ours"]()
    calls["stock"]()
    np.testing.assert_allclose(arrays[2].numpy().reshape(y.shape), y, rtol=1e-3, atol=1e-3)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            time.sleep(0.005)  # the other's threads go to sleep
            times, start = 0, time.perf_counter()
            while time.perf_counter() - start < BURST:
                call()
                times += 1
            taken[name].append((time.perf_counter() - start) / times * 1e6)
    return {name: min(values) for name, values in taken.items()}


def _seen_shapes(descriptor: str) -> list[tuple[int, ...]]:
    """The shapes that the stock winner's arguments have: x, w, y."""
    from tvmconv.compiler.ops.packing import Packing
    from tvmconv.compiler.ops.problem import problem_of
    from tvmconv.specs.kinds import parse_spec

    p = problem_of(parse_spec(descriptor))
    packing = Packing(p.groups * p.out_group, across_groups=True) if p.groups > 1 else Packing(p.out_group)
    return [p.x_shape(), packing.shape(p), p.y_shape]


STEPS = {"stock": stock, "ours": ours, "race": race}


def main() -> int:
    """Run the three steps, each in its own process, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("descriptor", nargs="?", default=LAYER, help=f"default: {LAYER}")
    parser.add_argument("--trials", type=int, default=64, help="trials of each of the two tuners")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        found = STEPS[args.step](args.descriptor, args.trials, args.folder)
        (args.folder / f"{args.step}.json").write_text(json.dumps(found))
        return 0
    lacking = [module for module in ("xgboost", "psutil", "cloudpickle") if find_spec(module) is None]
    if lacking:
        parser.error(f"no module {lacking[0]}: pip install {' '.join(lacking)}")
    threads = str(len(os.sched_getaffinity(0)))
    environment = {**os.environ, "TVM_NUM_THREADS": threads, "TVMCONV_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        results = {}
        for step in STEPS:
            command = [sys.executable, __file__, args.descriptor, "--trials", str(args.trials)]
            command += ["--step", step, "--folder", folder]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            results[step] = json.loads(Path(folder, f"{step}.json").read_text())
            print(f"{step} done", file=sys.stderr)
    rates = {name: 60 * results[name]["trials"] / results[name]["seconds"] for name in ("stock", "ours")}
    print(args.descriptor)
    for name, rate in rates.items():
        facts, us = results[name], results["race"][name]
        counted = f"{facts['trials']:4} trials in {facts['seconds']:6.1f} s, {rate:6.1f} a minute"
        print(f"{name:8} {counted}; winner {us:.1f} us")
    print(f"default schedule {results['race']['default']:.1f} us")
    print(f"ratio of trials a minute: {rates['ours'] / rates['stock']:.1f}")
    print(f"stock's winner / ours: {results['race']['stock'] / results['race']['ours']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
