"""What pip installs: a complete wheel, from a path with a space, whose base needs numpy alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from places import ROOT

SOURCES = {"tvmconv": "tvmconv", "schedules": "tvmconv/schedules", "tuning_logs": "tvmconv/tuning_logs"}


def _run(command: Sequence[object], **options: object) -> subprocess.CompletedProcess[str]:
    options = {"check": True, "capture_output": True, "text": True, "timeout": 600, **options}
    try:
        return subprocess.run([str(word) for word in command], **options)
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{error}\n{error.stdout}\n{error.stderr}") from None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the repository holds, in a path with a space."""
    copy = tmp_path_factory.mktemp("with a space") / "source tree"
    skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "build-*", "dist")
    shutil.copytree(ROOT, copy, ignore=skip, symlinks=True)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    _run([sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--quiet", "-w", "dist"], cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def _environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True, clear=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of an environment with the wheel and its dependencies, no extra."""
    programs = _environment(tmp_path_factory.mktemp("bare env"))
    _run([programs / "python", "-m", "pip", "install", "--quiet", wheel])
    return programs


def _clean_env() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def test_wheel_holds_every_source_file(source: Path, wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"{installed}/{path.relative_to(source / folder)}"
        for folder, installed in SOURCES.items()
        for path in (source / folder).rglob("*")  # which follows no links: each file counts once
        if path.suffix in {".py", ".c", ".h", ".json", ".typed", ".md", ".png"}
        and not path.name.startswith("database_")
    }
    assert expected >= {"tvmconv/py.typed", "tvmconv/compiler/artifact/support.c",
                        "tvmconv/schedules/machines.py", "tvmconv/tuning_logs/__init__.py"}  # fmt: skip
    assert expected <= held, f"not in the wheel: {sorted(expected - held)}"
    assert not [name for name in held if "/database_" in name], "compile reads no records, only their index"
    strays = {name for name in held if not name.startswith("tvmconv")}
    assert not strays, "the wheel would install top-level names of its own"
    assert any(name.endswith("LICENSE") for name in held)


def test_base_needs_numpy_alone(bare: Path, tmp_path: Path) -> None:
    listed = _run([bare / "python", "-m", "pip", "list", "--format=freeze"]).stdout.split()
    names = {line.partition("==")[0].lower() for line in listed} - {"pip", "setuptools"}
    assert names == {"tvmconv", "numpy"}
    code = (
        "import tvmconv, tvmconv.schedules.machines, tvmconv.tuning_logs\n"
        "spec = tvmconv.depthwise((1, 8, 8, 4), 3, layout='NHWC')\n"
        "assert tvmconv.ConvSpec.parse(str(spec)) == spec\n"
        "tvmconv.load, tvmconv.set_num_threads\n"
        "print(tvmconv.__version__)\n"
    )
    _run([bare / "python", "-c", code], cwd=tmp_path, env=_clean_env())


def test_base_runs_a_library(bare: Path, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    import numpy as np

    import tvmconv

    spec = tvmconv.pointwise((1, 5, 7, 8), 16, layout="NHWC")
    tvmconv.compile({"pw": spec}).export(tmp_path / "pw.so")
    rng = np.random.default_rng(1)
    arrays = {name: rng.integers(-3, 4, shape).astype("float32") for name, shape in
              {"x": spec.input_shape, "w": spec.weight_shape}.items()}  # fmt: skip
    np.savez(tmp_path / "data.npz", y=arrays["x"] @ arrays["w"][0, 0], **arrays)
    code = (
        "import numpy, tvmconv\n"
        "data = numpy.load('data.npz')\n"
        "y = tvmconv.load('pw.so')['pw'](data['x'], data['w'])\n"
        "assert (y == data['y']).all()\n"
    )
    _run([bare / "python", "-c", code], cwd=tmp_path, env=_clean_env())


def test_base_command_names_the_extra(bare: Path, tmp_path: Path) -> None:
    result = _run([bare / "tvmconv", "targets"], cwd=tmp_path, env=_clean_env(), check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "tvmconv: error: the command line needs typer and rich: pip install 'tvmconv[cli]'\n"
    )


def test_editable_install(source: Path, tmp_path: Path) -> None:
    programs = _environment(tmp_path / "editable env")
    _run([programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--editable", "."], cwd=source)
    code = (
        "import tvmconv, tvmconv.schedules, tvmconv.schedules.machines, tvmconv.tuning_logs\n"
        "print(tvmconv.schedules.__file__)\n"
    )
    for folder in (tmp_path, source):  # also from inside the tree, where `tvmconv/` itself is on the path
        found = _run([programs / "python", "-c", code], cwd=folder, env=_clean_env()).stdout.strip()
        assert Path(found).resolve() == source / "schedules" / "__init__.py"


def test_sdist_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    # setuptools' own hooks, for pip makes no sdists.
    code = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    made = _run([sys.executable, "-c", code, tmp_path], cwd=source).stdout.split()[-1]
    _run([sys.executable, "-m", "pip", "wheel", tmp_path / made, "--no-deps", "--quiet", "-w", tmp_path])
    (rebuilt,) = tmp_path.glob("*.whl")
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in (wheel, rebuilt)]
    assert names[0] == names[1]


def test_plain_install_works_from_the_checkout_too(bare: Path, source: Path, tmp_path: Path) -> None:
    """Python run at the checkout's root finds ``tvmconv/`` there, not the installed package."""
    code = (
        "import pathlib, tvmconv, tvmconv.schedules.machines, tvmconv.tuning_logs\n"
        "assert tvmconv.schedules.machines.resolve('x86-64-v3').lanes() == 8\n"
        "logs = pathlib.Path(tvmconv.tuning_logs.__file__).parent\n"
        "from tvmconv.specs.kinds import parse_spec\nfrom tvmconv.formats.logs.entries import read_index\n"
        "from tvmconv.formats.logs.entries import descriptor_of as of\n"
        "from tvmconv.formats.logs.lookup import Logs\n"
        "for name in ('x86-64-v3', 'znver4', 'znver5'):\n"
        "    known, found = Logs(tvmconv.schedules.machines.resolve(name), logs), read_index(logs / name)\n"
        "    assert len(found) > 200 and all(known.find(parse_spec(of(each))) for each in found)\n"
        "print(tvmconv.__file__, len(list(logs.glob('*/index.json'))))\n"
    )
    (at_root, logs), (elsewhere, installed_logs) = (
        _run([bare / "python", "-c", code], cwd=folder, env=_clean_env()).stdout.rsplit(maxsplit=1)
        for folder in (source, tmp_path)
    )
    assert Path(at_root).parent == source / "tvmconv" and Path(elsewhere).parent != source / "tvmconv"
    assert int(logs) == int(installed_logs) > 2
