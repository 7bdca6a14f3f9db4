"""Make the folder that scripts/gpu_check.sh runs on a machine with a GPU: libraries, the runtime, the checks.

Usage: python scripts/gpu_pack.py FOLDER [--target cuda-sm_80,cuda-sm_90]

The machine with the GPU needs a driver, Python 3.10 and numpy; no compiler and no internet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.codegen.kernel import build_kernel
from tvmconv.compiler.compile import default_name
from tvmconv.formats.choice import Choice
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring.carried import carry

HERE = Path(__file__).parent
TARGET = "cuda-sm_75,cuda-sm_80,cuda-sm_86,cuda-sm_89,cuda-sm_90"
# What is timed: a kind, and layers; {n} is the batch.
DEPTHWISE = [
    f"conv2d:{{n}}x{size}x{size}x{c}:o{c}:k3x3:s{stride}:p{dilation}:d{dilation}:g{c}:NHWC:float32"
    for size, c, stride, dilation in (
        (112, 32, 1, 1), (112, 64, 2, 1), (56, 128, 1, 1), (56, 128, 2, 1), (28, 256, 1, 1), (28, 256, 2, 1),
        (14, 512, 1, 1), (14, 512, 2, 1), (7, 1024, 1, 1), (56, 128, 1, 2), (28, 256, 1, 4),
    )
]  # fmt: skip
POINTWISE = [
    f"conv2d:{{n}}x{size}x{size}x{c}:o{o}:k1x1:NHWC:{{dtype}}"
    for size, c, o in ((112, 32, 64), (56, 128, 128), (28, 256, 256), (14, 512, 512), (7, 1024, 1024))
]
DENSE = [
    f"conv2d:{{n}}x{size}x{size}x{c}:o{c}:k3x3:p1:NHWC:float16"
    for size, c in ((56, 64), (28, 128), (14, 256), (7, 512))
]
GROUPED = [
    f"conv2d:{{n}}x{size}x{size}x{c}:o{c}:k3x3:p1:g{g}:NHWC:float32"
    for size, c, g in ((56, 128, 32), (28, 256, 32), (14, 512, 32), (56, 128, 4), (28, 256, 8))
]
BLOCKS = [
    f"block2d:{{n}}x{size}x{size}x{c}:e{e}:k3x3:s{stride}:p1:o{o}:NHWC:{{dtype}}:bias:expand=relu6:depthwise=relu6"
    for size, c, e, stride, o in (
        (112, 16, 96, 2, 24), (56, 24, 144, 1, 24), (28, 32, 192, 1, 32), (14, 64, 384, 1, 64),
        (14, 96, 576, 1, 96), (7, 160, 960, 1, 160),
    )
] + [
    f"block2d:{{n}}x{size}x{size}x{c}:k3x3:p1:o{o}:NHWC:{{dtype}}:bias:depthwise=relu6:relu6"
    for size, c, o in ((112, 32, 64), (56, 128, 128), (14, 512, 512))
]  # fmt: skip
TENSOR = {"float16": "fp16", "bfloat16": "bf16", "int8/int32": "int8"}  # types of tensor cores
_WITH_NAIVE = ("depthwise", "pointwise", "grouped", *(f"pointwise {name}" for name in TENSOR.values()))
FUSED = ":bias:hard_swish"


def layers() -> dict[str, dict[str, str]]:
    """Descriptors to time, by kind and name."""
    tensor = {f"pointwise {name}": dtype for dtype, name in TENSOR.items()}
    names = ("depthwise", "pointwise", *tensor, "dense fp16", "grouped", "blocks", "blocks fp16")
    kinds: dict[str, list[str]] = {name: [] for name in names}
    for n in (1, 32):
        kinds["depthwise"] += [text.format(n=n) for text in DEPTHWISE]
        kinds["pointwise"] += [text.format(n=n, dtype="float32") for text in POINTWISE]
        for name, dtype in tensor.items():
            kinds[name] += [text.format(n=n, dtype=dtype) for text in POINTWISE]
        kinds["dense fp16"] += [text.format(n=n) for text in DENSE]
        kinds["blocks"] += [text.format(n=n, dtype="float32") for text in BLOCKS]
        kinds["blocks fp16"] += [text.format(n=n, dtype="float16") for text in BLOCKS]
        kinds["grouped"] += [text.format(n=n) for text in GROUPED]
    kinds["fused epilogue"] = [text + FUSED for text in (*kinds["depthwise"], *kinds["pointwise"])]
    return {kind: {default_name(parse_spec(text)): text for text in texts} for kind, texts in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default=TARGET)
    arguments = parser.parse_args()
    kinds = (HERE / "gpu_kinds.txt").read_text().splitlines()
    checked = [line for line in kinds if line and not line.startswith("#")]
    pack(arguments.folder, arguments.target, checked, layers())
    print(f"{arguments.folder}: copy it to the machine with the GPU, and run gpu_check.sh there")


def pack(folder: Path, target: str, checked: list[str], timed: dict[str, dict[str, str]]) -> None:
    """Make the folder, with the kinds to check and the layers to time."""
    folder.mkdir(parents=True)
    tvmconv.compile(checked, target, progress=show).export(folder / "kinds.so")
    named = {name: text for kind in timed.values() for name, text in kind.items()}
    blocks = [spec for spec in map(parse_spec, named.values()) if spec.family == "block"]
    parts = {str(part): default_name(part) for block in blocks for part in block.parts().values()}
    named |= {name: text for text, name in parts.items() if text not in named.values()}
    tvmconv.compile(named, target, progress=show).export(folder / "layers.so")
    plain = {name: text for kind in _WITH_NAIVE for name, text in timed.get(kind, {}).items()}
    naive(plain, target).export(folder / "naive.so")
    (folder / "layers.json").write_text(json.dumps(timed, indent=1))
    for file in ("gpu_check.py", "gpu_check.sh"):
        shutil.copy2(HERE / file, folder)
    carry(folder)


def show(done: int, total: int, text: str) -> None:
    """Progress, one line a kernel: there are hundreds, some of several seconds."""
    print(f"[{done}/{total}] {text}", file=sys.stderr, flush=True)


def naive(named: dict[str, str], target: str) -> Library:
    """One thread per output, nothing shared: the kernel that anybody would write first."""
    machine = resolve(target)
    choice = Choice("direct", {"channels": 1, "width": 1})
    kernels = {}
    for name, text in named.items():
        kernels[name] = build_kernel(parse_spec(text), machine, choice, f"naive_{name}")
        show(len(kernels), len(named), f"{text}, naively")
    return Library(kernels, machine)


if __name__ == "__main__":
    main()
