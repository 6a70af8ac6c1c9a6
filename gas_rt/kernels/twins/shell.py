"""The posed shell in NumPy: all distances, a block of points at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

POINTS_PER_BLOCK = 256


def query_shell(vertices: F32, maps: F32, radius_m: float, points: F32) -> tuple[I32, F32]:
    """Nearest vertex within the radius or -1 [N], canonical point or zero [N, 3]."""
    vertex_id = np.full(len(points), -1, np.int32)
    canonical = np.zeros((len(points), 3), np.float32)
    limit = np.float32(radius_m) * np.float32(radius_m)
    for start in range(0, len(points), POINTS_PER_BLOCK):
        block = slice(start, start + POINTS_PER_BLOCK)
        x, y, z = np.moveaxis(points[block, None] - vertices, 2, 0)  # each [n, V]
        squared = x * x + y * y + z * z
        nearest = squared.argmin(1)  # the first of equals
        inside = np.take_along_axis(squared, nearest[:, None], 1)[:, 0] < limit
        ids = nearest[inside]
        near = points[block][inside]
        moved = np.einsum("nik,nk->ni", maps[ids, :, :3], near) + maps[ids, :, 3]
        vertex_id[block][inside] = ids
        canonical[block][inside] = moved
    return vertex_id, canonical
