"""Random networks of concatenations, splits, shuffles, residuals, resizes, poolings and arithmetic, each run
in NumPy in the memory that is planned for it and, compiled, several in a library; both beside onnxruntime.

    python scripts/random_networks.py [--count 300] [--seed 1] [--target native] [--no-compile]

A network that disagrees is written to the folder of --keep as an ONNX model. The last line has the counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from random_checks import check_compiled, check_in_numpy, drawn

TOGETHER = 10  # networks of a library


def agrees(check: Callable[[], object], cases: list[tuple[Any, str]], keep: Path, what: str) -> bool:
    """Whether a check passes; if not, it is reported and its networks are kept."""
    try:
        check()
    except Exception as error:
        keep.mkdir(parents=True, exist_ok=True)
        paths = []
        for proto, door in cases:
            number = len(list(keep.glob("*.onnx"))) + 1
            paths.append(keep / f"random_{number}_{door.lower()}.onnx")
            onnx.save(proto, paths[-1])
        text = " ".join(str(error).split())
        text = text if len(text) < 400 else f"{text[:200]} ... {text[-200:]}"
        print(f"{what}: {type(error).__name__}: {text}; {', '.join(map(str, paths))}", flush=True)
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1, help="which ones: each number has its own")
    parser.add_argument("--target", default="native", help="what to compile for; it has to run here")
    parser.add_argument("--no-compile", action="store_true", help="in NumPy alone")
    parser.add_argument("--keep", type=Path, default=Path("build-random"), metavar="DIR")
    options = parser.parse_args()
    cases = drawn(options.count, options.seed)
    fine = [agrees(lambda one=one: check_in_numpy(*one), [one], options.keep, "in NumPy") for one in cases]
    print(f"{sum(fine)} of {len(cases)} networks agree with onnxruntime in NumPy", flush=True)
    compiled = steps = 0
    for start in range(0, 0 if options.no_compile else len(cases), TOGETHER):
        part, made = cases[start : start + TOGETHER], []
        check = lambda part=part, made=made: made.append(check_compiled(part, options.target))  # noqa: E731
        if agrees(check, part, options.keep, "compiled"):
            compiled, steps = compiled + len(part), steps + sum(made)
        print(f"compiled {start + len(part)}/{len(cases)}", end="\r", file=sys.stderr, flush=True)
    if not options.no_compile:
        print(f"{compiled} of {len(cases)} compiled agree, of {steps} steps in all")
    sys.exit(0 if all(fine) and (options.no_compile or compiled == len(cases)) else 1)


if __name__ == "__main__":
    main()
