"""The command line: what each verb prints and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_tools import DW, PW, build_library, tool

import tvmconv
from tvmconv.cli import main
from tvmconv.specs.reference.floats import conv_reference

VERBS = ("compile", "run", "verify", "report", "inspect", "extract", "explain", "targets")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    return build_library(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def library(built: tuple[Path, object]) -> Path:
    return built[0]


# ---- help ----


def test_help_teaches() -> None:
    text = tool("--help").stdout
    assert "conv2d:" in text and "padding" in text
    for verb in VERBS:
        assert verb in text


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_examples(verb: str) -> None:
    result = tool(verb, "--help")
    assert result.returncode == 0
    assert "Examples:" in result.stdout and f"  tvmconv {verb}" in result.stdout


def test_bare_command_prints_help() -> None:
    assert tool().stdout == tool("--help").stdout


def test_version() -> None:
    assert tool("--version").stdout == f"tvmconv {tvmconv.__version__}\n"


def test_a_shell_completes(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path)}
    assert tool("--install-completion", "bash", env=home).returncode == 0
    (script,) = tmp_path.rglob("tvmconv.sh")
    asked = {**home, "_TVMCONV_COMPLETE": "complete_bash", "COMP_WORDS": "tvmconv ver", "COMP_CWORD": "1"}
    for shell, words in (("fish", "complete --command tvmconv"), ("zsh", "compdef _tvmconv_completion")):
        assert words in tool("--show-completion", shell, env=home).stdout
    assert "complete_bash" in script.read_text() and tool(env=asked).stdout.split() == ["verify"]


def test_light_verbs_do_not_import_tvm(library: Path) -> None:
    code = (
        "import sys\n"
        "from tvmconv.cli import main\n"
        "assert main(['cmake-dir']) == 0\n"
        "assert 'tvmconv.cli.targets' not in sys.modules and 'numpy' not in sys.modules\n"
        f"for words in (['--help'], ['targets'], ['inspect', {str(library)!r}], ['run', {str(library)!r}]):\n"
        "    assert main(words) == 0\n"
        "assert not {'tvm', 'tvm_ffi', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


# ---- compile ----


def test_compiling_does_not_import_torch(tmp_path: Path) -> None:
    """TVM would import torch where it is installed, which takes as long as everything else."""
    spec = "conv2d:1x5x6x8:o8:k1x1:NHWC:float32"
    code = (
        "import sys\n"
        "from tvmconv.cli import main\n"
        f"assert main(['compile', {spec!r}, '-o', {str(tmp_path / 'a.so')!r}]) == 0\n"
        "assert 'tvm' in sys.modules and 'torch' not in sys.modules\n"
    )
    fresh = {**os.environ, "TVMCONV_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300, env=fresh)


def test_compile_report(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, result = built
    assert result.stderr == ""  # no progress bar where there is no terminal
    report = json.loads(result.stdout)
    kinds = {artifact["kind"]: artifact for artifact in report["artifacts"]}
    assert set(kinds) == {"library", "header"}
    assert kinds["library"]["path"] == str(path)
    for artifact in kinds.values():
        file = Path(artifact["path"])
        assert file.stat().st_size == artifact["size"]
        digest = subprocess.run(["sha256sum", file], check=True, capture_output=True, text=True).stdout
        assert digest.lstrip("\\").split()[0] == artifact["sha256"]
    assert [(f["name"], f["descriptor"]) for f in report["functions"]] == [("dw", DW), ("pw", PW)]
    assert all(f["schedule"]["source"] in ("default", "tuned") for f in report["functions"])


def test_compile_names_and_header(tmp_path: Path) -> None:
    path = tmp_path / "c.so"
    result = tool("compile", PW, f"second={DW}", DW, "--name", "first", "--no-header", "-v", "-o", path)
    assert result.returncode == 0, result.stderr
    assert os.listdir(tmp_path) == ["c.so"]
    names = list(tvmconv.load(path))
    assert names[:2] == ["first", "second"] and names[2].isidentifier() and len(names) == 3
    for word in (PW, DW, "first", "second", "schedule", "sha256", str(path)):
        assert word in result.stdout


def test_compile_from_stdin(tmp_path: Path) -> None:
    result = tool("compile", "-f", "-", "-o", tmp_path / "c.so", input=f"{PW}\n")
    assert result.returncode == 0, result.stderr
    assert [f.descriptor for f in tvmconv.load(tmp_path / "c.so").functions.values()] == [PW]


# ---- run ----


def test_run_prints_shapes_and_times(library: Path) -> None:
    result = tool("run", library, "--rounds", 5)
    assert result.returncode == 0, result.stderr
    for word in ("dw", "pw", "µs", "GFLOP/s", "x 1x9x9x8", "y 1x9x9x16"):
        assert word in result.stdout


def test_run_json(library: Path) -> None:
    (row,) = json.loads(tool("run", library, "pw", "--rounds", 3, "--threads", 1, "--json").stdout)[
        "functions"
    ]
    assert row["name"] == "pw" and row["repeat"] == 3 and row["shapes"]["w"] == [1, 1, 8, 16]
    assert row["microseconds"] >= row["microseconds_min"] > 0 and row["gflops"] > 0


def test_run_on_given_arrays(library: Path, tmp_path: Path) -> None:
    spec = tvmconv.ConvSpec.parse(DW)
    rng = np.random.default_rng(3)
    shapes = {"x": spec.input_shape, "w": spec.weight_shape, "b": spec.bias_shape}
    arrays = {name: rng.integers(-2, 3, shape).astype("float32") for name, shape in shapes.items()}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = ("--input", "x.npy", "--input", "w=w.npy", "--input", "bias=b.npy", "-o", "y.npy")
    result = tool("run", library, "dw", *files, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), conv_reference(spec, *arrays.values()))


# ---- verify ----


def test_verify_library(library: Path) -> None:
    result = tool("verify", library)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "max abs" in result.stdout and "max rel" in result.stdout and "0 failed" in result.stdout
    assert result.stdout.count(" ok ") == 4


def test_verify_descriptor(library: Path) -> None:
    result = tool("verify", "--seed", 7, DW, "--target", "native", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["ok"] and {check["fill"] for check in report["checks"]} == {"normal", "integer"}
    # The data depend on seed and descriptor alone: a failure in a library repeats from its descriptor.
    again = json.loads(tool("verify", library, "dw", "--seed", 7, "--json").stdout)
    assert [c["max_abs"] for c in again["checks"]] == [c["max_abs"] for c in report["checks"]]


def test_verify_reports_a_wrong_kernel(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tvmconv.specs.reference.conv

    def off_by_one_tap(spec: tvmconv.ConvSpec, x: np.ndarray, w: np.ndarray, *bias: np.ndarray) -> np.ndarray:
        w = w.copy()
        w[0, 0, 0, 5] += 1
        return conv_reference(spec, x, w, *bias)

    monkeypatch.setattr(tvmconv.specs.reference.conv, "conv_reference", off_by_one_tap)
    assert main(["verify", str(library), "pw", "--seed", "3"]) == 1
    output = capsys.readouterr().out
    target = tvmconv.load(library).manifest["target"]["name"]
    assert output.count("FAIL pw:") == 2
    assert f"tvmconv verify --seed 3 '{PW}' --target {target}" in output
    assert "2 failed" in output


def test_verify_tolerance(library: Path) -> None:
    assert tool("verify", library, "dw", "--tolerance", 1e-30).returncode == 1


# ---- inspect and targets ----


def test_inspect(library: Path) -> None:
    manifest = tvmconv.load(library).manifest
    result = tool("inspect", library)
    assert result.returncode == 0, result.stderr
    for word in (DW, PW, manifest["sha256"], manifest["target"]["name"], "runs here  yes"):
        assert word in result.stdout
    report = json.loads(tool("inspect", library, "--json").stdout)
    assert report["runs_here"] is True and report["size"] == library.stat().st_size
    assert {key: report[key] for key in manifest} == manifest
    assert "bias" in tool("inspect", library, "dw").stdout


def test_inspect_foreign_library(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tvmconv.formats import cpu_features as cpu

    monkeypatch.setattr(cpu, "host_arch", lambda: "riscv64")
    assert main(["inspect", str(library)]) == 0
    assert "runs here  no: it is for " in capsys.readouterr().out


def test_targets() -> None:
    report = json.loads(tool("targets", "--json").stdout)
    rows = {row["name"]: row for row in report["targets"]}
    assert {"x86-64-v2", "x86-64-v3", "x86-64-v4"} <= set(rows)
    assert [name for name, row in rows.items() if row["native"]] == [report["native"]]
    text = tool("targets").stdout
    assert all(name in text for name in rows)
