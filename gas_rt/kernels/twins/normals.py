"""Vertex normals and the normal map's colours in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels.twins.raster import interpolate

if TYPE_CHECKING:
    from gas_rt.kernels.raster import Raster

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def vertex_normals(vertices: F32, faces: I32, *, threads: int = 1) -> F32:
    """Angle-weighted unit normals [V, 3]."""
    corners = vertices[faces]  # [F, 3 corners, 3]
    normals = _normalized_or_zero(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
    )
    sums = np.zeros((len(vertices), 3), np.float32)
    for i in range(3):
        a = corners[:, (i + 1) % 3] - corners[:, i]
        b = corners[:, (i + 2) % 3] - corners[:, i]
        angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))
        np.add.at(sums, faces[:, i], normals * angle[:, None])
    return _normalized_or_zero(sums)


def shade_normals(camera: Camera, raster: Raster, faces: I32, normals: F32) -> F32:
    """The normal map [H, W, 3] in the release's colours."""
    n = _normalized_or_zero(interpolate(raster, faces, normals) @ camera.rotation.T)
    colour = 0.5 + 0.5 * n * np.array([1, -1, -1], np.float32)
    return np.where(raster.face_id[..., None] >= 0, colour, np.float32(0)).astype(np.float32)


def _normalized_or_zero(v: F32) -> F32:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.asarray(v / np.where(length > 0, length, 1), np.float32)
