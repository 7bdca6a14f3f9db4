"""The workload of a record: a spec's definition, unscheduled, the same for every machine."""

from __future__ import annotations

import base64
import json
import struct

import tvm
from tvm.s_tir import meta_schedule as ms

from tvmconv.compiler.codegen.family import family_of
from tvmconv.formats.logs.traces import SPEC
from tvmconv.specs.kinds import Spec


def module_of(spec: Spec, meta: bool = False) -> tvm.IRModule:
    """``main``, the definition of ``spec``: of its records of the strategies' space, or of meta_schedule's
    own (``meta``), which do not name the spec there."""
    named = {"global_symbol": "main"} if meta else {"global_symbol": "main", SPEC: str(spec)}
    return tvm.IRModule({"main": family_of(spec).definition(spec, meta).with_attr(named)})


def workload_of(spec: Spec, meta: bool) -> list[str]:
    """The workload of ``spec``'s records, as the log has it."""
    return workload_json(ms.database.MemoryDatabase().commit_workload(module_of(spec, meta)))


def workload_json(workload: ms.database.Workload) -> list[str]:
    """A workload as in meta_schedule's log, without the white space that would be half of it."""
    shash, encoded = workload.as_json()
    raw = base64.b64decode(encoded)
    text = json.dumps(json.loads(raw[8:]), separators=(",", ":")).encode()  # after the length
    return [str(shash), base64.b64encode(struct.pack("<Q", len(text)) + text).decode()]
