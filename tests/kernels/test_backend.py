"""Choosing the implementation and the instruction set; threads, forks and exits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_cases import f32, frontal_camera, sphere

from gas_rt import kernels
from gas_rt.errors import BackendError, InputError
from gas_rt.kernels import _backend

ROOT = Path(__file__).parents[2]

DIGEST = """
import hashlib, sys
sys.path.insert(0, 'tests/kernels')
import numpy as np
from geometry_cases import SMPL_PARENTS, bones, f32, frontal_camera, sphere
from gas_rt import kernels
rng = np.random.default_rng(0)
vertices, faces = sphere(20)
ids, weights = bones(rng, len(vertices), 24)
rotations, joints = f32(rng.normal(0, 0.3, (2, 24, 3)))
A, _ = kernels.joint_transforms(rotations, joints, SMPL_PARENTS)
posed = kernels.skin(vertices, A, ids, weights)
offsets = kernels.pose_offsets(rotations, f32(rng.normal(size=(len(vertices), 3, 207))))
shaped = kernels.shape_offsets(f32(rng.normal(size=10)), f32(rng.normal(size=(501, 3, 10))))
maps = kernels.inverse_maps(A, offsets * 0, A, offsets * 0, ids, weights, threads=2)
raster = kernels.rasterize(posed, faces, frontal_camera(64), threads=2)
shell = kernels.PosedShell(posed, maps, radius_m=0.05)
found = shell.query(f32(rng.uniform(shell.lo, shell.hi, (5000, 3))))
results = [A, posed, offsets, shaped, maps, raster.face_id, raster.barycentric, raster.depth,
           kernels.render_normals(posed, faces, frontal_camera(64))[0], *found]
print(kernels.kernel_isa(), hashlib.sha256(b''.join(r.tobytes() for r in results)).hexdigest())
"""


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_geometry_returns_the_same_bits_on_every_instruction_set() -> None:
    digests = {}
    for isa in ("base", "avx2", "avx512"):
        done = run(DIGEST, GAS_RT_ISA=isa)
        if done.returncode != 0:
            assert "GAS_RT_ISA: this machine and build have" in done.stderr
            continue
        used, digest = done.stdout.split()
        assert used == isa
        digests[isa] = digest
    assert "base" in digests
    assert len(set(digests.values())) == 1, digests


def test_an_unknown_instruction_set_is_an_error() -> None:
    done = run("from gas_rt import kernels; kernels.kernel_isa()", GAS_RT_ISA="avx3")
    assert done.returncode != 0
    assert "BackendError" in done.stderr
    assert "base, got 'avx3'; name one of them or unset it" in done.stderr


def test_an_unknown_implementation_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAS_RT_KERNELS", "cuda")
    with pytest.raises(InputError, match=r"GAS_RT_KERNELS: expected native or numpy, got 'cuda'"):
        kernels.rodrigues(f32([[0, 0, 0]]))


def test_missing_kernels_are_an_error_unless_the_twins_are_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_backend, "_load_error", ImportError("no such file"))
    with pytest.raises(BackendError, match=r"cannot be loaded \(no such file\); build them"):
        kernels.rodrigues(f32([[0, 0, 0]]))
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    assert kernels.kernel_isa() == "numpy"
    np.testing.assert_allclose(kernels.rodrigues(f32([[0, 0, 0]]))[0], np.eye(3))


def test_many_callers_share_the_pool() -> None:
    vertices, faces = sphere(24)
    camera = frontal_camera(64)
    want = kernels.rasterize(vertices, faces, camera)
    failures: list[Any] = []

    def caller() -> None:
        for threads in (1, 2, 3, 4) * 5:
            got = kernels.rasterize(vertices, faces, camera, threads=threads)
            if got.face_id.tobytes() != want.face_id.tobytes():
                failures.append(threads)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not failures


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux places threads, others not")
@pytest.mark.parametrize("one_core", [True, False])
def test_the_pools_threads_keep_off_the_callers_core(one_core: bool) -> None:
    done = run(
        "import os, sys\n"
        "sys.path.insert(0, 'tests/kernels')\n"
        "from geometry_cases import frontal_camera, sphere\n"
        "from gas_rt import kernels\n"
        "allowed = os.sched_getaffinity(0)\n"
        f"if {one_core}: allowed = {{min(allowed)}}; os.sched_setaffinity(0, allowed)\n"
        "before = set(os.listdir('/proc/self/task'))\n"
        "kernels.rasterize(*sphere(20), frontal_camera(64), threads=2)\n"
        "assert os.sched_getaffinity(0) == allowed\n"
        "(worker,) = set(os.listdir('/proc/self/task')) - before\n"
        "print(len(allowed), len(os.sched_getaffinity(int(worker))))\n"
    )
    assert done.returncode == 0, done.stderr
    allowed, workers = map(int, done.stdout.split())
    assert workers == max(1, allowed - 1)


def test_a_forked_child_and_the_exit_do_not_hang() -> None:
    done = run(
        "import os, sys, threading, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "sys.path.insert(0, 'tests/kernels')\n"
        "from geometry_cases import frontal_camera, sphere\n"
        "from gas_rt import kernels\n"
        "work = lambda: kernels.rasterize(*sphere(20), frontal_camera(64), threads=3)\n"
        "busy = threading.Thread(target=lambda: [work() for _ in range(50)], daemon=True)\n"
        "work(); busy.start()\n"
        "for _ in range(5):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        work(); sys.exit(7)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "print('done')\n"
    )
    assert done.stdout.strip() == "done", done.stderr
    assert done.returncode == 0
