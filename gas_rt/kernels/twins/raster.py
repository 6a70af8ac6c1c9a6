"""Rasterisation in NumPy: one triangle after the other, all pixels of its bounds at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera

if TYPE_CHECKING:
    from gas_rt.kernels.raster import Raster

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

NEAR_PLANE_M = np.float32(0.01)


def rasterize(
    vertices: F32, faces: I32, camera: Camera, *, threads: int = 1
) -> tuple[I32, F32, F32]:
    """face_id [H, W], barycentric [H, W, 3], depth [H, W] of the nearest faces.

    Edge functions in homogeneous coordinates: with camera-space corners v0, v1, v2 and the ray d
    of a pixel, the signs of d . (v1 x v2), d . (v2 x v0) and d . (v0 x v1) all equal that of
    v0 . (v1 x v2) where the ray meets the triangle in front of the camera.
    """
    shape = (camera.height, camera.width)
    face_id = np.full(shape, -1, np.int32)
    barycentric = np.zeros((*shape, 3), np.float32)
    depth = np.full(shape, np.inf, np.float32)
    # Rounded to float32 here: products of two of them are exact in float64.
    seen = vertices.astype(np.float64) @ camera.rotation.astype(np.float64).T
    seen = (seen + camera.translation).astype(np.float32).astype(np.float64)
    for face, corners in enumerate(seen[faces]):
        columns, rows = _bounds(corners, camera)
        if columns.start >= columns.stop or rows.start >= rows.stop:
            continue
        covered, weights = _coverage(corners, camera, columns, rows)
        z = (weights @ corners[:, 2]).astype(np.float32)
        nearer = covered & (z >= NEAR_PLANE_M) & (z < depth[rows, columns])
        depth[rows, columns][nearer] = z[nearer]
        face_id[rows, columns][nearer] = face
        barycentric[rows, columns][nearer] = weights[nearer]
    return face_id, barycentric, depth


def interpolate(raster: Raster, faces: I32, attributes: F32, *, threads: int = 1) -> F32:
    """Vertex attributes at the pixels, [H, W, C]."""
    if len(faces) == 0:
        return np.zeros((*raster.face_id.shape, attributes.shape[1]), np.float32)
    corners = attributes[faces[raster.face_id]]  # [H, W, 3, C]
    out = np.einsum("hwk,hwkc->hwc", raster.barycentric, corners)
    return np.asarray(out, np.float32)


def sample_texture(
    raster: Raster, uv: F32, uv_faces: I32, texture: NDArray[Any], *, threads: int = 1
) -> F32:
    """A texture at the pixels, bilinear, edges held: [H, W, C]."""
    height, width, _ = texture.shape
    values = texture.astype(np.float32)
    if texture.dtype == np.uint8:
        values *= np.float32(1 / 255)
    at = interpolate(raster, uv_faces, uv) * np.array([width, height], np.float32) - 0.5
    at = np.clip(at, 0, [width - 1, height - 1]).astype(np.float32)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, [width - 1, height - 1])
    wx, wy = np.moveaxis((at - low).astype(np.float32)[..., None], 2, 0)
    upper = values[low[..., 1], low[..., 0]] * (1 - wx) + values[low[..., 1], high[..., 0]] * wx
    lower = values[high[..., 1], low[..., 0]] * (1 - wx) + values[high[..., 1], high[..., 0]] * wx
    out = upper * (1 - wy) + lower * wy
    return np.where(raster.face_id[..., None] >= 0, out, np.float32(0)).astype(np.float32)


def _bounds(corners: F64, camera: Camera) -> tuple[slice, slice]:
    """Columns and rows that may be covered: the projection of the part beyond the near plane."""
    points = [p for p in corners if p[2] >= NEAR_PLANE_M]
    for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (p[2] >= NEAR_PLANE_M) != (q[2] >= NEAR_PLANE_M):
            points.append(p + (NEAR_PLANE_M - p[2]) / (q[2] - p[2]) * (q - p))
    if not points:
        return slice(0, 0), slice(0, 0)
    k = camera.intrinsics.astype(np.float64)
    pixels = np.array([p[:2] / p[2] for p in points]) * k[[0, 1], [0, 1]] + k[:2, 2]
    size = [camera.width, camera.height]
    low = np.clip(np.ceil(pixels.min(0) - 0.51), 0, size).astype(int)
    high = np.clip(np.floor(pixels.max(0) - 0.49) + 1, 0, size).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _coverage(
    corners: F64, camera: Camera, columns: slice, rows: slice
) -> tuple[NDArray[np.bool_], F64]:
    """Which pixels [h, w] the triangle covers, and its barycentrics [h, w, 3] there."""
    k = camera.intrinsics.astype(np.float64)
    edges = np.cross(corners[[1, 2, 0]], corners[[2, 0, 1]])  # [3 edges, 3]
    sign = np.sign(corners[0] @ edges[0])
    a = sign * edges[:, 0] / k[0, 0]
    b = sign * edges[:, 1] / k[1, 1]
    c = sign * edges[:, 2] - a * k[0, 2] - b * k[1, 2]
    # Of two faces that share an edge, one owns the points on it.
    owns = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
    x = (np.arange(columns.start, columns.stop) + 0.5)[None, :, None]
    y = (np.arange(rows.start, rows.stop) + 0.5)[:, None, None]
    e = a * x + (b * y + c)  # [h, w, 3 edges]
    inside = ((e > 0) | ((e == 0) & owns)).all(2) & (sign != 0)
    total = e.sum(2, keepdims=True)
    return inside, e / np.where(total != 0, total, 1)
