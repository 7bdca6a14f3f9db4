"""Times convolutions against PyTorch, ONNX Runtime, LiteRT (XNNPACK) and OpenVINO, one line a layer.

    python scripts/bench_peers.py                                  # MobileNetV1, 1 thread and 2 threads
    python scripts/bench_peers.py --network mobilenet_v2 --threads 2 --json v2.json
    python scripts/bench_peers.py --network all_kinds              # the sets for each kind
    python scripts/bench_peers.py --network resnet50 --epilogue full   # fused: bias, residual, activation
    python scripts/bench_peers.py --network pooling --layout NHWC,NCHW
    python scripts/bench_peers.py --network review --by-layout     # where others were ahead
    python scripts/bench_peers.py --scaling                        # cost over batch and over channels
    python scripts/bench_peers.py conv2d:1x14x14x512:o512:k3x3:p1:g512:NHWC:float32
    python scripts/bench_peers.py --against litert,ort --layers layers.txt

How it is made fair
  - One process an engine, the same number of threads and the same cores for each. They take turns, sample by
    sample, in an order that rotates each round; nobody runs until the previous engine's threads sleep.
  - Every engine gets its weights and its input beforehand, in the layout that suits it: weights are packed,
    graphs built, outputs allocated (PyTorch allocates its own). Where an engine has several ways to run a
    layer, each is timed at the start and the fastest is kept; --json names it.
      torch     contiguous NCHW, eager        torch-cl  channels-last, eager
      onednn    PyTorch with weights reordered beforehand: the fused operator of frozen graphs on
                channels-last data, or to_mkldnn tensors in oneDNN's blocked layout
      ort       ONNX Runtime, NCHW in and out, all graph optimisations, bound inputs and outputs
      ort-nchwc the same in its own blocked layout, without the reorders that a network pays at its ends
      litert    a .tflite of the layer on XNNPACK; refused if XNNPACK does not take every operator
      openvino  the CPU plug-in, no narrower than float32, channels-first or -last
    Quantised layers: fbgemm's kernels (torch-cl), oneDNN's (onednn), QLinearConv or ConvInteger (ort), int8
    on XNNPACK (litert), DequantizeLinear to QuantizeLinear (openvino). Weights are of 7 bits, for with 8 the
    sums of some engines saturate on CPUs without VNNI. Where an engine does not have the layer there is "-".
  - Padding that an engine cannot express (SAME at stride 2 is one-sided, for which PyTorch has no argument)
    is put into its input beforehand, so that it pays nothing for it.
  - A sample is a loop of calls that lasts some milliseconds, from Python for everybody, on arrays that were
    bound before where an engine can: `f.on(x, out=y)`, `invoke()`, `run_with_iobinding()`. What such a call
    costs by itself is in every number; the last line of each table shows it on a convolution that does next
    to nothing.
  - Each engine's output is compared with a float64 reference before it is timed; a wrong one ends the run.
  - Epilogues are fused wherever an engine can; eager PyTorch runs residual and activation in place.

Cold weights (--cold)
    In a network a layer's weights come from the last cache or from memory, its input from the layer before.
    So every engine has up to 24 instances of the layer, together twice the last cache, and calls them in
    turns; before each call, outside the time, its input is written anew. Left out are layers whose weights
    stay in the nearer caches even so, ways whose input cannot be written from outside (oneDNN's blocked
    tensors, fbgemm's quantised ones), and with several threads the engines whose instances have a pool of
    threads each (ort, litert, openvino): they would get in each other's way. Each call is timed by itself,
    which adds 0.1 us to it.

Numbers are medians over the rounds. A ratio is the peer's time over ours: above 1, we are faster. Means are
geometric, over the distinct layers. Results go to stdout, progress to stderr.

What is aimed at (tvmconv/bench/goals.py)
    fma %    of the peak of multiply-adds; copy %: of the bandwidth of copying as many bytes as the layer has.
             Both are measured in our engine's process, on its threads, in turns with the layer; their best
             sample counts (of multiply-adds, beside any layer), but the median of ours.
    goal     the ratio to the best peer that the layer has to reach: its kind's, or what 85% of its bound
             leaves, whichever is lower. A depthwise layer has to beat the best without XNNPACK by more:
             where it beats the best of all by enough, and this one not, the verdict is "partly".
    verdict  met by "ratio" or by "bound", or "missed"; floor: what no layer should be below, and this one is
The last lines count them; "attained" is the geometric mean of ratio over goal, "lowest" a ratio.

Use a quiet machine: engines whose threads wait for one another collapse when another process takes a core.
A sample in which a thread was preempted is taken again, twice at most, and then does not count; nor does a
round before or after which multiply-adds reach less than 80% of their peak, for then others' work shares our
cores. A number marked ! had fewer than three samples left, so all were counted: believe neither it nor the
means below it.

Exit status: 0; 1 if an engine computed something wrong or died; 2 for a usage error.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from bench_kinds import KINDS
from bench_layers import EPILOGUES, PADDINGS, SETS, network
from bench_review import show_by_layout
from bench_scaling import curves, show_curves

import tvmconv
from tvmconv.base.errors import Error
from tvmconv.bench import limits
from tvmconv.bench.against import PEERS as PRODUCTS
from tvmconv.bench.engines.layer_data import comparable
from tvmconv.bench.engines.names import ENGINES, missing
from tvmconv.bench.engines.session import log
from tvmconv.bench.engines.worker import EngineError
from tvmconv.bench.goals import Verdict
from tvmconv.bench.ratios import OURS, kind_of
from tvmconv.bench.table import Table
from tvmconv.formats.logs.emulation import cpu_model
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import Spec, parse_spec

PEERS = [name for name in ENGINES if name != OURS]
NOTHING = "conv2d:1x1x1x16:o16:k1x1:NHWC:float32"  # its time is what a call costs


class Usage(Exception):
    """A user's mistake; one line."""


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        specs = chosen_layers(args)
        engines = chosen_engines(args)
        cpus = sorted(os.sched_getaffinity(0)) if args.cpus is None else args.cpus
        if max(args.threads) > len(cpus):
            raise Usage(f"--threads {max(args.threads)}: only {len(cpus)} CPUs to run on")
        report = {"cpu": cpu_model(), "load": os.getloadavg()[0], "tables": []}
        if report["load"] > 0.3:
            log(f"warning: this machine is busy (load {report['load']:.1f}); numbers will wobble")
        nothing = parse_spec(NOTHING)
        with tempfile.TemporaryDirectory() as folder:
            options = {"seconds": args.sample_ms / 1e3}
            if OURS in engines:
                options["library"] = compile_ours([*specs, nothing], args, folder)
                machine = resolve(tvmconv.load(options["library"]).variant)
                options["probes"] = limits.export(machine, [*specs, nothing], Path(folder) / "probes.so")
            for threads in args.threads:
                table = Table(engines, threads, cpus[:threads], options, args.rounds, args.cold)
                report["tables"].append(table.run(specs, nothing, report["cpu"]))
                if args.by_layout:
                    show_by_layout(report["tables"][-1]["layers"])
                if args.scaling:
                    show_curves(report["tables"][-1]["layers"])
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
        if args.csv:
            write_csv(args.csv, report, engines)
    except (Usage, Error, OSError) as problem:
        print(f"bench_peers: {problem}", file=sys.stderr)
        return 2
    except EngineError as problem:
        print(f"bench_peers: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("descriptors", nargs="*", metavar="DESCRIPTOR", help="layers, as `tvmconv compile` takes them")
    add("--layers", metavar="FILE", help="file of descriptors, one a line (- for stdin)")
    sets = ", ".join([*SETS, "all_kinds"])
    add("--network", type=names, metavar="SET,…", help=f"of {sets} (mobilenet_v1 if no layers are given)")
    add("--scaling", action="store_true", help="layers of growing batch and channels, and how cost grows")
    add("--kind", metavar="KIND", help='only layers of this kind, such as depthwise, or "dilated dense"')
    add("--layout", type=names, default=["NHWC"], metavar="L,…", help="ours, for sets: NHWC, NCHW")
    add("--epilogue", choices=EPILOGUES, default="none", help="for sets; full: bias, residual and activation")
    add("--padding", choices=PADDINGS, default="network", help="for sets; symmetric: as PyTorch pads")
    add("--threads", type=integers, default=[1, 2], metavar="N,…", help="a table for each (default 1,2)")
    add("--cpus", type=integers, metavar="N,…", help="CPUs to run on, the first N of them (default: all)")
    add("--against", type=names, metavar="ENGINE,…", help=f"peers, of {', '.join(PEERS)} (default: all here)")
    add("--by-layout", action="store_true", help="then ratios to the best peers that take a layer's layout")
    add("--no-ours", action="store_true", help="time the peers only")
    add("--target", default="native", help="target that ours is compiled for (default native)")
    add("--tuning-logs", metavar="DIR", help="tuning logs for ours (default: the ones that compile finds)")
    add("--rounds", type=int, default=15, help="samples an engine and layer (default 15)")
    add("--sample-ms", type=float, default=4.0, help="how long a sample lasts (default 4)")
    add("--cold", action="store_true", help="below each layer's line, the same with cold weights")
    add("--json", type=Path, metavar="FILE", help="everything: medians, minima, spread, way, error, versions")
    add("--csv", type=Path, metavar="FILE", help="one line a layer and thread count")
    args = parser.parse_args(argv)
    if args.by_layout and args.no_ours:
        parser.error("--by-layout: expected ours too, not --no-ours")
    if min(args.threads) < 1 or args.rounds < 1 or args.sample_ms <= 0:
        parser.error("--threads, --rounds and --sample-ms must be positive")
    return args


def integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def names(text: str) -> list[str]:
    return text.split(",")


def chosen_layers(args: argparse.Namespace) -> list[Spec]:
    """The layers asked for, each once. Raises Usage or SpecError."""
    specs = [parse_spec(text) for text in args.descriptors]
    if args.layers:
        text = sys.stdin.read() if args.layers == "-" else Path(args.layers).read_text()
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        specs += [parse_spec(line) for line in lines if line]
    if args.scaling:
        specs += [spec for curve in curves() for spec in curve.specs]
    wanted: list[str] = []
    for name in args.network or ([] if specs else ["mobilenet_v1"]):
        if name not in SETS and name != "all_kinds":
            raise Usage(f"--network {name}: expected some of {', '.join([*SETS, 'all_kinds'])}")
        wanted += KINDS if name == "all_kinds" else [name]
    for layout in args.layout:
        if layout not in ("NHWC", "NCHW"):
            raise Usage(f"--layout {layout}: expected NHWC, NCHW or both")
        for name in wanted:
            specs += network(name, layout, args.epilogue, args.padding)
    for spec in specs:
        if not comparable(spec):
            others = "neither prelu, a shuffle, nor integers transposed or with a residual"
            raise Usage(f"{spec}: expected a batch, and {others}, which nobody else is given here")
    specs = [spec for spec in dict.fromkeys(specs) if args.kind in (None, kind_of(spec))]
    if not specs:
        raise Usage(f"--kind {args.kind}: none of the layers is of that kind")
    return specs


def chosen_engines(args: argparse.Namespace) -> list[str]:
    """Ours and the peers to time. One asked for must be there; others are left out with a note."""
    wanted: list[str] = []
    for name in args.against or PEERS:
        if name not in PEERS and name not in PRODUCTS:
            raise Usage(f"--against {name}: expected some of {', '.join(PEERS)}")
        wanted += [name] if name in PEERS else PRODUCTS[name]  # onnxruntime stands for its two
    peers = []
    for name in dict.fromkeys(wanted):
        absent = missing(name)
        if absent is None:
            peers.append(name)
        elif args.against:
            raise Usage(f"{name}: no module {absent}; pip install 'tvmconv[bench]'")
        else:
            log(f"{name} is left out: no module {absent}; pip install 'tvmconv[bench]'")
    if not peers:
        raise Usage("no peer is installed; pip install 'tvmconv[bench]'")
    return peers if args.no_ours else [OURS, *peers]


def compile_ours(specs: list[Spec], args: argparse.Namespace, folder: str) -> str:
    """Path of one library with every layer. Raises tvmconv.Error."""
    def progress(done: int, total: int, descriptor: str) -> None:
        log(f"compiled {done}/{total} {descriptor}", over=done < total)

    named = {f"layer{i}": spec for i, spec in enumerate(dict.fromkeys(specs))}
    library = tvmconv.compile(named, target=args.target, tuning_logs=args.tuning_logs, progress=progress)
    return str(library.export(Path(folder) / "ours.so", header=False))


def write_csv(path: Path, report: dict, engines: list[str]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        known = ("descriptor", "kind", "gflops", "ratio", "best")
        judged = [field.name for field in fields(Verdict)]
        out.writerow(["threads", *known, *judged, *(f"{name}_us" for name in engines)])
        for table in report["tables"]:
            for row in table["layers"]:
                times = [row["engines"].get(name, {}).get("us") for name in engines]
                facts = [*(row[key] for key in known), *(row["goal"][key] for key in judged)]
                out.writerow([table["threads"], *facts, *times])


if __name__ == "__main__":
    sys.exit(main())
