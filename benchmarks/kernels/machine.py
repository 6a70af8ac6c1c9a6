"""What this machine can do at best: read from memory and from cache, multiply and add."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from gas_rt.stream.report import package_versions

__all__ = ["Peaks", "describe", "measure_peaks", "numpy_threads"]

PEERS = ("torch", "smplx", "scipy", "pybullet")
SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GAS_RT_ISA")
FLAGS = ("sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "asimd", "fphp")


@dataclass(frozen=True)
class Peaks:
    """Best of several measurements, by number of cores.

    Attributes
    ----------
    cached_gb_s : reading 16 MB of float32 again and again (the size of SMPL's pose offsets).
    memory_gb_s : reading 512 MB, more than any cache holds.
    gflop_s : float32 multiply and add in BLAS matrix products.
    how : in words.
    """

    cached_gb_s: dict[int, float]
    memory_gb_s: dict[int, float]
    gflop_s: dict[int, float]
    how: str

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)

    def share_of_reading(self, bytes_read: float, ms: float, cores: int) -> dict[str, float]:
        """Achieved GB/s, and its share of both peaks."""
        rate = bytes_read / ms / 1e6
        return {
            "gb_s": round(rate, 2),
            "share_of_cached": round(rate / self.cached_gb_s[cores], 3),
            "share_of_memory": round(rate / self.memory_gb_s[cores], 3),
        }

    def share_of_flops(self, flop: float, ms: float, cores: int) -> dict[str, float]:
        """Achieved Gflop/s, and its share of the peak."""
        rate = flop / ms / 1e6
        return {"gflop_s": round(rate, 1), "share_of_fma": round(rate / self.gflop_s[cores], 3)}


def measure_peaks(*, cores: int, quick: bool) -> Peaks:
    """Measure with one core and with `cores`, each core running a single-threaded BLAS call."""
    tries = 3 if quick else 15
    counts = sorted({1, cores})
    small = np.ones(4 << 20, np.float32)  # 16 MB
    large = np.ones((16 << 20) if quick else (128 << 20), np.float32)
    side = 512 if quick else 2048
    square = np.ones((side, side), np.float32)
    outs = [np.empty_like(square) for _ in range(cores)]
    with numpy_threads(1) as limited:
        cached = {n: _reading(small, n, tries, passes=8) for n in counts}
        memory = {n: _reading(large, n, tries, passes=1) for n in counts}
        flops = {}
        for n in counts:
            work = [lambda out=out: np.matmul(square, square, out=out) for out in outs[:n]]
            flops[n] = n * 2 * side**3 / _fastest_s(work, tries) / 1e9
    how = (
        f"NumPy's BLAS, one thread a core: sdot of an array with itself, 16 MB and "
        f"{large.nbytes >> 20} MB, split between the cores; sgemm {side} x {side}; best of {tries}"
    )
    if not limited:
        how += "; its threads could not be limited, so one core's figures may be of several"
    return Peaks(_rounded(cached), _rounded(memory), _rounded(flops), how)


def describe() -> dict[str, Any]:
    """The environment the figures depend on."""
    return {
        **gas_rt.info(),
        "cpu_flags": _cpu_flags(),
        "peers": package_versions(PEERS),
        "settings": {name: os.environ.get(name) for name in SETTINGS},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


@contextmanager
def numpy_threads(count: int) -> Iterator[bool]:
    """Within it NumPy's BLAS uses `count` threads; yields whether it could be told."""
    library = _openblas()
    if library is None:
        yield False
        return
    before = library.scipy_openblas_get_num_threads64_()
    library.scipy_openblas_set_num_threads64_(count)
    try:
        yield True
    finally:
        library.scipy_openblas_set_num_threads64_(before)


def _openblas() -> Any:
    """The OpenBLAS that came with NumPy's wheel, or None."""
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(folder.glob("libscipy_openblas64_*")):
        return ctypes.CDLL(str(path))
    return None


def _reading(array: np.ndarray, cores: int, tries: int, *, passes: int) -> float:
    """GB/s of reading `array`, divided among the cores."""

    def reader(part: np.ndarray) -> Callable[[], object]:
        return lambda: [np.dot(part, part) for _ in range(passes)]

    work = [reader(part) for part in np.array_split(array, cores)]
    return passes * array.nbytes / _fastest_s(work, tries) / 1e9


def _fastest_s(work: list[Callable[[], object]], tries: int) -> float:
    """Seconds until all of `work`, each on a thread of its own, is done; the best of `tries`."""
    best = float("inf")
    for _ in range(tries):
        gate = threading.Barrier(len(work) + 1)

        def run(task: Callable[[], object], gate: threading.Barrier = gate) -> None:
            gate.wait()
            task()

        threads = [threading.Thread(target=run, args=(task,)) for task in work]
        for thread in threads:
            thread.start()
        gate.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        best = min(best, time.perf_counter() - start)
    return best


def _rounded(values: dict[int, float]) -> dict[int, float]:
    return {key: round(value, 2) for key, value in values.items()}


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    found = {
        word
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
        for word in line.partition(":")[2].split()
    }
    return [flag for flag in FLAGS if flag in found]
