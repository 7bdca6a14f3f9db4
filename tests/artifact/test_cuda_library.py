"""CUDA libraries on a machine without a GPU: what they say of themselves, and what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_tools import tool
from libraries import CUDA_SPECS, assert_one_line

import tvmconv
from tvmconv.compiler import cache
from tvmconv.formats import cuda_source as sources
from tvmconv.formats import manifest as manifests
from tvmconv.schedules.machines import resolve

# ---- the file ----


def test_the_manifest_says_what_it_is_for(gpu_library: Path) -> None:
    target = manifests.read(gpu_library)["target"]
    assert target["name"] == "cuda-sm_80,cuda-sm_90" and target["sms"] == [80, 90]


def test_inspect_shows_the_source(gpu_library: Path) -> None:
    shown = tool("inspect", gpu_library, "dw", "--source").stdout
    assert shown.count("__global__") == 3  # the kernel, weights, bias
    assert shown.strip() == sources.read(gpu_library)["dw"].strip()
    facts = json.loads(tool("inspect", gpu_library, "--json").stdout)
    assert facts["runs_here"] is False and "source" not in facts["functions"][0]


def test_the_library_needs_nothing_of_cuda(gpu_library: Path) -> None:
    needed = subprocess.run(["readelf", "-d", gpu_library], capture_output=True, text=True, check=True).stdout
    assert "cuda" not in needed and "libstdc++" not in needed


def test_the_header_is_c_and_cpp(gpu_library: Path, tmp_path: Path) -> None:
    (tmp_path / "use.c").write_text(
        f'#include "{gpu_library.with_suffix(".h")}"\n'
        "int use(float *p) { return dw_prepack(p, p, p, p) + dw(p, p, p, p) + pw(p, p, p, p, p)"
        " + (int)dw_packed_bytes() + tvmconv_check_device(-1) + TVMCONV_ERR_MEMORY; }\n"
    )
    for language in (["-x", "c", "-std=c99"], ["-x", "c++"]):
        subprocess.run(["gcc", *language, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
                        tmp_path / "use.c"], check=True)  # fmt: skip


# ---- no driver, no GPU, no compiler ----


def test_without_a_driver_loading_says_so(gpu_library: Path) -> None:
    with pytest.raises(tvmconv.ArtifactError, match=r"needs an NVIDIA GPU .*libcuda\.so\.1") as error:
        tvmconv.load(gpu_library)
    assert_one_line(error)
    with pytest.raises(tvmconv.ArtifactError, match="no NVIDIA driver"):
        tvmconv.to_gpu(np.zeros(3))
    failed = tool("verify", gpu_library)
    assert failed.returncode == 2 and "needs an NVIDIA GPU" in failed.stderr


def test_with_numpy_alone_loading_says_so_as_well(gpu_library: Path, tmp_path: Path) -> None:
    """As in an environment with nothing else: no module of the compiler's is touched."""
    program = f"""
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {{"tvmconv", "numpy", *sys.stdlib_module_names}}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import tvmconv
try:
    tvmconv.load({str(gpu_library)!r})
except tvmconv.ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "no NVIDIA driver on this machine" in done.stdout


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("cuda-sm_70", "'cuda-sm_70', expected one of cuda-sm_75"),
        ("cuda-sm_80,cuda-sm_8", "'cuda-sm_8' in 'cuda-sm_80,cuda-sm_8'"),
        ("cuda-sm_80,x86-64-v3", "'cuda-sm_80,x86-64-v3', expected either CPUs or GPUs"),
        ("cuda-", "'cuda-'"),
    ],
)
def test_targets_that_there_are_none_of(target: str, expected: str) -> None:
    with pytest.raises(tvmconv.TargetError, match=expected) as error:
        tvmconv.compile(CUDA_SPECS["mp"], target)
    assert_one_line(error)


def test_algorithms_and_baked_weights_are_refused(gpu_library: Path) -> None:
    with pytest.raises(tvmconv.TargetError, match="'winograd' for cuda-sm_80, expected 'direct'"):
        tvmconv.compile("conv2d:1x8x8x8:o8:k3x3:NHWC:float32:winograd", "cuda-sm_80", jobs=1)
    kernels = tvmconv.compile({"dw": CUDA_SPECS["dw"]}, "cuda-sm_90,cuda-sm_80")
    with pytest.raises(tvmconv.SpecError, match="baked: weights for cuda-sm_80,cuda-sm_90"):
        tvmconv.Library(kernels.functions, kernels.machine, baked={"dw": b""})


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tvmconv.compiler import cuda_toolchain

    monkeypatch.setenv("TVMCONV_NVCC", "none")
    monkeypatch.setattr(cuda_toolchain, "_WHEELS", ("no-such-wheel",))
    cuda_toolchain.find.cache_clear()
    with pytest.raises(tvmconv.TargetError, match=r"none, expected nvcc .* pip install 'tvmconv\[cuda\]'"):
        cuda_toolchain.cubin("", 80)
    monkeypatch.setenv("TVMCONV_NVCC", str(tmp_path / "nvcc"))
    with pytest.raises(tvmconv.TargetError, match="expected a program that can be run"):
        cuda_toolchain.find()
    cuda_toolchain.find.cache_clear()


def test_nvcc_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a script that says what nvcc of CUDA 11.4 would: it knows no sm_90, and its errors are passed on."""
    from tvmconv.compiler import cuda_toolchain

    script = tmp_path / "nvcc"
    script.write_text("""#!/bin/sh
case "$*" in
  --version) echo "Cuda compilation tools, release 11.4, V11.4.48" ;;
  --list-gpu-arch) echo compute_75; echo compute_80 ;;
  *bad*|*sm_75*) echo "kernel.cu(3): error: this is wrong" >&2; exit 1 ;;
  *) for last; do :; done; cp kernel.cu "$last" ;;
esac
""")
    script.chmod(0o755)
    monkeypatch.setenv("TVMCONV_NVCC", str(script))
    cuda_toolchain.find.cache_clear()
    assert cuda_toolchain.find().name == "nvcc 11.4"
    assert cuda_toolchain.cubin("source", 80) == b"source"
    gpu, cpu = resolve("cuda-sm_80"), resolve("x86-64-v3")
    by_script = [cache.kernel_path("spec", machine) for machine in (gpu, cpu)]
    monkeypatch.setenv("TVMCONV_NVCC", "none")
    by_nvrtc = [cache.kernel_path("spec", machine) for machine in (gpu, cpu)]
    assert by_script[0] != by_nvrtc[0] and by_script[1] == by_nvrtc[1]  # another compiler, another entry
    with pytest.raises(tvmconv.TargetError, match=r"cuda-sm_90, expected .* nvcc 11\.4 knows: sm_75, sm_80"):
        cuda_toolchain.cubin("source", 90)
    with pytest.raises(tvmconv.TargetError, match=r"kernel\.cu\(3\): error: this is wrong") as error:
        cuda_toolchain.cubin("source", 75)
    assert_one_line(error)
    cuda_toolchain.find.cache_clear()
