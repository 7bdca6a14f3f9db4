"""Correctness and speed of CUDA libraries on this machine's GPU, as JSON. scripts/gpu_check.sh runs it, in a
folder that scripts/gpu_pack.py made. Needs numpy; torch, if it is there, is timed as well.

Usage: python gpu_check.py [--out gpu_check.json] [--only-checks]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import platform
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import tvmconv
from tvmconv.base.dtypes import numpy_dtype
from tvmconv.frontends.verify import operands, random_arrays, verify
from tvmconv.runtime.gpu.driver import driver
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring.gpu_clock import Clock

HERE = Path(__file__).parent
_COPIED = 512 << 20  # bytes, to measure the memory's bandwidth
_ROTATED = 256 << 20  # bytes: arrays take turns, so that none is still in the L2 cache


def check(path: Path) -> list[dict[str, Any]]:
    """Every function of a library against the float64 reference."""
    rows = []
    for found in verify(tvmconv.load(path)):
        rows.append({"descriptor": found.descriptor, "data": found.fill, "max_rel": found.max_rel,
                     "allowed": found.tolerance, "ok": found.ok})  # fmt: skip
        if not found.ok:
            print(f"FAIL {asdict(found)}", file=sys.stderr)
    return rows


def bandwidth(clock: Clock) -> float:
    """Bytes a second that a copy reads and writes."""
    size = _COPIED
    a, b = (tvmconv.to_gpu(np.zeros(size, np.uint8)) for _ in "ab")
    copy = ctypes.CDLL("libcuda.so.1").cuMemcpyDtoDAsync_v2
    copy.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t, ctypes.c_void_p]
    return 2 * size / clock.seconds(lambda i: copy(a._pointer, b._pointer, size, None))


def timed(clock: Clock, *parts: tuple[Any, dict[str, Any]], seed: int = 0) -> float:
    """Seconds of a call of a function, given with its entry, with its weights bound; of several calls in a
    row, each of which reads what the one before makes."""
    sets = min(64, max(1, _ROTATED // sum(entry["bytes"] for _, entry in parts)))
    calls, results = [], None
    alive = []  # a pointer does not keep what it points to
    for function, entry in parts:
        arrays = random_arrays(parse_spec(entry["descriptor"]), entry["arguments"], "normal", seed)
        output = entry["arguments"][-1]
        weights, _ = operands(entry["arguments"], function.placed(arrays))
        _, inputs = operands(entry["arguments"], arrays)
        bound = function.bind(*weights)
        images = results or [tvmconv.to_gpu(inputs[0]) for _ in range(sets)]
        others = [[tvmconv.to_gpu(a) for a in inputs[1:]] for _ in range(sets)]
        zeros = np.zeros(output["shape"], numpy_dtype(output["dtype"]))
        results = [tvmconv.to_gpu(zeros) for _ in range(sets)]
        # The C function itself: what Python adds to a call is not the kernel's.
        packed = bound._packed._pointer
        calls.append((function._entry, [
            (x._pointer, packed, *(a._pointer for a in more), y._pointer, None)
            for x, more, y in zip(images, others, results, strict=True)]))  # fmt: skip
        alive += [bound, images, others]

    def call(i: int) -> None:
        for entry_point, pointers in calls:
            entry_point(*pointers[i % sets])

    with driver().on(0):
        return clock.seconds(call)


def torch_times(clock: Clock, descriptor: str) -> dict[str, float]:
    """cuDNN through torch, in its better layout; with an epilogue, its kernels apart. Of integers, cuBLAS."""
    import torch
    import torch.nn.functional as F

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    spec = parse_spec(descriptor)
    n, h, w, c = spec.input_shape
    if spec.dtype == "int8":  # which cuDNN has no convolution of in torch: a pointwise one is a product
        a = torch.randint(-9, 9, (n * h * w, c), dtype=torch.int8, device="cuda")
        b = torch.randint(-9, 9, (spec.out_channels, c), dtype=torch.int8, device="cuda").t()
        return {"int_mm": clock.seconds(lambda i: torch._int_mm(a, b))}
    found = {}
    for memory in (torch.channels_last, torch.contiguous_format):
        kind = {"device": "cuda", "dtype": getattr(torch, spec.dtype)}
        x = torch.randn(n, c, h, w, **kind).to(memory_format=memory)
        shape = (spec.out_channels, c // spec.groups, *spec.kernel)
        weight = torch.randn(shape, **kind).to(memory_format=memory)
        bias = torch.randn(spec.out_channels, **kind) if spec.bias else None
        sets = min(64, max(1, _ROTATED // (x.numel() * x.element_size() * 2)))
        inputs = [x.clone(memory_format=torch.preserve_format) for _ in range(sets)]
        pad = tuple(lo for lo, _ in spec.padding)

        def call(i: int, inputs=inputs, weight=weight, bias=bias, pad=pad, sets=sets) -> object:
            y = F.conv2d(inputs[i % sets], weight, bias, spec.stride, pad, spec.dilation, spec.groups)
            return F.hardswish(y) if spec.activation else y

        with torch.no_grad():
            found[str(memory).rpartition(".")[2]] = clock.seconds(call)
    return found


def times(clock: Clock, folder: Path, measured: float) -> list[dict[str, Any]]:
    """Each layer of layers.json: this library's time, a naive kernel's, and torch's; or, of a block, that of
    this library's kernels for its parts."""
    ours, naive = tvmconv.load(folder / "layers.so"), tvmconv.load(folder / "naive.so")
    entries = {e["name"]: e for e in ours.manifest["functions"]}
    named = {e["descriptor"]: e["name"] for e in entries.values()}
    try:
        import torch

        with_torch = torch.cuda.is_available()
    except ImportError:
        with_torch = False
    rows = []
    for kind, layers in json.loads((folder / "layers.json").read_text()).items():
        for name, descriptor in layers.items():
            entry = entries[name]
            seconds, spec = timed(clock, (ours[name], entry)), parse_spec(descriptor)
            row = {"kind": kind, "descriptor": descriptor, "strategy": entry["schedule"]["strategy"],
                   "us": seconds * 1e6, "gflops": entry["flops"] / seconds / 1e9,
                   "gbytes_s": entry["bytes"] / seconds / 1e9,
                   "of_bandwidth": entry["bytes"] / seconds / measured}  # fmt: skip
            if name in naive:
                row["naive_us"] = timed(clock, (naive[name], entry)) * 1e6
            if spec.family == "block":
                parts = [named[str(part)] for part in spec.parts().values()]
                row["apart_us"] = timed(clock, *((ours[part], entries[part]) for part in parts)) * 1e6
            elif with_torch:
                row["torch_us"] = {k: s * 1e6 for k, s in torch_times(clock, descriptor).items()}
            rows.append(row)
            print(f"{row['us']:9.1f} us {row['of_bandwidth']:5.0%} {descriptor}", file=sys.stderr)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric means over each kind: of the naive kernels' time over ours, of torch's better one, and of a
    block's parts."""
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        ratios = {
            "naive": [row["naive_us"] / row["us"] for row in mine if "naive_us" in row],
            "apart": [row["apart_us"] / row["us"] for row in mine if "apart_us" in row],
            "torch": [min(row["torch_us"].values()) / row["us"] for row in mine if "torch_us" in row],
        }
        found[kind] = {f"{name}_over_ours": math.exp(statistics.fmean(map(math.log, values)))
                       for name, values in ratios.items() if values}  # fmt: skip
    return found


def machine() -> dict[str, Any]:
    """The GPU, its driver, and what else is there."""
    cuda, lib = driver(), ctypes.CDLL("libcuda.so.1")
    name, version = ctypes.create_string_buffer(256), ctypes.c_int()
    lib.cuDeviceGetName(name, 256, 0)
    lib.cuDriverGetVersion(ctypes.byref(version))
    torch = sys.modules.get("torch")
    return {"gpu": name.value.decode(), "compute_capability": cuda.capability(0) / 10,
            "driver_cuda": version.value / 1000, "python": platform.python_version(),
            "numpy": np.__version__, "torch": getattr(torch, "__version__", None),
            "tvmconv": tvmconv.load(HERE / "kinds.so").manifest["tvmconv"]}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--only-checks", action="store_true", help="no times, and no file")
    arguments = parser.parse_args()
    checks = check(HERE / "kinds.so")
    failed = [row for row in checks if not row["ok"]]
    print(f"{len(checks)} checks, {len(failed)} failed", file=sys.stderr)
    if not arguments.only_checks:
        with driver().on(0):
            clock = Clock()
            measured = bandwidth(clock)
            rows = times(clock, HERE, measured)
        report = {"machine": machine(), "copy_gbytes_s": measured / 1e9, "checks": checks, "times": rows,
                  "summary": summary(rows)}  # fmt: skip
        arguments.out.write_text(json.dumps(report, indent=1))
        print(json.dumps(report["summary"], indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
