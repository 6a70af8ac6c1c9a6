"""Counter-based noise: frame i's noise is a function of (seed, i), whatever ran before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gas_rt.core import F32
from gas_rt.errors import InputError

__all__ = ["ANCHOR_INDEX", "INDEX_MAX", "NOISE_GENERATOR", "SEED_MAX", "frame_noise"]

# Bit generators keep their streams across NumPy versions, `Generator.standard_normal` does not
# (NEP 19): the normals are therefore made here from Philox's raw words. Recordings name this.
NOISE_GENERATOR = "philox4x64-10/box-muller-1"
SEED_MAX = 2**64 - 1
INDEX_MAX = 2**63 - 1
ANCHOR_INDEX = -1  # the anchor is no frame of the clip, yet may need noise of its own
MANTISSA_BITS = 53


def frame_noise(seed: int, index: int, *, shape: Sequence[int], period: int | None = None) -> F32:
    """Standard normal noise of frame `index`: `shape` float32.

    Philox4x64-10 with the key (seed, index), counter from 0; each two 64-bit words give two
    normals by Box and Muller. `period` makes frames that far apart share their noise; 20 is the
    release, which repeats one tile of 20 frames.
    """
    ranges = (("seed", seed, 0, SEED_MAX), ("index", index, -INDEX_MAX, INDEX_MAX))
    for name, value, low, high in ranges:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise InputError(
                f"frame_noise: {name} must be a whole number in {low}..{high}, got {value!r}"
            )
    if period is not None and (not isinstance(period, int) or period < 1):
        raise InputError(f"frame_noise: period must be at least 1 frame or None, got {period!r}")
    counted = int(index) if period is None else int(index) % period
    count = math.prod(shape)
    words = np.random.Philox(
        key=np.array([int(seed), counted % 2**64], np.uint64), counter=0
    ).random_raw(2 * ((count + 1) // 2))
    # (0, 1]: the logarithm of 0 must not happen.
    unit = ((words >> np.uint64(64 - MANTISSA_BITS)).astype(np.float64) + 1) * 2.0**-MANTISSA_BITS
    radius = np.sqrt(-2 * np.log(unit[0::2]))
    angle = 2 * math.pi * unit[1::2]
    normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normals.reshape(-1)[:count].reshape(shape).astype(np.float32)
