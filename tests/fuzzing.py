"""A fuzzer: for each target, cases drawn by a seed, and what a case may end in. ``tests/test_fuzz.py`` runs it in
a child process, which a crash ends.

A case is a JSON value. ``DRAW[target](rng)`` makes one, ``RUN[target](case)`` runs it: it returns, or raises an
error of tvmconv's of one line, or what is said beside it. Everything else is a failure.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import tvmconv
from tvmconv.errors import Error
from tvmconv.specs import parse_spec

Rng = random.Random
_MEMORY = 12 << 30  # of address space, of which TVM's libraries take some
_LETTERS = "0123456789xkspdgo:+=,.-_ \n\x1b\x00é€NHWCfloatrelu"


# --- Random text, bytes, JSON ---------------------------------------------------------------------------------


def _text(rng: Rng, text: str) -> str:
    """``text`` with a few changes."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(7):
            case 0:
                text = text[:at] + rng.choice(_LETTERS) + text[at:]
            case 1:
                text = text[:at] + text[at + 1 :]
            case 2:
                text = text[:at] + text[at:end] * rng.choice([2, 2, 40]) + text[end:]
            case 3:
                text = text[:at] + str(rng.choice(_NUMBERS)) + text[at + 1 :]
            case 4:
                tokens = text.split(":")
                rng.shuffle(tokens)
                text = ":".join(tokens)
            case 5:
                text = text[:at] + text[end:]
            case 6:
                text = text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
    return text


_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    10**30,
    -(2**31),
    0.5,
    "nan",
    "1e9",
)


def _bytes(rng: Rng, data: bytes) -> bytes:
    """``data`` with a few changes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.7 else min(len(out), rng.randrange(512))
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at:]
            case 2:
                out[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 300])))
            case 3:
                out[at : at + 8] = rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
            case 4 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 5:
                del out[at : at + rng.choice([1, 8, 300])]
    return bytes(out)


_VALUES = (None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "a", "x" * 5000,
           "a\nb", "\x1b[2J", [], [[]], {}, {"a": 1}, [0], [None], ["a"])  # fmt: skip


def _json(rng: Rng, value: Any) -> Any:
    """``value`` with one part of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, rng.choice(["z", "", "a\nb", _text(rng, key)]): value[key]}
            case _:
                return {**value, key: _json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] + value[at:]
            case _:
                return [*value[:at], _json(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.5:
        return _text(rng, value)
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice([-1, 1, 16, 1 << 31])
    return rng.choice(_VALUES)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- Descriptors ----------------------------------------------------------------------------------------------


_DESCRIPTORS = (
    "conv2d:1x112x112x32:o64:k3x3:s2:p1:NHWC:float32:bias:relu6", "conv1d:2x3x40:o8:k5:d2:pFULL:NCW:float16:gelu",
    "conv3d:1x4x5x6x7:o4:k3x3x3:p1x0x2:g2:NCDHW:float64:bias:residual:prelu", "conv2d:1x8x9x9:o8:k3x3:winograd",
    "tconv2d:1x9x9x16:o32:k4x4:s2:p1:op1:NHWC:uint8/int8:bias:residual:clip=-1,2.5", "conv2d:1x8x9x9:o8:k1x1:sh2",
    "maxpool2d:1x56x56x64:k3x3:s2:p1:ceil:NHWC:float32", "avgpool1d:1x3x9:k3:countpad:NCW:bfloat16",
    "deform2d:1x64x28x28:o64:k3x3:p1:og2:mask:bias:NCHW:float32", "conv2d:1x9x9x8:o8:k3x3:p0+1x2+0:NHWC:int8/int32",
)  # fmt: skip


def _draw_descriptor(rng: Rng) -> Any:
    return _text(rng, rng.choice(_DESCRIPTORS))


def _run_descriptor(text: str) -> None:
    spec = parse_spec(text)
    assert parse_spec(str(spec)) == spec, f"{text!r} is {spec}, which is read as {parse_spec(str(spec))}"
    assert str(spec).isprintable() and spec.flops >= 0 and spec.bytes >= 0


# --- Specs: compiled, and run between guard pages against the reference ----------------------------------------


def _draw_specs(rng: Rng) -> Any:
    return [_random_spec(rng) for _ in range(3)]


def _random_spec(rng: Rng) -> str:
    while True:
        text = _candidate(rng)
        try:
            spec = parse_spec(text)
        except Error:
            continue
        sizes = [
            np.prod(shape)
            for shape in (spec.input_shape, spec.output_shape, getattr(spec, "weight_shape", ()))
        ]
        if max(sizes) <= 40_000:
            return str(spec)


def _candidate(rng: Rng) -> str:
    kind = rng.choice(["conv", "conv", "conv", "tconv", "maxpool", "avgpool", "deform"])
    rank = 2 if kind == "deform" else rng.choice([1, 2, 2, 2, 3])
    pick = rng.choice
    last = kind != "deform" and rng.random() < 0.5
    groups = pick([1, 1, 2, 3, 8, 17])
    channels = groups * pick([1, 1, 2, 3, 4, 5, 8, 16, 17, 33])
    spatial = [pick([1, 2, 3, 5, 7, 8, 13, 16, 31]) for _ in range(rank)]
    x = [pick([0, 1, 1, 1, 2, 3]), *([*spatial, channels] if last else [channels, *spatial])]
    words = [f"{kind}{rank}d", "x".join(map(str, x))]
    per_dim = lambda values: "x".join(str(pick(values)) for _ in range(rank))  # noqa: E731
    if kind in ("conv", "tconv", "deform"):
        words.append(f"o{groups * pick([1, 1, 2, 3, 8, 13])}")
    words += [f"k{per_dim([1, 2, 3, 3, 4, 5, 7])}", f"s{per_dim([1, 1, 2, 3])}", f"d{per_dim([1, 1, 2, 3])}"]
    words.append(pick(["p0", "p1", "pSAME", f"p{per_dim(['0+1', '2+0', '1+1', '3+2'])}"]))
    if kind in ("conv", "tconv"):
        words += [
            f"g{groups}",
            *pick([[], [], [], [pick(["direct", "im2col", "winograd"])], ["op1"], ["sh2"]]),
        ]
        words.append(pick(["float32"] * 5 + ["float64", "float16", "bfloat16", "int8/int32", "uint8/int32", "int8",
                                             "uint8", "uint8/int8"]))  # fmt: skip
        words += [w for w in ("bias", "residual") if rng.random() < 0.4]
        words += pick([[], ["relu"], ["relu6"], ["clip=-1,2.5"], ["gelu"], ["tanh"], ["prelu"], ["hard_swish"],
                       ["leaky_relu=0.2"]])  # fmt: skip
    elif kind == "deform":
        words += [f"og{pick([1, 2])}", *[w for w in ("mask", "bias") if rng.random() < 0.5]]
    else:
        words += [*[w for w in ("ceil", "countpad") if rng.random() < 0.3],
                  pick(["float32", "float32", "float16", "bfloat16", "float64", "int8"])]  # fmt: skip
    return ":".join([*words, "NHWC" if last else "NCHW"])


def _run_specs(descriptors: list[str]) -> None:
    from guarded_libraries import verify_guarded

    with tempfile.TemporaryDirectory() as folder:
        path = tvmconv.compile(list(dict.fromkeys(descriptors))).export(Path(folder, "fuzzed.so"))
        with contextlib.redirect_stdout(io.StringIO()):
            verify_guarded(str(path))


# --- Arrays: of any shape, type and layout, for functions that are there ------------------------------------------


_FUNCTIONS = {
    "dw": "conv2d:1x9x11x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6", "half": "conv1d:1x3x9:o4:k3:NCW:float16",
    "quantised": "conv2d:1x5x5x8:o8:k3x3:NHWC:int8:bias", "pool": "maxpool2d:1x6x6x8:k2x2:NHWC:float32",
}  # fmt: skip
_DTYPES = ("float32", "float32", "float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool", "complex64",
           "object", ">f4", "U3", "S2", "datetime64[s]", [["a", "f4"]])  # fmt: skip


@lru_cache(maxsize=1)
def _module() -> tvmconv.Module:
    return tvmconv.compile(_FUNCTIONS).load()


def _draw_arrays(rng: Rng) -> Any:
    name = rng.choice(sorted(_FUNCTIONS))
    module = _module()
    arguments = [_draw_array(rng, a.shape, a.dtype) for a in module[name].arguments]
    if rng.random() < 0.1:
        del arguments[rng.randrange(len(arguments))]
    return {"function": name, "arguments": arguments[:-1], "out": rng.choice([None, arguments[-1]]),
            "bind": rng.random() < 0.5}  # fmt: skip


def _draw_array(rng: Rng, shape: tuple[int, ...], dtype: str) -> Any:
    if rng.random() < 0.06:
        return {"value": rng.choice([None, 0, 1.5, "x", [], [[1.0]], {"a": 1}, True])}
    facts: dict[str, Any] = {"shape": list(shape), "dtype": dtype}
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        match rng.randrange(6):
            case 0 if shape:
                facts["shape"][rng.randrange(len(facts["shape"]))] = rng.choice([0, 1, 2, 9, 24, 25])
            case 1:
                facts["shape"] = facts["shape"] + [1] if rng.random() < 0.5 else facts["shape"][1:] or [1]
            case 2:
                facts["dtype"] = rng.choice(_DTYPES)
            case 3:
                facts["how"] = rng.choice(["readonly", "fortran", "reversed", "strided", "broadcast", "offset1", "masked",
                                           "subclass", "memoryview", "list", "nan"])  # fmt: skip
            case 4:
                facts["shape"] = facts["shape"][::-1]
            case 5:
                facts["same"] = True  # as the first argument's memory
    return facts


def _array(facts: dict[str, Any], first: Any = None) -> Any:
    if "value" in facts:
        return facts["value"]
    shape, dtype = tuple(facts["shape"] or (1,)), facts["dtype"]
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    dtype = np.dtype([tuple(field) for field in dtype] if isinstance(dtype, list) else dtype)
    if (
        facts.get("same")
        and isinstance(first, np.ndarray)
        and first.dtype == dtype
        and first.size >= np.prod(shape)
    ):
        return first.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    a = np.zeros(shape, dtype)
    match facts.get("how"):
        case "readonly":
            a.flags.writeable = False
        case "fortran":
            a = np.asfortranarray(a)
        case "reversed":
            a = a[::-1]
        case "strided":
            a = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
        case "broadcast":
            a = np.broadcast_to(np.zeros((1,) * len(shape), dtype), shape)
        case "offset1" if not dtype.hasobject:
            a = np.zeros(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape) if a.nbytes else a
        case "masked":
            a = np.ma.masked_array(a, mask=False)
        case "subclass":
            a = a.view(type("Subclass", (np.ndarray,), {}))
        case "memoryview" if dtype.kind in "fiu" and dtype.isnative:
            a = memoryview(a)
        case "list" if a.size < 100:
            a = a.tolist()
        case "nan" if dtype.kind == "f":
            a += np.nan
    return a


def _run_arrays(case: Any) -> None:
    function = _module()[case["function"]]
    values: list[Any] = []
    for facts in case["arguments"]:
        values.append(_array(facts, values[0] if values else None))
    out = None if case["out"] is None else _array(case["out"], values[0] if values else None)
    if case["bind"]:
        function.bind(*values[1:])(*values[:1], out=out)
    else:
        function(*values, out=out)


# --- Libraries and manifests: damaged, and forged with their digest made anew ---------------------------------------


@lru_cache(maxsize=1)
def _library() -> bytes:
    return _module().path.read_bytes()


def _draw_library(rng: Rng) -> Any:
    return _packed(_bytes(rng, _library()))


def _run_library(case: str) -> None:
    data = base64.b64decode(case)
    if data == _library():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "damaged.so")
        path.write_bytes(data)
        try:
            tvmconv.load(path)
        except Error:
            raise
        raise AssertionError("a library that was changed is loaded")


# --- Logs ---------------------------------------------------------------------------------------------------------


_LAYER = "conv2d:1x9x9x16:o16:k3x3:p1:g16:NHWC:float32"


@lru_cache(maxsize=1)
def _log() -> dict[str, bytes]:
    """Files of a folder of logs with a record of each space."""
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning import folder as folders
    from tvmconv.tuning.database import Database
    from tvmconv.tuning.entries import Entry, write_entry
    from tvmconv.tuning.meta import MetaSpace
    from tvmconv.tuning.space import TuningSpace

    machine, spec = resolve("native"), parse_spec(_LAYER)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        folders.prepare(folder, machine)
        space = TuningSpace(spec, machine)
        meta = MetaSpace(spec, machine, space.default)
        for at, choice in (("", space.default), (":relu", _meta_choice())):
            home = space if not at else meta
            name = Database(folder, home, 1).commit(home.schedule(choice), [1e-5])
            facts = (choice.strategy, choice.point, 1e-5, 2e-5, 4, 1, "c", folders.tvm_version(), "d", name)
            write_entry(folder, _LAYER + at, Entry(*facts))
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@lru_cache(maxsize=1)
def _meta_choice() -> Any:
    """A point of meta_schedule's own space, made by hand."""
    from tvm.s_tir import Schedule

    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.meta import MetaSpace
    from tvmconv.tuning.space import TuningSpace

    machine, spec = resolve("native"), parse_spec(_LAYER)
    space = MetaSpace(spec, machine, TuningSpace(spec, machine).default)
    sch = Schedule(space.module)
    for name in ("pad", "y"):
        block = sch.get_sblock(name)
        loops = sch.get_loops(block)
        inner = sch.split(loops[-1], sch.sample_perfect_tile(loops[-1], 2, 16))
        sch.annotate(inner[0], "pragma_auto_unroll_max_step", 64)
        sch.annotate(block, "meta_schedule.unroll_explicit", sch.sample_categorical([16, 64], [0.5, 0.5]))
        sch.annotate(block, "meta_schedule.parallel", 160)
        sch.vectorize(inner[1])
        sch.parallel(sch.fuse(*loops[:2]))
    return space.choice_of(sch.trace)


def _draw_log(rng: Rng) -> Any:
    log = dict(_log())
    name = rng.choice(sorted(log))
    if rng.random() < 0.3:
        log[name] = _bytes(rng, log[name])
    elif name.startswith("database"):
        lines = [json.loads(line) for line in log[name].splitlines()]
        log[name] = b"".join(json.dumps(line).encode() + b"\n" for line in _json(rng, lines) or [])
    else:
        log[name] = json.dumps(_json(rng, json.loads(log[name]))).encode()
    if rng.random() < 0.1:
        del log[rng.choice(sorted(log))]
    return {name: _packed(data) for name, data in log.items()}


def _run_log(case: dict[str, str]) -> None:
    """Whatever is in a folder, each use of it works or says why not; records that are whole stay."""
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning import folder as folders
    from tvmconv.tuning.database import Database
    from tvmconv.tuning.entries import Entry, write_entry
    from tvmconv.tuning.lookup import Logs
    from tvmconv.tuning.space import TuningSpace
    from tvmconv.tuning.upkeep import merge, prune

    machine, spec = resolve("native"), parse_spec(_LAYER)
    space = TuningSpace(spec, machine)

    def commit(folder: Path) -> None:
        before = len(folders.read_records(folder))
        Database(folder, space, 1).commit(space.schedule(space.default), [1e-5])
        assert len(folders.read_records(folder)) == before + 1

    uses: list[Callable[[Path], Any]] = [
        lambda folder: [Logs(machine, folder).find(parse_spec(_LAYER + at)) for at in ("", ":relu", ":bias")],
        lambda folder: Database(folder, space, 1).known(),
        lambda folder: folders.note_run(folder, {"a": 1}),
        commit,
        lambda folder: write_entry(folder, _LAYER, Entry("s", {}, 1.0, 1.0, 1, 1, "", "", "", "")),
        lambda folder: merge(folder, _fresh(folder.parent / "into", machine)),
        prune,
    ]
    wrong = None
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "log")
        folder.mkdir()
        for name, data in case.items():
            Path(folder, name).write_bytes(base64.b64decode(data))
        for use in uses:
            try:
                use(folder)
            except Error as error:
                wrong = error
    if wrong is not None:
        raise wrong


def _fresh(folder: Path, machine: Any) -> Path:
    from tvmconv.tuning import folder as folders

    folders.prepare(folder, machine)
    return folder


# --- Points of strategies, and traces ------------------------------------------------------------------------------


def _draw_point(rng: Rng) -> Any:
    from tvmconv import codegen
    from tvmconv.schedules.machines import resolve

    target = rng.choice(["native", "x86-64-v2", "cortex-a72", "cuda-sm_80"])
    descriptor = rng.choice([*_SMALL, _random_spec(rng)])
    spaces = codegen.spaces(parse_spec(descriptor), resolve(target))
    if not spaces:
        return {"target": target, "descriptor": descriptor, "strategy": "none", "point": {}}
    strategy = rng.choice(sorted(spaces))
    point = {knob: rng.choice(values) for knob, values in spaces[strategy].items()}
    for knob in point:
        if rng.random() < 0.3:
            point[knob] = rng.choice(
                [0, 1, 2, 3, 5, 7, 16, 63, 64, 1000, 2**31, 2**63, 10**30, "rows", "", point[knob]]
            )
    if rng.random() < 0.1:
        point = _json(rng, point)
    return {"target": target, "descriptor": descriptor, "strategy": strategy, "point": point}


_SMALL = (
    _LAYER, "conv2d:1x14x14x32:o48:k3x3:p1:NHWC:float32:winograd", "conv2d:1x16x14x14:o32:k3x3:p1:NCHW:float32",
    "tconv2d:1x5x6x12:o10:k4x4:s2:p1:NHWC:float32", "conv2d:1x9x8x16:o12:k3x3:p1:NHWC:uint8/int8:bias",
    "maxpool2d:1x12x12x16:k3x3:s2:p1:NHWC:float32", "deform2d:1x8x9x9:o8:k3x3:p1:og2:mask:bias",
)  # fmt: skip


def _run_point(case: Any) -> None:
    from tvmconv import codegen
    from tvmconv.schedules.machines import resolve
    from tvmconv.schedules.plan import Choice

    if not isinstance(case["point"], dict):
        return  # entries.py lets no such point pass
    machine = resolve(case["target"])
    try:
        made = codegen.scheduled(
            parse_spec(case["descriptor"]), machine, Choice(case["strategy"], case["point"])
        )
    except ValueError as error:  # "does not fit", which compile tells in the manifest
        assert "\n" not in str(error), "an error of several lines"
        return
    assert made.kernel is not None


def _draw_trace(rng: Rng) -> Any:
    from tvmconv.schedules.plan import TRACE

    trace = json.loads(_meta_choice().point[TRACE])
    for _ in range(rng.choice([1, 1, 2, 3])):
        trace = _json(rng, trace)
    return trace


def _run_trace(trace: Any) -> None:
    """What the rules let pass TVM replays, or refuses; what they don't is refused by them."""
    from tvmconv import codegen
    from tvmconv.schedules.machines import resolve
    from tvmconv.schedules.plan import META, TRACE, Choice

    choice = Choice(META, {TRACE: json.dumps(trace)})
    try:
        codegen.scheduled(parse_spec(_LAYER), resolve("native"), choice)
    except ValueError as error:
        assert "\n" not in str(error), "an error of several lines"


# --- ONNX models -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _models() -> list[bytes]:
    from onnx_models import small_network

    return [small_network().SerializeToString()]


def _draw_onnx(rng: Rng) -> Any:
    return _packed(_bytes(rng, rng.choice(_models())))


def _run_onnx(case: str) -> None:
    from tvmconv.onnx.extraction import extract

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(base64.b64decode(case))
        extract(path)


DRAW: dict[str, Callable[[Rng], Any]] = {
    "descriptor": _draw_descriptor, "log": _draw_log, "trace": _draw_trace, "point": _draw_point,
    "library": _draw_library, "arrays": _draw_arrays, "onnx": _draw_onnx, "specs": _draw_specs,
}  # fmt: skip
RUN: dict[str, Callable[[Any], None]] = {
    "descriptor": _run_descriptor, "log": _run_log, "trace": _run_trace, "point": _run_point,
    "library": _run_library, "arrays": _run_arrays, "onnx": _run_onnx, "specs": _run_specs,
}  # fmt: skip
SHARE = {"specs": 4.0, "point": 2.0}  # of the time; of others 1


def judge(target: str, case: Any) -> str | None:
    """Run a case; what is wrong with how it ended, as a traceback, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            RUN[target](case)
    except Error as error:
        text = str(error)
        if "\n" in text or not text or "\x1b" in text:
            return f"an error that is not one line: {text!r}"
    except TypeError as error:
        if target != "arrays" or "tvmconv" not in str(error):
            return traceback.format_exc()
    except (Exception, SystemExit):
        return traceback.format_exc()
    return None


def fuzz(targets: list[str], seed: int, first: int, seconds: float, notes: str) -> None:
    """Run cases of the targets in turns, from number ``first`` on, for so long. ``notes``, a file, tells what is
    at work; failures are printed, one a line of JSON, and at last how many cases there were."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    spent = dict.fromkeys(targets, 0.0)
    number = dict.fromkeys(targets, first)
    until = time.monotonic() + seconds
    for target in targets:  # what a target prepares once is not its cases' time
        DRAW[target](random.Random(0))
    seen: set[str] = set()
    while time.monotonic() < until:
        target = min(targets, key=lambda t: spent[t] / SHARE.get(t, 1.0))
        start = time.monotonic()
        case = DRAW[target](random.Random(f"{seed}:{target}:{number[target]}"))
        note = {"target": target, "case": case}
        Path(notes).write_text(json.dumps(note))
        wrong = judge(target, case)
        kind = "" if wrong is None else target + wrong.strip().splitlines()[-1][:60]
        if wrong is not None and kind not in seen:
            seen.add(kind)
            print(json.dumps({**note, "wrong": wrong}), flush=True)
        number[target] += 1
        spent[target] += time.monotonic() - start
    print(json.dumps({"cases": {target: number[target] - first for target in targets}}), flush=True)


def replay(paths: list[str]) -> None:
    """Run the cases of files, one JSON object a file with ``target`` and ``case``; says which it runs."""
    for path in paths:
        print(path, flush=True)
        facts = json.loads(Path(path).read_text())
        wrong = judge(facts["target"], facts["case"])
        assert wrong is None, f"{path}: {wrong}"


if __name__ == "__main__":
    os.environ.setdefault("TVMCONV_CACHE", tempfile.mkdtemp(prefix="tvmconv-fuzz-"))
    fuzz(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
