"""Smoothing of vertex attributes over a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["Neighbours", "low_pass", "relax"]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Directed edges of a mesh: source and target [E], degree [V]."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    degree: F32

    @classmethod
    def of(cls, faces: NDArray[np.int32], count: int) -> Neighbours:
        """The edges of faces [F,3] over `count` vertices."""
        pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64), axis=0)
        degree = np.bincount(pairs[:, 1], minlength=count).astype(np.float32)
        return cls(pairs[:, 0], pairs[:, 1], np.maximum(degree, 1))

    def mean(self, values: F32) -> F32:
        """The mean over each vertex's neighbours. [V,C] → [V,C]."""
        columns = [
            np.bincount(self.target, values[self.source, k], minlength=len(values))
            for k in range(values.shape[1])
        ]
        return (np.stack(columns, 1) / self.degree[:, None]).astype(np.float32)


def low_pass(neighbours: Neighbours, values: F32, rounds: int) -> F32:
    """Taubin's pairs of steps, which smooth without shrinking limbs. [V,C] → [V,C]."""
    for _ in range(rounds):
        for factor in (0.58, -0.60):
            values = values + np.float32(factor) * (neighbours.mean(values) - values)
    return np.asarray(values, np.float32)


def relax(neighbours: Neighbours, values: F32, rounds: int) -> F32:
    """Plain averaging, which also shrinks what stands out. [V,C] → [V,C]."""
    for _ in range(rounds):
        values = values + np.float32(0.6) * (neighbours.mean(values) - values)
    return np.asarray(values, np.float32)
