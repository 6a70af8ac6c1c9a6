"""Ambient occlusion of the rest body, baked once per body file from depth pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.core import Camera

F32 = NDArray[np.float32]

__all__ = ["bake_occlusion"]

DIRECTIONS = 40
PICTURE = 224
DISTANCE_M = 40.0
BIAS_M = 0.012


def bake_occlusion(vertices: F32, faces: NDArray[np.int32], normals: F32) -> F32:
    """Share of the sky each vertex sees, cosine weighted, in [0, 1]. [V]."""
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = float(np.linalg.norm(vertices - centre, axis=1).max())
    seen = np.zeros(len(vertices), np.float32)
    total = np.full(len(vertices), 1e-6, np.float32)
    for direction in _sphere(DIRECTIONS):
        cosine = normals @ direction
        camera = _from_afar(direction, centre, radius)
        raster = kernels.rasterize(vertices, faces, camera)
        local = vertices @ camera.rotation.T + camera.translation
        pixel = local[:, :2] / local[:, 2:] * camera.intrinsics[0, 0] + camera.intrinsics[:2, 2]
        column, row = np.clip(pixel.astype(np.int64), 0, PICTURE - 1).T
        nearest = raster.depth[row, column]
        visible = (raster.face_id[row, column] < 0) | (local[:, 2] < nearest + BIAS_M)
        weight = np.maximum(cosine, 0.0)
        seen += weight * visible
        total += weight
    return np.asarray(seen / total, np.float32)


def _sphere(count: int) -> F32:
    """Evenly spread unit vectors (Fibonacci). [count,3]."""
    i = np.arange(count) + 0.5
    y = 1 - 2 * i / count
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(angle), y, r * np.sin(angle)], 1).astype(np.float32)


def _from_afar(direction: F32, centre: F32, radius_m: float) -> Camera:
    """A nearly orthographic camera in `direction` from `centre`, the sphere filling the picture."""
    forward = -direction
    up = np.array([0, 1, 0] if abs(direction[1]) < 0.9 else [1, 0, 0], np.float32)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    focal = 0.5 * PICTURE * DISTANCE_M / (radius_m * 1.02)
    half = PICTURE / 2
    intrinsics = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]], np.float32)
    translation = -rotation @ (centre + direction * np.float32(DISTANCE_M))
    return Camera(intrinsics, rotation, translation.astype(np.float32), PICTURE, PICTURE)
