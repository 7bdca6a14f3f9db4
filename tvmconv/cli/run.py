"""`tvmconv run`: call functions of a library on random or given data, and time them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.cli import console
from tvmconv.errors import Error

if TYPE_CHECKING:
    import numpy as np

HELP = """Run functions of a library and time them, on random data or on your own.

\b
Examples:
  tvmconv run conv.so
  tvmconv run conv.so dw --repeat 1000
  tvmconv run conv.so dw --input x.npy --weights w.npy --bias b.npy --out y.npy

Arrays that are not given are random (standard normal, --seed). Times are of a bound call, weights prepacked
and output allocated beforehand: the median and the fastest of --repeat calls.
"""

_TARGET_SECONDS = 0.3
"""How long to repeat a function when --repeat does not say."""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("run", help=HELP, short_help="Run a library's functions and time them.")(run)


def _array(name: str, text: str) -> Any:
    return typer.Option(name, metavar="FILE", help=text, show_default=False)


def run(
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", help="A library that tvmconv compiled.")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A function (default: all).", show_default=False)
    ] = None,
    input_: Annotated[Path | None, _array("--input", "x, a .npy file.")] = None,
    weights: Annotated[Path | None, _array("--weights", "w, a .npy file.")] = None,
    bias: Annotated[Path | None, _array("--bias", "bias, a .npy file.")] = None,
    out: Annotated[Path | None, _array("--out", "Write y to this .npy file.")] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            "--repeat",
            "-n",
            metavar="N",
            min=1,
            max=10_000_000,
            show_default=False,
            help="Calls to time (default: as many as take 0.3 s).",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Threads to use.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Seed of the random data.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """See HELP."""
    import tvmconv

    module = tvmconv.load(library)
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    files = {key: path for key, path in (("x", input_), ("w", weights), ("bias", bias)) if path is not None}
    if name is None:
        if len(entries) > 1 and (files or out):
            raise Error(
                f"{library}: has {len(entries)} functions; expected NAME, one of {', '.join(entries)}"
            )
        chosen = list(entries.values())
    else:
        module[name]  # raises an error that lists the names
        chosen = [entries[name]]
    if threads is not None:
        tvmconv.set_num_threads(threads)
    rows = []
    for entry in chosen:
        result, row = _run_one(module[entry["name"]], entry, files, seed, repeat)
        rows.append(row)
        if out is not None:
            _save(out, result)
    if as_json:
        console.print_json({"library": str(library), "functions": rows})
    else:
        _print(rows)


def _run_one(
    function: Any, entry: dict[str, Any], files: dict[str, Path], seed: int, repeat: int | None
) -> tuple[np.ndarray, dict[str, Any]]:
    import numpy as np

    from tvmconv.runtime.arrays import aligned
    from tvmconv.verify import operands

    *arguments, output = entry["arguments"]
    unknown = set(files) - {argument["name"] for argument in arguments}
    if unknown:
        takes = ", ".join(argument["name"] for argument in arguments)
        raise Error(f"function {entry['name']} takes {takes}: no {', '.join(sorted(unknown))}")
    rng = np.random.default_rng(seed)
    arrays = {
        argument["name"]: _load(path) if (path := files.get(argument["name"])) else _random(rng, argument)
        for argument in arguments
    }
    y = aligned(np.empty(output["shape"], output["dtype"]))
    if hasattr(function, "placed"):
        y, times = _on_gpu(function, arguments, {**arrays, output["name"]: y}, output["name"], repeat)
    else:
        weights, inputs = operands(arguments, arrays)
        bound = function.bind(*weights)
        inputs = [aligned(array) for array in inputs]  # as a layer before would leave them
        times = measure(lambda: bound(*inputs, out=y), repeat)
    median = float(np.median(times))
    row = {
        "name": entry["name"],
        "descriptor": entry["descriptor"],
        "shapes": {argument["name"]: list(argument["shape"]) for argument in entry["arguments"]},
        "microseconds": median * 1e6,
        "microseconds_min": min(times) * 1e6,
        "gflops": entry["flops"] / median / 1e9,
        "repeat": len(times),
    }
    return y, row


def _on_gpu(
    function: Any, arguments: Sequence[dict[str, Any]], arrays: dict[str, np.ndarray], result: str,
    repeat: int | None,
) -> tuple[np.ndarray, Sequence[float]]:  # fmt: skip
    """The result, and seconds of each call by the GPU's own clock."""
    from tvmconv.runtime.gpu_clock import Clock
    from tvmconv.runtime.gpu_driver import driver
    from tvmconv.verify import operands

    placed = function.placed(arrays)
    weights, inputs = operands(arguments, placed)
    bound, y = function.bind(*weights), placed[result]
    with driver().on(y.device):
        clock = Clock()
        bound(*inputs, out=y)
        times = [clock.round(lambda _: bound(*inputs, out=y), 1) for _ in range(repeat or 100)]
    return y.numpy(), times


def measure(call: Callable[[], object], repeat: int | None = None) -> Sequence[float]:
    """Seconds of each of `repeat` calls (None: as many as fit in 0.3 s, 3 to 10000) after a warm-up."""
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if repeat is None:
        repeat = int(min(10_000, max(3, _TARGET_SECONDS / max(once, 1e-9))))
    times = array("d")
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _random(rng: np.random.Generator, argument: dict[str, Any]) -> np.ndarray:
    import numpy as np

    dtype = np.dtype(argument["dtype"])
    if dtype.kind in "iu":
        return rng.integers(-8 if dtype.kind == "i" else 0, 9, argument["shape"]).astype(dtype)
    return rng.standard_normal(argument["shape"]).astype(dtype)


def _load(path: Path) -> np.ndarray:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise Error(f"{path}: not an array; expected a .npy file") from None
    if not isinstance(loaded, np.ndarray):
        raise Error(f"{path}: holds several arrays; expected a .npy file")
    return loaded


def _save(path: Path, array: np.ndarray) -> None:
    import numpy as np

    with path.open("wb") as file:  # np.save would add ".npy" to a name without it
        np.save(file, array)


def _print(rows: list[dict[str, Any]]) -> None:
    columns = ("function", "shapes", "µs", "min µs", "GFLOP/s", "calls")
    cells = [
        (
            row["name"],
            ", ".join(f"{name} {console.shape(dims)}" for name, dims in row["shapes"].items()),
            f"{row['microseconds']:.1f}",
            f"{row['microseconds_min']:.1f}",
            f"{row['gflops']:.2f}",
            row["repeat"],
        )
        for row in rows
    ]
    console.print_table(columns, cells, right=columns[2:])
