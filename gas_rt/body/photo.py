"""Where the body is in the photo: the geometry both training and enrolment feed to stage 1.

One implementation for both, so that a trained model meets at run time what it met in training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels import rasterize

__all__ = ["VISIBLE_TOLERANCE_M", "carry_to_photo", "inverse_affine", "project", "vertex_inputs"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

# A vertex of a visible triangle may lie behind its pixel's centre by a pixel's slant; a hidden
# limb is farther behind than this.
VISIBLE_TOLERANCE_M = 0.03
MIN_DEPTH_M = 1e-3


def project(points: F32, camera: Camera) -> tuple[F32, F32]:
    """points [N,3] in the world → pixels [N,2] (centres at +0.5), depth [N] in metres."""
    seen = points @ camera.rotation.T + camera.translation
    depth = np.maximum(seen[:, 2], MIN_DEPTH_M)
    k = camera.intrinsics
    pixels = seen[:, :2] / depth[:, None] * [k[0, 0], k[1, 1]] + k[:2, 2]
    return pixels.astype(np.float32), seen[:, 2].astype(np.float32)


def normalised(pixels: F32, camera: Camera) -> F32:
    """pixels [N,2] → [-1,1] over the picture, x right, y down."""
    size = np.array([camera.width, camera.height], np.float32)
    return (2.0 * pixels / size - 1.0).astype(np.float32)


def vertex_inputs(
    vertices: F32, normals: F32, faces: I32, camera: Camera, *, threads: int = 1
) -> tuple[F32, F32]:
    """Posed vertices [V,3], normals [V,3], faces [F,3] → vertex_uv [V,2], vertex_visible [V,1].

    A vertex is visible if it faces the camera, lies inside the picture and is not more than
    `VISIBLE_TOLERANCE_M` behind the body's surface at its pixel.
    """
    pixels, depth = project(vertices, camera)
    eye = -camera.rotation.T @ camera.translation
    faces_camera = ((vertices - eye) * normals).sum(1) < 0
    raster = rasterize(vertices, faces, camera, threads=threads)
    limit = np.array([camera.width, camera.height])
    inside = ((pixels >= 0) & (pixels < limit)).all(1) & (depth > MIN_DEPTH_M)
    column, row = np.clip(pixels.astype(np.int64), 0, limit - 1).T
    surface = np.where(raster.face_id >= 0, raster.depth, np.inf)[row, column]
    visible = faces_camera & inside & (depth <= surface + VISIBLE_TOLERANCE_M)
    return normalised(pixels, camera), visible.astype(np.float32)[:, None]


def inverse_affine(maps: F32) -> F32:
    """maps [V,3,4] → their inverses [V,3,4], computed in double precision."""
    linear = np.linalg.inv(maps[:, :, :3].astype(np.float64))
    offset = -(linear @ maps[:, :, 3:].astype(np.float64))
    return np.concatenate([linear, offset], 2).astype(np.float32)


def carry_to_photo(canonical: F32, vertex_id: I32, photo_maps: F32, camera: Camera) -> F32:
    """Canonical points [N,3] → uv [N,2] in the photo, normalised to [-1,1].

    `photo_maps` [V,3,4] carries the canonical space to the photo's pose: `inverse_affine` of the
    fit's inverse maps.
    """
    moved = photo_maps[vertex_id]
    points = (moved[:, :, :3] @ canonical[:, :, None])[:, :, 0] + moved[:, :, 3]
    return normalised(project(points, camera)[0], camera)
