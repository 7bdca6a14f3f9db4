"""Targets of the fuzzer that are files: libraries, logs and what is in them, ONNX models."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from fuzz_calls import module, random_spec
from fuzz_mutations import Rng, bytes_, json_, packed

import tvmconv
from tvmconv.base.errors import Error
from tvmconv.specs.kinds import parse_spec


@lru_cache(maxsize=1)
def _library() -> bytes:
    return module().path.read_bytes()


def draw_library(rng: Rng) -> Any:
    return packed(bytes_(rng, _library()))


def run_library(case: str) -> None:
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


_LAYER = "conv2d:1x9x9x16:o16:k3x3:p1:g16:NHWC:float32"


# In memory where that can be: logs are written with fsync.
_QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@lru_cache(maxsize=1)
def _log() -> dict[str, bytes]:
    """Files of a folder of logs with a record of each space."""
    from tvmconv.formats.logs import folder as folders
    from tvmconv.formats.logs.entries import Entry, write_entry
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.search.database import Database
    from tvmconv.tuning.search.meta import MetaSpace
    from tvmconv.tuning.search.space import TuningSpace

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
    from tvmconv.tuning.search.meta import MetaSpace
    from tvmconv.tuning.search.space import TuningSpace

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


def draw_log(rng: Rng) -> Any:
    log = dict(_log())
    name = rng.choice(sorted(log))
    if rng.random() < 0.3:
        log[name] = bytes_(rng, log[name])
    elif name.startswith("database"):
        lines = [json.loads(line) for line in log[name].splitlines()]
        changed = json_(rng, lines)
        lines = changed if isinstance(changed, list) else [changed]
        log[name] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    else:
        log[name] = json.dumps(json_(rng, json.loads(log[name]))).encode()
    if rng.random() < 0.1:
        del log[rng.choice(sorted(log))]
    return {name: packed(data) for name, data in log.items()}


def run_log(case: dict[str, Any]) -> None:
    """Whatever is in a folder, each use of it works or says why not; records that are whole stay."""
    from tvmconv.formats.logs import folder as folders
    from tvmconv.formats.logs.entries import Entry, write_entry
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.log_upkeep import merge, prune
    from tvmconv.tuning.search.database import Database

    machine, space = resolve("native"), _space()

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
    with tempfile.TemporaryDirectory(dir=_QUICK) as root:
        folder = Path(root, "log")
        folder.mkdir()
        for name, data in case.items():
            Path(folder, name).write_bytes(_content(data))
        for use in uses:
            try:
                use(folder)
            except Error as error:
                wrong = error
    if wrong is not None:
        raise wrong


@lru_cache(maxsize=1)
def _space() -> Any:
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.search.space import TuningSpace

    return TuningSpace(parse_spec(_LAYER), resolve("native"))


def _content(data: Any) -> bytes:
    """What a file of a case holds: base64; or text, in which $NATIVE is this machine's target."""
    from tvmconv.schedules.machines import resolve

    if isinstance(data, dict):
        return data["text"].replace("$NATIVE", resolve("native").name).encode()
    return base64.b64decode(data)


def _fresh(folder: Path, machine: Any) -> Path:
    from tvmconv.formats.logs import folder as folders

    folders.prepare(folder, machine)
    return folder


def draw_point(rng: Rng) -> Any:
    from tvmconv.compiler import codegen
    from tvmconv.schedules.machines import resolve

    target = rng.choice(["native", "x86-64-v2", "cortex-a72", "cuda-sm_80"])
    descriptor = rng.choice([*_SMALL, random_spec(rng)])
    try:
        spaces = codegen.spaces(parse_spec(descriptor), resolve(target))
    except Error:  # nothing that the target takes
        spaces = {}
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
        point = json_(rng, point)
    return {"target": target, "descriptor": descriptor, "strategy": strategy, "point": point}


_SMALL = (
    _LAYER,
    "conv2d:1x14x14x32:o48:k3x3:p1:NHWC:float32:winograd",
    "conv2d:1x16x14x14:o32:k3x3:p1:NCHW:float32",
    "tconv2d:1x5x6x12:o10:k4x4:s2:p1:NHWC:float32",
    "conv2d:1x9x8x16:o12:k3x3:p1:NHWC:uint8/int8:bias",
    "maxpool2d:1x12x12x16:k3x3:s2:p1:NHWC:float32",
    "deform2d:1x8x9x9:o8:k3x3:p1:og2:mask:bias",
)


def run_point(case: Any) -> None:
    from tvmconv.compiler import codegen
    from tvmconv.formats.choice import Choice
    from tvmconv.schedules.machines import resolve

    if not isinstance(case["point"], dict):
        return  # entries.py lets no such point pass
    machine = resolve(case["target"])
    parse_spec(case["descriptor"]).check_supported()
    try:
        made = codegen.scheduled(
            parse_spec(case["descriptor"]), machine, Choice(case["strategy"], case["point"])
        )
    except ValueError as error:  # "does not fit", which compile tells in the manifest
        assert "\n" not in str(error), "an error of several lines"
        return
    assert made.kernel is not None


def draw_trace(rng: Rng) -> Any:
    from tvmconv.formats.choice import TRACE

    trace = json.loads(_meta_choice().point[TRACE])
    for _ in range(rng.choice([1, 1, 2, 3])):
        trace = json_(rng, trace)
    return trace


def run_trace(trace: Any) -> None:
    """What the rules let pass TVM replays and compiles, or refuses; what they don't is refused by them."""
    from tvmconv.compiler import codegen
    from tvmconv.formats.choice import META, TRACE, Choice
    from tvmconv.schedules.machines import resolve

    choice = Choice(META, {TRACE: json.dumps(trace)})
    try:
        codegen.build_kernel(parse_spec(_LAYER), resolve("native"), choice)
    except ValueError as error:
        assert "\n" not in str(error), "an error of several lines"


@lru_cache(maxsize=1)
def _models() -> list[bytes]:
    from onnx_models import small_network

    return [small_network().SerializeToString()]


def draw_onnx(rng: Rng) -> Any:
    return packed(bytes_(rng, rng.choice(_models())))


def run_onnx(case: str) -> None:
    from tvmconv.onnx.recognising.extraction import extract

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(base64.b64decode(case))
        extract(path)
