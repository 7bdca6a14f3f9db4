"""`tvmconv run`: call functions of a library on random or given data, and time them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import console, given
from tvmconv.cli import steps as step_times
from tvmconv.cli.options import AsJson, Functions, Library, Seed, Threads
from tvmconv.cli.outputs import check_file

if TYPE_CHECKING:
    import numpy as np

HELP = """Run functions of a library and time them, on your own data or on random ones.

\b
Examples:
  tvmconv run conv.so
  tvmconv run conv.so dw --rounds 1000
  tvmconv run conv.so dw --input x.npy --input w=w.npy --input bias=b.npy -o y.npy
  tvmconv run conv.so add --input x=x.npy --input residual=r.npy --input w=w.npy
  tvmconv run int8.so q --input x.npy --input w=w.npy --input x_scale=0.05 --input x_zero_point=3
  tvmconv run baked.so stem --input x.npy -o y.npy
  tvmconv run model.so --threads 2
  tvmconv run model.so --time --steps

'tvmconv inspect LIBRARY NAME' shows a function's arguments. Weights that the library holds are used unless
others are given. All else that is not given is random (--seed), and the result says what was. Times are of a
bound call, weights prepacked and output allocated beforehand: the median and the fastest of --rounds calls;
--no-time makes one call. --steps adds a table of what each step of a whole network takes, with the model's
nodes that it comes from, the share of the least time by the machine's measured roofline (see bench), and the
total.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("run", help=HELP, short_help="Run a library's functions and time them.")(run)


def run(
    library: Library,
    names: Functions = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="[NAME=]FILE",
            show_default=False,
            help="An argument (alone: x), a .npy file; a number will do for a scale or a zero point.",
        ),
    ] = None,
    timed: Annotated[bool, typer.Option("--time/--no-time", help="Time calls, or make one.")] = True,
    steps: Annotated[bool, typer.Option("--steps", help="Time each step of a whole network.")] = False,
    threads: Threads = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            "-n",
            metavar="N",
            min=1,
            max=10_000_000,
            show_default=False,
            help="Calls to time (default: as many as take 0.3 s).",
        ),
    ] = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False,
                     help="Write y to this .npy file; several results to a .npz file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    from tvmconv.runtime import load, set_num_threads

    module = load(library)
    texts = inputs or []
    chosen = given.functions_of(library, module.manifest, names)
    if len(chosen) > 1 and (texts or output):
        what = ", ".join(entry["name"] for entry in chosen)
        raise Error(f"{library}: expected NAME, of one function, not {len(chosen)}, here one of {what}")
    if output is not None:
        check_file("--output", output)
    if not timed and (steps or rounds):
        raise Error(f"--no-time: expected without {'--steps' if steps else '--rounds'}")
    if steps and (alone := [entry["name"] for entry in chosen if "steps" not in entry]):
        raise Error(f"--steps: {', '.join(alone)} in {library}: single kernels, expected a whole network")
    if threads is not None:
        set_num_threads(threads)
    rows = []
    for entry in chosen:
        result, row, used = _run_one(module[entry["name"]], entry, texts, seed, rounds if timed else 0)
        rows.append(row)
        if steps:
            row["steps"], _ = step_times.timed(module, entry["name"], used, rounds, threads)
        if output is not None:
            _save(output, result)
    if as_json:
        console.print_json({"library": str(library), "functions": rows})
    else:
        _print(rows)
        for row in rows if steps else ():
            print()
            step_times.print_steps(row["name"], row["steps"])


def _run_one(
    function: Any, entry: dict[str, Any], texts: Sequence[str], seed: int, repeat: int | None
) -> tuple[np.ndarray | dict[str, np.ndarray], dict[str, Any], list[np.ndarray]]:
    """The result, by name if there are several; what is reported about it; the inputs. `repeat` of 0: one
    call, not timed."""
    import numpy as np

    from tvmconv.base.dtypes import numpy_dtype
    from tvmconv.frontends.verify import operands
    from tvmconv.runtime.arrays import aligned

    arguments = [a for a in entry["arguments"] if a["role"] != "output"]
    outputs = entry["arguments"][len(arguments) :]
    arrays, invented = _arrays(entry, texts, seed)
    inputs: list[np.ndarray] = []
    made = [aligned(np.empty(a["shape"], numpy_dtype(a["dtype"]))) for a in outputs]
    y, output = made[0], outputs[0]
    if "steps" in entry:
        inputs = [aligned(arrays[a["name"]]) for a in arguments]
        times = _each_timed(function.on(*inputs, out=made), repeat)
    elif hasattr(function, "placed"):
        y, times = _on_gpu(function, arguments, {**arrays, output["name"]: y}, output["name"], repeat)
    else:
        weights, inputs = operands(arguments, arrays)
        bound = function.bind(*weights)
        inputs = [aligned(array) for array in inputs]  # in memory as a preceding layer would leave them
        times = _each_timed(lambda: bound(*inputs, out=y), repeat)
    row = {
        "name": entry["name"],
        "descriptor": entry["descriptor"],
        "random": invented,
        "shapes": {argument["name"]: list(argument["shape"]) for argument in entry["arguments"]},
    }
    if times:
        median = float(np.median(times))
        row["microseconds"], row["microseconds_min"] = median * 1e6, min(times) * 1e6
        row["gflops"], row["repeat"] = entry["flops"] / median / 1e9, len(times)
    several = {a["name"]: array for a, array in zip(outputs, made, strict=True)}
    return several if len(made) > 1 else y, row, inputs


def _each_timed(call: Callable[[], Any], repeat: int | None) -> Sequence[float]:
    """Seconds of each of `repeat` calls; none of 0, which make one."""
    from tvmconv.base.clock import each_timed

    if repeat == 0:
        call()
        return ()
    return each_timed(call, repeat)


def _on_gpu(
    function: Any, arguments: Sequence[dict[str, Any]], arrays: dict[str, np.ndarray], result: str,
    repeat: int | None,
) -> tuple[np.ndarray, Sequence[float]]:  # fmt: skip
    """The result, and seconds of each call by the GPU's own clock."""
    from tvmconv.frontends.verify import operands
    from tvmconv.runtime.gpu.driver import driver
    from tvmconv.tuning.measuring.gpu_clock import Clock

    placed = function.placed(arrays)
    weights, inputs = operands(arguments, placed)
    bound, y = function.bind(*weights), placed[result]
    with driver().on(y.device):
        clock = Clock()
        bound(*inputs, out=y)
        times = [clock.round(lambda _: bound(*inputs, out=y), 1)
                 for _ in range(100 if repeat is None else repeat)]  # fmt: skip
    return y.numpy(), times


def _arrays(
    entry: dict[str, Any], texts: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays by argument, and the names of those neither given nor in the library."""
    from tvmconv.cli import arrays
    from tvmconv.frontends.verify import random_arrays
    from tvmconv.specs.kinds import parse_spec

    wanted = {a["name"]: a for a in entry["arguments"] if a["role"] != "output"}
    first = next(iter(wanted)) if "steps" in entry else "x"
    texts_of = arrays.named(texts, first, list(wanted), f"function {entry['name']}: --input")
    given = {name: arrays.argument(wanted[name], text) for name, text in texts_of.items()}
    weights = {name for name, argument in wanted.items() if argument["role"] == "weight"}
    if entry.get("baked") and not weights & set(given):
        wanted = {name: argument for name, argument in wanted.items() if name not in weights}
    invented = [name for name in wanted if name not in given]
    if "steps" in entry:
        given.update(_random([wanted[name] for name in invented], seed))
    elif invented:
        spec = parse_spec(entry["descriptor"])
        made = random_arrays(spec, entry["arguments"], "normal", seed)
        given.update((name, made[name]) for name in invented)
    return given, invented


def random_inputs(entry: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for a network's function, by argument."""
    return _random([a for a in entry["arguments"] if a["role"] != "output"], seed)


def _random(arguments: Sequence[dict[str, Any]], seed: int) -> dict[str, np.ndarray]:
    """Arrays for a network: standard normal numbers, any number of 8 bits, ones for other integers, which may
    be sizes."""
    import numpy as np

    from tvmconv.base.dtypes import BYTES, FLOATS, numpy_dtype, rounded

    rng, made = np.random.default_rng(seed), {}
    for a in arguments:
        name, shape, dtype = a["name"], tuple(a["shape"]), a["dtype"]
        if dtype in FLOATS:
            made[name] = rounded(np.asarray(rng.standard_normal(shape)), dtype)
        elif dtype in BYTES:
            made[name] = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        else:
            made[name] = np.ones(shape, numpy_dtype(dtype))
    return made


def _save(path: Path, result: np.ndarray | dict[str, np.ndarray]) -> None:
    import numpy as np

    with path.open("wb") as file:  # np.save would add ".npy" to a name without it
        if isinstance(result, dict):
            np.savez(file, **result)  # type: ignore[arg-type]
        else:
            np.save(file, result)


def _print(rows: list[dict[str, Any]]) -> None:
    columns = ("function", "shapes", "µs", "min µs", "GFLOP/s", "calls")
    columns = columns if "repeat" in rows[0] else columns[:2]
    cells = [
        (
            row["name"],
            ", ".join(f"{name} {console.shape(dims)}" for name, dims in row["shapes"].items()),
            *(() if "repeat" not in row else (
                f"{row['microseconds']:.1f}",
                f"{row['microseconds_min']:.1f}",
                f"{row['gflops']:.2f}",
                row["repeat"],
            )),
        )
        for row in rows
    ]
    console.print_table(columns, cells, right=columns[2:])
    invented = [f"{row['name']} {', '.join(row['random'])}" for row in rows if row["random"]]
    if invented:
        print(f"random numbers stood in for: {'; '.join(invented)}")
