"""What a call takes of memory beside its arrays is what the manifest, the header and ``inspect`` say."""

import ctypes
import json
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
from cli_tools import tool
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import specs

import tvmconv
from tvmconv.formats import manifest
from tvmconv.specs.checks import most_workspace

_INT = ctypes.c_int
ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, _INT, _INT, ctypes.c_uint64, _INT, _INT)
FREE = ctypes.CFUNCTYPE(_INT, _INT, _INT, ctypes.c_void_p)


class Watched:
    """The workspace of a loaded library, and the most that each thread held of it at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.held: dict[int, int] = defaultdict(int)
        self.most: dict[int, int] = defaultdict(int)
        self.sizes: dict[int, int] = {}
        alloc, free = (
            ctypes.c_void_p.in_dll(library, f"__TVMBackend{name}Workspace") for name in ("Alloc", "Free")
        )
        own_alloc, own_free = ALLOC(alloc.value), FREE(free.value)

        def allocate(device: int, number: int, size: int, code: int, bits: int) -> int:
            at, thread = own_alloc(device, number, size, code, bits), threading.get_ident()
            self.sizes[at] = (size + 127) // 64 * 64  # as support.c takes it
            self.held[thread] += self.sizes[at]
            self.most[thread] = max(self.most[thread], self.held[thread])
            return at

        def release(device: int, number: int, at: int) -> int:
            self.held[threading.get_ident()] -= self.sizes.pop(at)
            return own_free(device, number, at)

        self.functions = ALLOC(allocate), FREE(release)  # alive as long as the library calls them
        alloc.value, free.value = (ctypes.cast(f, ctypes.c_void_p).value for f in self.functions)


def _called(path: Path, name: str, facts: dict) -> dict[int, int]:
    """What each thread held at most in a call of the function."""
    library = ctypes.CDLL(str(path))
    watched = Watched(library)
    arrays = {a["name"]: np.ones(a["shape"], _dtype(a["dtype"])) for a in facts["arguments"]}
    packed = np.zeros(facts["packed_bytes"] + 64, np.uint8)
    packed = packed[-packed.ctypes.data % 64 :]
    inputs = [a["name"] for a in facts["arguments"] if a["role"] == "input"]
    pointers = [ctypes.c_void_p(arrays[n].ctypes.data) for n in inputs]
    if facts["packed_bytes"]:
        pointers.insert(1, ctypes.c_void_p(packed.ctypes.data))
    output = next(a["name"] for a in facts["arguments"] if a["role"] == "output")
    assert getattr(library, name)(*pointers, ctypes.c_void_p(arrays[output].ctypes.data)) == 0
    return dict(watched.most)


def _dtype(name: str) -> np.dtype:
    return np.dtype(np.uint16 if name == "bfloat16" else name)


SPECS = [
    "conv2d:1x64x30x30:o64:k3x3:p1:NCHW:float32:direct", "conv2d:1x64x30x30:o64:k3x3:p1:NCHW:float32",
    "conv2d:1x32x30x5:o32:k5x5:p2:NCHW:float32:im2col", "conv2d:1x40x40x32:o32:k3x3:p1:NHWC:int8:relu",
    "deform2d:1x16x20x20:o32:k3x3:p1:NCHW:float32", "maxpool2d:1x64x56x56:k3x3:s2:p1:NCHW:float32",
    "tconv2d:1x32x24x24:o16:k4x4:s2:p1:NCHW:float32", "conv2d:1x32x30x30:o32:g32:k3x3:p1:NCHW:bfloat16",
]  # fmt: skip


@settings(max_examples=3, deadline=None)
@given(st.lists(specs(), min_size=3, max_size=3))
def test_random(tmp_path_factory, chosen) -> None:
    _check(tmp_path_factory.mktemp("workspace"), [spec for spec in chosen if spec.batch])


def test_each_kind(tmp_path) -> None:
    _check(tmp_path, SPECS)


def _check(folder: Path, chosen: list) -> None:
    path = folder / "w.so"
    tvmconv.compile({f"f{i}": spec for i, spec in enumerate(chosen)}).export(path)
    header = path.with_suffix(".h").read_text()
    for facts in manifest.read(path)["functions"]:
        call, thread = facts["workspace_bytes"], facts["thread_workspace_bytes"]
        assert call + thread <= most_workspace(facts["bytes"])
        macro = facts.get("symbol", facts["name"]).upper()
        assert f"#define {macro}_WORKSPACE_BYTES {call}\n" in header
        assert f"#define {macro}_THREAD_WORKSPACE_BYTES {thread}\n" in header
        held = _called(path, facts.get("symbol", facts["name"]), facts)
        own = held.pop(threading.get_ident(), 0)
        assert all(size <= thread for size in held.values()), facts["descriptor"]
        assert own <= call + thread, facts["descriptor"]
        assert max(own, *held.values(), 0) >= max(call, thread), facts["descriptor"]


def test_inspect(tmp_path) -> None:
    path = tmp_path / "w.so"
    library = tvmconv.compile({"f": SPECS[2], "g": "conv2d:1x8x8x8:o8:k1x1:NHWC:float32"})
    library.export(path)
    call, thread = library.functions["f"].workspace
    assert call > 0
    found = json.loads(tool("inspect", path, "--json").stdout)["functions"]
    assert [(f["workspace_bytes"], f["thread_workspace_bytes"]) for f in found] == [(call, thread), (0, 0)]
    assert f"{call} bytes of workspace and {thread} a thread" in tool("inspect", path, "f").stdout
