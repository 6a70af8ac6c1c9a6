"""The CUDA kernels on a GPU, and the part of their benchmark that needs none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cuda_cases import CASES, toy_cases

from benchmarks import gpu_kernels
from benchmarks.gpu_cases import Case
from benchmarks.gpu_driver import Gpu
from gas_rt.kernels import cuda


@pytest.fixture(scope="module")
def toys() -> dict[str, Case]:
    return toy_cases()


@pytest.fixture(scope="module")
def gpu() -> Iterator[Gpu]:
    if (reason := cuda.unavailable_because()) is not None:
        pytest.skip(reason)
    with Gpu() as gpu:
        yield gpu


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_what_the_cpu_gives(name: str, toys: dict[str, Case], gpu: Gpu) -> None:
    row = gpu_kernels.gpu_row(toys[name], gpu, {}, repeats=0)
    assert row["ok"], row["problems"]


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_arrays_and_streams_of_other_libraries_are_taken(
    library: str, toys: dict[str, Case], gpu: Gpu
) -> None:
    xp = pytest.importorskip(library)
    if library == "torch" and not xp.cuda.is_available():
        pytest.skip("torch was built without CUDA")
    make = xp.asarray if library == "cupy" else lambda a: xp.as_tensor(a, device="cuda")
    case = toys["skin of 2"]
    stream = xp.cuda.Stream(non_blocking=True) if library == "cupy" else xp.cuda.Stream()
    arrays = {name: make(a) for name, a in case.inputs.items()}
    arrays["out"] = make(case.want["out"].value * 0)
    case.run(arrays, stream)
    stream.synchronize()
    out = arrays["out"].get() if library == "cupy" else arrays["out"].cpu().numpy()
    assert case.want["out"].problem(out) is None


def test_the_benchmarks_cpu_half_passes(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--scene", "body", "--side", "48", "--poses", "2", "--points", "500"]
    assert gpu_kernels.main(["--cpu-half", "--json", *asked]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    names = {row["name"] for row in rows}
    wanted = {"skin", "skin of 2", "inverse_maps", "build_shell", "query_shell", "march fast 48x48"}
    assert wanted <= names
    assert all(row["inputs_mib"] > 0 and row["moved_mib"] > 0 for row in rows)


def test_a_row_says_how_near_to_a_copy_a_kernel_came(toys: dict[str, Case]) -> None:
    case = toys["pose_offsets of 2"]
    row = gpu_kernels.timing(case, [0.1, 0.2, 0.1], {"copy_gb_per_s": 1000.0})
    assert row["ours"] == 0.1
    assert row["gb_per_s"] == pytest.approx(case.moved_bytes / 1e5, rel=1e-3, abs=0.06)
    assert row["required"] == 0.0


def test_a_difference_fails(toys: dict[str, Case]) -> None:
    case = toys["skin of 2"]
    want = case.want["out"]
    wrong = want.value.copy()
    wrong[0, 0, 0] += 1e-3
    assert "rows differ" in str(want.problem(wrong))
    wrong[0, 0, 0] = float("nan")
    assert want.problem(wrong) is not None
    assert want.problem(want.value) is None
