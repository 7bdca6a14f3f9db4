"""Whole networks beside other engines: milliseconds a call, memory, as ratios to the fastest of the others.

    python scripts/network_models.py --out models
    python scripts/bench_networks.py models/*.onnx [--threads 1 2] [--rounds 9] [--peers onnxruntime,litert]
    python scripts/bench_networks.py models/mobilenet_v2.onnx --compile-times
    python scripts/bench_networks.py models/mobilenet_v2.onnx --peers onnxruntime,apart

Each engine has a process of its own and takes turns with the others, in rounds; a turn begins when no thread
of the engine before runs any more. A number is the median of a round's medians; a ratio is of medians: above
1, ours is faster than the fastest peer. Results of all are compared with onnxruntime's first.

onnxruntime and OpenVINO read the ONNX model; LiteRT (XNNPACK) gets it as a .tflite, channels-last at its
ends; torch.compile, with freezing, gets the module that scripts/network_models.py exported under that name,
and is left out unless asked for by --peers: it takes a minute a network to get ready. "apart" is ours
without blocks (`--blocks never`), in turns with the others but for no ratio; with --blocks always, ours has
all that there are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from network_engines import ENGINES

from tvmconv.base.errors import Error
from tvmconv.base.processes import Process, ProcessError, settle
from tvmconv.bench.engines.session import log
from tvmconv.bench.ratios import geometric_mean
from tvmconv.network import compiling
from tvmconv.network.checking import feeds_of
from tvmconv.network.choosing import BLOCKS
from tvmconv.onnx.reading.model import parse_shapes

OURS, APART = "ours", "apart"
PEERS = ("onnxruntime", "openvino", "litert")
GROUPS = {
    "mobile": ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2", "efficientnet_b0",
               "mnasnet", "ghostnet", "regnet_y_400mf"),
    "large": ("resnet50", "resnext50", "densenet121", "inception_v3"),
    "images": ("unet", "ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"),
}  # fmt: skip
"""Networks whose ratios have a mean of their own."""
_TOLERANCE = 1e-4  # of a result's range
_ABSOLUTE = 1e-6  # besides: a sigmoid near 0 has a tiny range
_HEADS = {OURS: "ours", APART: "apart", "onnxruntime": "ORT", "openvino": "OpenVINO", "litert": "LiteRT",
          "torch": "torch"}  # fmt: skip


class Case:
    """A network: its files in a folder."""

    def __init__(self, source: Path, shapes: Sequence[str], folder: Path, peers: Sequence[str],
                 blocks: str) -> None:  # fmt: skip
        self.name, self.folder = source.stem, folder
        log(f"{self.name}: compiling")
        network = compiling.read(source, parse_shapes(shapes))
        library = compiling.compile(network, name="main", blocks=blocks).export(folder / "main.so")
        feeds = feeds_of(network)
        np.savez(folder / "feeds.npz", **feeds)
        self.files = {"onnx": str(source), "so": str(library), "feeds": str(folder / "feeds.npz")}
        self.weights = sum(array.nbytes for array in network.graph.constants.values())
        if APART in peers:
            other = compiling.compile(network, name="main", blocks="never").export(folder / "apart.so")
            self.files[APART] = str(other)
        if "litert" in peers:
            self._write_tflite(source, network.shapes)

    def _write_tflite(self, source: Path, shapes: Any) -> None:
        from network_tflite import Unfit, write

        path = self.folder / "main.tflite"
        try:
            write(source, shapes, path)
            self.files["tflite"] = str(path)
        except Unfit as unfit:
            log(f"{self.name}: no .tflite: {unfit}")

    def request(self, engine: str, threads: int) -> dict[str, Any]:
        """What a worker is asked to load."""
        files = {**self.files, "results": str(self.folder / f"{engine}.npz")}
        what = {"engine": engine, "files": files, "name": self.name, "threads": threads}
        return {"do": "load", "with": what}

    def error(self, engine: str) -> float:
        """The largest difference of an engine's results from onnxruntime's, over the result's range."""
        found, wanted = (np.load(self.folder / f"{name}.npz") for name in (engine, "onnxruntime"))
        worst = 0.0
        for key in wanted.files:
            a, b = found[key], wanted[key]
            if a.shape != b.shape:
                return float("inf")
            apart = np.abs(a.astype(float) - b).max(initial=0) - _ABSOLUTE
            worst = max(worst, float(apart / max(float(np.ptp(b)), 1e-30)))
        return worst


@contextmanager
def workers(case: Case, engines: Sequence[str], threads: int) -> Iterator[dict[str, tuple[Process, dict]]]:
    """(process, what it said of itself) of each engine that runs the network right."""
    environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "TVMCONV_NUM_THREADS")}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    found: dict[str, tuple[Process, dict]] = {}
    with ExitStack() as stack:
        for engine in engines:
            if engine == "litert" and "tflite" not in case.files:
                continue
            log(f"{case.name}: {threads} threads: {engine}", over=True)
            process = Process("network_engines", environment)
            stack.callback(process.stop)
            try:
                said = process.ask(case.request(engine, threads), 900)
            except ProcessError as problem:
                said = {"error": str(problem)}
            if "error" in said:
                if engine == OURS:
                    raise Error(f"{case.name}: ours: {said['error']}")
                log(f"{case.name}: {engine}: {said['error']}")
                continue
            said["error"] = case.error(engine)
            if said["error"] > _TOLERANCE:
                log(f"{case.name}: {engine}: wrong by {said['error']:.1e} of the range, left out")
                continue
            found[engine] = process, said
        yield found


def timed(case: Case, engines: Sequence[str], threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds a call by engine, and what each said of itself."""
    request = {"do": "sample", "with": {"seconds": options.turn_ms / 1e3, "realtime": options.realtime}}
    with workers(case, engines, threads) as running:
        times: dict[str, list[float]] = {engine: [] for engine in running}
        for number in range(options.rounds):
            for engine in (*list(running)[number % len(running):], *list(running)[: number % len(running)]):
                process, _ = running[engine]
                said = process.ask(request, 120)
                times[engine].append(said["seconds"] * 1e3)
                if process.process and not settle(process.process.pid, 2):
                    log(f"warning: threads of {engine} keep running after its turn")
            log(f"{case.name}: {threads} threads: round {number + 1}/{options.rounds}", over=True)
        return {
            "network": case.name, "threads": threads, "weights": case.weights,
            "ms": {engine: statistics.median(taken) for engine, taken in times.items()},
            "facts": {engine: said for engine, (_, said) in running.items()},
        }  # fmt: skip


def ratio(row: dict[str, Any]) -> float | None:
    """The fastest peer's time over ours."""
    others = [ms for engine, ms in row["ms"].items() if engine not in (OURS, APART)]
    return min(others) / row["ms"][OURS] if others and OURS in row["ms"] else None


def line(name: str, threads: int | str, cells: Sequence[str], best: str, which: str) -> str:
    return f"{name[:24]:<24} {threads:>7}" + "".join(f"{cell:>10}" for cell in cells) + f"{best:>7}  {which}"


def shown(row: dict[str, Any], engines: Sequence[str]) -> str:
    """A row's times."""
    found = ratio(row)
    others = {engine: ms for engine, ms in row["ms"].items() if engine not in (OURS, APART)}
    cells = [f"{row['ms'][engine]:.3f}" if engine in row["ms"] else "-" for engine in engines]
    best = _HEADS[min(others, key=lambda engine: others[engine])] if others else ""
    return line(row["network"], row["threads"], cells, "-" if found is None else f"{found:.2f}", best)


def memory(row: dict[str, Any], engines: Sequence[str]) -> str:
    """A row's memory: what each process has more than before, in MiB; our workspace."""
    cells = [f"{row['facts'][e]['memory'] / 2**20:.1f}" if e in row["facts"] else "-" for e in engines]
    workspace = row["facts"].get(OURS, {}).get("workspace", 0) / 2**20
    cells += [f"{row['weights'] / 2**20:.1f}", f"{workspace:.1f}"]
    return line(row["network"], row["threads"], cells, "", "")


def means(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Geometric means of ratios, by group and number of threads."""
    for threads in sorted({row["threads"] for row in rows}):
        taken = [row for row in rows if row["threads"] == threads and ratio(row) is not None]
        for group, names in {**GROUPS, "all": None}.items():
            ratios = {row["network"]: ratio(row) for row in taken if names is None or row["network"] in names}
            if ratios:
                worst = min(ratios, key=lambda name: ratios[name] or 0)
                yield (f"{group}, {threads} threads: {geometric_mean(ratios.values()):.2f} of {len(ratios)}, "
                       f"lowest {ratios[worst]:.2f} ({worst})")  # fmt: skip


def compile_times(source: Path, shapes: Sequence[str]) -> str:
    """Seconds that `tvmconv compile --whole` takes with an empty cache, and again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tvmconv", "compile", "--onnx", str(source), "--whole", "-o",
                   f"{folder}/main.so", *(f"--shape={shape}" for shape in shapes)]  # fmt: skip
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(command, check=True, env={**os.environ, "TVMCONV_CACHE": f"{folder}/cache"},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
            taken.append(time.perf_counter() - start)
    return f"{source.stem:<24} cold {taken[0]:6.1f} s, cached {taken[1]:5.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn-ms", type=float, default=250, help="how long each turn's calls last")
    parser.add_argument("--peers", default=",".join(PEERS), help="some of " + ", ".join(ENGINES))
    parser.add_argument("--blocks", default="auto", choices=BLOCKS, help="as of `tvmconv compile`")
    parser.add_argument("--shape", action="append", default=[], help="as of `tvmconv compile`")
    parser.add_argument(
        "--realtime", type=int, nargs="?", const=10, default=0, metavar="PRIORITY",
        help="real-time priority in each turn, 10 if not given (root): for machines that others use",
    )  # fmt: skip
    parser.add_argument(
        "--compile-times", action="store_true",
        help="instead: seconds of `tvmconv compile` with an empty cache and with a full one",
    )  # fmt: skip
    options = parser.parse_args()
    if options.compile_times:
        for source in options.models:
            print(compile_times(source, options.shape), flush=True)
        return
    engines = [OURS, *(peer for peer in options.peers.split(",") if peer != OURS)]
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"--peers: {', '.join(sorted(unknown))}, expected some of {', '.join(ENGINES)}")
    if "onnxruntime" not in engines:
        parser.error("--peers: expected onnxruntime among them, whose results the others are checked against")
    engines = sorted(engines, key=lambda engine: engine != "onnxruntime")  # it has to be the first
    columns = [OURS, *(engine for engine in engines if engine != OURS)]
    rows = []
    print(line("ms a call", "threads", [_HEADS[engine] for engine in columns], "ratio", "to"))
    for source in options.models:
        with tempfile.TemporaryDirectory() as folder:
            try:
                case = Case(source, options.shape, Path(folder), engines, options.blocks)
            except Error as problem:
                log(f"{source.stem}: {str(problem)[:300]}")
                continue
            for threads in options.threads:
                rows.append(timed(case, engines, threads, options))
                print(shown(rows[-1], columns), flush=True)
    print("\n".join(means(rows)))
    heads = [*(_HEADS[engine] for engine in columns), "weights", "workspace"]
    print("\n" + line("MiB added", "threads", heads, "", ""))
    for row in rows:
        print(memory(row, columns))


if __name__ == "__main__":
    main()
