"""Smooth noise on the rest body, precomputed per canvas and mixed per person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["NoiseBank", "lattice_noise"]

BANK = {"coarse": 0.16, "medium": 0.07, "fine": 0.03, "grain": 0.011}
"""Feature sizes in metres."""

COPIES = 3

FOLDS = {"tall folds": (0.045, 0.20, 0.07), "flat folds": (0.17, 0.042, 0.13),
         "long folds": (0.20, 0.045, 0.05)}  # fmt: skip
"""Feature sizes along x, y and z in metres: folds that run down trunk and legs, around them, and
along the arms of a T-pose (whose folds around them are tall)."""


def lattice_noise(points: F32, cell_m: F32 | float, rng: np.random.Generator) -> F32:
    """Trilinear value noise in [-1, 1]. points [N,3] metres → [N]."""
    table = rng.uniform(-1, 1, 4096).astype(np.float32)
    scaled = points / np.asarray(cell_m, np.float32)
    low = np.floor(scaled).astype(np.int64)
    t = (scaled - low).astype(np.float32)
    t = t * t * (3 - 2 * t)
    total = np.zeros(len(points), np.float32)
    for corner in np.ndindex(2, 2, 2):
        i, j, k = (low[:, axis] + corner[axis] for axis in range(3))
        key = (i * 73856093) ^ (j * 19349663) ^ (k * 83492791)
        weight = np.ones(len(points), np.float32)
        for axis in range(3):
            weight *= t[:, axis] if corner[axis] else 1 - t[:, axis]
        total += weight * table[key & 4095]
    return total


def _shear(slope: float) -> F32:
    """Points @ this are slid along y by their x. [3,3]."""
    matrix = np.eye(3, dtype=np.float32)
    matrix[0, 1] = slope
    return matrix


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """A few noise fields per feature size, at fixed points."""

    fields: dict[str, F32]

    @classmethod
    def of(cls, points: F32) -> NoiseBank:
        """The bank at points [N,3]."""
        rng = np.random.default_rng(20)
        fields = {
            name: np.stack([lattice_noise(points, cell, rng) for _ in range(COPIES)])
            for name, cell in BANK.items()
        }
        for name, cell in FOLDS.items():
            # Copies are sheared one way and the other: cloth is pulled aslant.
            sheared = [
                lattice_noise(points @ shear, np.array(cell, np.float32), rng)
                for shear in (_shear(0.0), _shear(0.35), _shear(-0.35))
            ]
            fields[name] = np.stack(sheared)
        return cls(fields)

    def draw(self, name: str, rng: np.random.Generator) -> F32:
        """A random mixture of one size's fields, about in [-1, 1]. [N]."""
        fields = self.fields[name]
        mix = rng.normal(size=len(fields)).astype(np.float32)
        return np.asarray(mix @ fields / (np.linalg.norm(mix) + 1e-6), np.float32)
