"""When poses arrive: times that don't depend on how the session keeps up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import InputError

__all__ = ["arrival_times_ns"]

ARRIVALS_MAX = 10_000_000


def arrival_times_ns(
    seconds: float, *, fps: float, jitter_ms: float = 0.0, seed: int = 0
) -> NDArray[np.int64]:
    """[N] nanoseconds from the start, in order: one arrival per period, from 0.

    With `jitter_ms`, each is off its time by a normal deviate, the same for the same `seed`, and
    they are put in order: a network delivers late, and a source can't deliver out of order.
    """
    for name, value in (("seconds", seconds), ("fps", fps)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name}: expected a number above 0, got {value}")
    if not (jitter_ms >= 0 and math.isfinite(jitter_ms)):
        raise InputError(f"jitter_ms: expected 0 or more, got {jitter_ms}")
    count = max(1, round(seconds * fps))
    if count > ARRIVALS_MAX:
        raise InputError(
            f"seconds and fps: make {count} arrivals, at most {ARRIVALS_MAX}; shorten the run"
        )
    times = np.arange(count) * (1e9 / fps)
    if jitter_ms:
        times += np.random.default_rng(seed).normal(0.0, jitter_ms * 1e6, count)
    return np.sort(np.rint(np.maximum(times, 0.0)).astype(np.int64))
