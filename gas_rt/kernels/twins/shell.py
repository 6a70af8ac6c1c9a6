"""The posed shell in NumPy: all distances, a block of points at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

POINTS_PER_BLOCK = 256


def query_shell(
    vertices: F32,
    maps: F32,
    radius_m: float,
    points: F32,
    *,
    wide_id: I32 | None = None,
    wide_radius_m: float = 0.0,
) -> tuple[I32, F32]:
    """Vertex or -1 [N], canonical point or zero [N, 3]; see `PosedShell`."""
    vertex_id = _nearest(vertices, radius_m, points)
    if wide_id is not None and len(wide_id):
        left = np.flatnonzero(vertex_id < 0)
        farther = _nearest(vertices[wide_id], wide_radius_m, points[left])
        vertex_id[left] = np.where(farther < 0, -1, wide_id[farther])
    inside = vertex_id >= 0
    ids = vertex_id[inside]
    canonical = np.zeros((len(points), 3), np.float32)
    canonical[inside] = np.einsum("nik,nk->ni", maps[ids, :, :3], points[inside]) + maps[ids, :, 3]
    return vertex_id, canonical


def _nearest(vertices: F32, radius_m: float, points: F32) -> I32:
    """The vertex nearest to each point, or -1 beyond the radius."""
    vertex_id = np.full(len(points), -1, np.int32)
    limit = np.float32(radius_m) * np.float32(radius_m)
    for start in range(0, len(points), POINTS_PER_BLOCK):
        block = slice(start, start + POINTS_PER_BLOCK)
        x, y, z = np.moveaxis(points[block, None] - vertices, 2, 0)  # each [n, V]
        squared = x * x + y * y + z * z
        nearest = squared.argmin(1)  # the first of equals
        inside = np.take_along_axis(squared, nearest[:, None], 1)[:, 0] < limit
        vertex_id[block][inside] = nearest[inside]
    return vertex_id
