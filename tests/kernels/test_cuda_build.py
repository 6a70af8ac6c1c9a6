"""When the CUDA kernels are built, and what is said about them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cuda_ptxas

ROOT = Path(__file__).parents[2]

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6gas_rt4cuda1_12march_kernelILi4EtEEvPKNS_' for 'sm_90'
ptxas info    : Function properties for _ZN6gas_rt4cuda1_12march_kernelILi4EtEEvPKNS_
    40 bytes stack frame, 44 bytes spill stores, 48 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 40 bytes cumulative stack size, 192 bytes smem
ptxas info    : Compiling entry function '_ZN6gas_rt4cuda1_11skin_kernelEPKf' for 'sm_120'
ptxas info    : Function properties for _ZN6gas_rt4cuda1_11skin_kernelEPKf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


def setup(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_choice_is_an_error() -> None:
    done = setup(GAS_RT_CUDA="yes")
    assert done.returncode != 0
    assert "GAS_RT_CUDA: expected auto, 0 or 1, got 'yes'; unset or correct it" in done.stderr


def test_asking_for_cuda_without_a_compiler_is_an_error(tmp_path: Path) -> None:
    nowhere = {"PATH": "/usr/bin", "CUDA_HOME": str(tmp_path)}
    done = setup(GAS_RT_CUDA="1", **nowhere)
    assert done.returncode != 0
    assert "GAS_RT_CUDA=1: no nvcc on the path" in done.stderr
    for choice in ("auto", "0", ""):
        assert setup(GAS_RT_CUDA=choice, **nowhere).returncode == 0


def test_an_old_compiler_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "bin" / "nvcc"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho sm_80\n")
    old.chmod(0o755)
    at = {"PATH": f"{old.parent}:/usr/bin:/bin"}
    assert "does not know sm_120" in setup(GAS_RT_CUDA="1", **at).stderr
    assert setup(GAS_RT_CUDA="auto", **at).returncode == 0


def test_what_ptxas_says_is_read(tmp_path: Path) -> None:
    log = tmp_path / "march.ptxas"
    log.write_text(LOG)
    assert cuda_ptxas.read_log(log) == [
        cuda_ptxas.Use("march", "march_kernel<4, half>", 90, 128, 40, 44, 48, 192),
        cuda_ptxas.Use("march", "skin_kernel", 120, 40, 0, 0, 0, 0),
    ]


@pytest.mark.parametrize("path", ["benchmarks/results/cuda-ptxas.txt"])
def test_the_committed_report_has_every_target_and_no_spill(path: str) -> None:
    text = (ROOT / path).read_text()
    assert text.rstrip().endswith(" 0 spill")
    assert {f"sm_{arch}" for arch in (80, 90, 100, 120)} <= set(text.split())
