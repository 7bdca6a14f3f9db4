"""What is loaded is what was read: whatever happens to a library's path, and however many there are."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmconv
from tvmconv.runtime import library as library_module
from tvmconv.runtime import mapping

# The result for -1: 0 or -1, which tells what ran.
PLAIN, RELU = "conv2d:1x1x4x4:o1:k1x1:NCHW:float32", "conv2d:1x1x4x4:o1:k1x1:NCHW:float32:relu"
EXPECTED = {PLAIN: -1.0, RELU: 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Libraries by the descriptor of their function f, all exported under one name."""
    path = tmp_path_factory.mktemp("made") / "layers.so"
    return {d: tvmconv.compile({"f": d}).export(path, header=False).read_bytes() for d in EXPECTED}


def runs(module: tvmconv.Module) -> bool:
    """Whether what runs is what the manifest says."""
    y = module["f"](-np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 1, 1), np.float32))
    return bool((y == EXPECTED[module["f"].descriptor]).all())


def maps(name: str = "tvmconv-loaded") -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if name in line}


def renamed(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def overwritten(path: Path, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(0)
        file.write(data)


def removed(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def relinked(path: Path, data: bytes) -> None:
    place = path.with_name(f"{len(list(path.parent.iterdir()))}.so")
    place.write_bytes(data)
    path.unlink(missing_ok=True)
    path.symlink_to(place)


@pytest.fixture(params=["file", "memory"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where private copies lie: in memory where there is no folder for them."""
    if request.param == "memory":
        def none(pid: int) -> str:
            raise FileNotFoundError(2, "No usable temporary directory found")

        monkeypatch.setattr(mapping, "_folder", none)
    return request.param


@pytest.mark.parametrize("change", [renamed, overwritten, removed, relinked])
def test_a_path_that_changes(change: Any, way: str, made: dict[str, bytes], tmp_path: Path) -> None:
    path, modules = tmp_path / "layers.so", []
    for descriptor in (PLAIN, RELU, PLAIN):
        change(path, made[descriptor])
        module = tvmconv.load(path)
        assert module["f"].descriptor == descriptor and runs(module)
        modules.append(module)
        assert all(map(runs, modules))
    path.write_bytes(b"")
    assert all(map(runs, modules))
    del modules[:], module
    renamed(path, made[RELU])
    assert runs(tvmconv.load(path))


SWAP = """
import itertools, os, sys
path, *sources = sys.argv[1:]
held = [open(source, "rb").read() for source in sources]
print("swapping", flush=True)
for i in itertools.count():
    with open(f"{path}.new", "wb") as file:
        file.write(held[i % 2])
    os.replace(f"{path}.new", path)
"""


def test_another_process_swaps_the_file(made: dict[str, bytes], tmp_path: Path) -> None:
    sources = [tmp_path / f"{i}.so" for i in range(2)]
    for source, data in zip(sources, made.values(), strict=True):
        source.write_bytes(data)
    path = shutil.copy(sources[0], tmp_path / "layers.so")
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, path, *sources], stdout=subprocess.PIPE)
    try:
        swapping.stdout.readline()
        modules = [tvmconv.load(path) for _ in range(100)]
    finally:
        swapping.kill()
        swapping.communicate()
    assert all(map(runs, modules)) and {module["f"].descriptor for module in modules} == set(EXPECTED)


def test_many_libraries_at_once_and_none_left(made: dict[str, bytes]) -> None:
    """Of one name and SONAME, each with a workspace: more of them than a process has keys."""
    first, count = library_module.load_bytes(made[PLAIN], Path("layers.so"), temporary=True), 1100
    use_workspace(first)
    gc.collect()
    before, files = maps(), len(os.listdir("/proc/self/fd"))
    modules = []
    for data in itertools.islice(itertools.cycle(made.values()), count):
        modules.append(library_module.load_bytes(data, Path("layers.so"), temporary=True))
        use_workspace(modules[-1])
    assert len(maps() - before) == count and all(map(runs, modules))
    key = ctypes.c_uint()
    assert ctypes.CDLL(None).pthread_key_create(ctypes.byref(key), None) == 0
    ctypes.CDLL(None).pthread_key_delete(key)
    kept = modules[7]["f"].bind(np.ones((1, 1, 1, 1), np.float32))
    del modules
    gc.collect()
    assert len(maps() - before) == 1 and len(os.listdir("/proc/self/fd")) <= files
    assert kept(-np.ones((1, 1, 4, 4), np.float32)).max() == 0  # one of RELU
    del kept
    gc.collect()
    assert maps() == before


def use_workspace(module: tvmconv.Module) -> None:
    """Take some and give it back, as kernels do."""
    library, pointer, integer = ctypes.CDLL(str(module.path)), ctypes.c_void_p, ctypes.c_int
    alloc, free = (pointer.in_dll(library, f"__TVMBackend{n}Workspace").value for n in ("Alloc", "Free"))
    got = ctypes.CFUNCTYPE(pointer, integer, integer, ctypes.c_uint64, integer, integer)(alloc)(
        1, 0, 1000, 2, 32
    )
    assert got and not ctypes.CFUNCTYPE(integer, integer, integer, pointer)(free)(1, 0, got)
    mapping._dlclose(library._handle)


def _copy_of(module: tvmconv.Module) -> str:
    """The file that a module's code is mapped from."""
    at = ctypes.cast(module["f"]._entry, ctypes.c_void_p).value
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        if int(start, 16) <= at < int(end, 16):
            return line.split(maxsplit=5)[5]
    raise AssertionError("not mapped")


def test_a_copy_has_the_name_of_the_file_and_stays(made: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "layers.so"
    path.write_bytes(made[RELU])
    module = tvmconv.load(path)
    copy = Path(_copy_of(module))
    assert copy.name.endswith("-layers.so") and copy.read_bytes() == made[RELU] and module.path == path
    assert copy.stat().st_mode & 0o777 == 0o500 and copy.parent.stat().st_mode & 0o777 == 0o700


FORKED = """
import os, sys, numpy as np, tvmconv
plain, relu = (tvmconv.compile({"f": text}) for text in sys.argv[1:])
first = plain.load()
for _ in range(4):
    children = []
    for library, expected in ((plain, -1), (relu, 0)):
        pid = os.fork()
        if pid == 0:
            f = library.load()["f"]
            y = f(-np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 1, 1), np.float32))
            os._exit(int(not (y == expected).all()))
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


def test_forked_children_load_their_own(tmp_path: Path) -> None:
    """And what is left by those that ended without tidying up is removed by a later process."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORKED, PLAIN, RELU], check=True, env=environment, timeout=300)
    left = list(tmp_path.glob("tvmconv-loaded-*"))
    assert len(left) == 8
    for folder in left:
        os.utime(folder, (0, 0))
    held = tempfile.mkdtemp(prefix="tvmconv-loaded-", dir=tmp_path)
    os.utime(held, (0, 0))
    lock = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as a process that lives
        mapping._tidy(str(tmp_path))
    finally:
        os.close(lock)
    assert [str(path) for path in tmp_path.glob("tvmconv-loaded-*")] == [held]


UNLOADED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

typedef int (*launcher)(int (*)(int, void *, void *), void *, int);
static int task(int index, void *env, void *data) { return index < 0 || !env || data != NULL; }

static void *use(void *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return (void *)dlerror();
  ((void (*)(int))dlsym(library, "tvmconv_set_num_threads"))(4);
  launcher launch = *(launcher *)dlsym(library, "__TVMBackendParallelLaunch");
  void *(*alloc)(int, int, long long, int, int) = *(void *(**)(int, int, long long, int, int))dlsym(
      library, "__TVMBackendAllocWorkspace");
  if (launch(task, NULL, 100) || !alloc(1, 0, 1000, 2, 32)) return "failed";
  dlclose(library);
  return NULL;                                        /* and the key's destructor runs in the library */
}

int main(int argc, char **argv) {
  (void)argc;
  pthread_t thread;
  void *said;
  for (int i = 0; i < 3; ++i) {
    if (pthread_create(&thread, NULL, use, argv[1]) || pthread_join(thread, &said)) return 2;
    if (said) return puts(said), 3;
    usleep(20000);                                    /* its threads go to sleep there */
  }
  void *library = dlopen(argv[2], RTLD_NOW);          /* one that was not used is gone */
  if (!library || dlclose(library) || dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD)) return 4;
  return 0;
}
"""


def test_a_c_program_that_closes_a_library_with_threads(made: dict[str, bytes], tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    for name, data in zip("ab", made.values(), strict=True):
        (tmp_path / f"{name}.so").write_bytes(data)
    (tmp_path / "main.c").write_text(UNLOADED)
    subprocess.run(["cc", "-pthread", "main.c", "-o", "main", "-ldl"], check=True, cwd=tmp_path)
    done = subprocess.run(["./main", "./a.so", "./b.so"], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0, done


@pytest.mark.parametrize("what", ["fifo", "large", "folder"])
def test_what_is_no_file_to_read(what: str, made: dict[str, bytes], tmp_path: Path) -> None:
    """Refused at once: none of them is waited for, or read whole."""
    path = tmp_path / "layers.so"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "large":
        path.write_bytes(made[PLAIN])
        os.truncate(path, 20 << 30)
    else:
        path.mkdir()
    expected = {"fifo": "not a regular file", "large": "expected at most", "folder": "Is a directory"}[what]
    for use in (tvmconv.load, tvmconv.formats.manifest.read):
        start = time.process_time()
        with pytest.raises(tvmconv.ArtifactError, match=expected):
            use(path)
        assert time.process_time() - start < 5


@pytest.mark.parametrize("path", [None, b"layers.so", 3, ["layers.so"]])
def test_what_is_no_path(path: Any) -> None:
    for use in (tvmconv.load, tvmconv.formats.manifest.read, tvmconv.formats.cuda_source.read):
        with pytest.raises(tvmconv.ArtifactError, match=r"path: .*, expected a library's path as str or os"):
            use(path)
