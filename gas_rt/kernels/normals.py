"""Vertex normals, and the normal map as the released model was trained on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera, checked
from gas_rt.kernels import twins
from gas_rt.kernels._backend import (
    check_indices,
    check_threads,
    native,
    native_camera,
    stacked,
    use_twins,
)
from gas_rt.kernels.raster import rasterize

__all__ = ["render_normals", "vertex_normals"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def vertex_normals(vertices: F32, faces: I32, *, threads: int = 1) -> F32:
    """Unit normals [V, 3]: the faces' normals weighted by their angle at the vertex.

    A vertex without a face that has an area gets the zero vector.

    Parameters
    ----------
    vertices : [V, 3] metres; or [B, V, 3], a batch of poses, for normals [B, V, 3].
    faces : [F, 3], counter-clockwise seen from outside.
    """
    poses, batched = stacked(vertices, "vertices", shape=(None, 3))
    faces = checked(faces, "faces", shape=(None, 3), dtype=np.int32)
    check_indices(faces, "faces", count=poses.shape[1], of="vertices")
    threads = check_threads(threads)
    out = np.empty_like(poses)
    if use_twins():
        for at, pose in enumerate(poses):
            out[at] = twins.vertex_normals(pose, faces, threads=threads)
    else:
        native.vertex_normals(poses, faces, threads, out)
    return out if batched else out[0]


def render_normals(
    vertices: F32, faces: I32, camera: Camera, *, threads: int = 1
) -> tuple[F32, NDArray[np.bool_]]:
    """The normal map of a mesh in the release's convention.

    With n the smooth normal in OpenCV camera coordinates, the colour is
    ``((1 + nx) / 2, (1 - ny) / 2, (1 - nz) / 2)``, linear; facing the camera is (0.5, 0.5, 1).

    Returns
    -------
    picture : [H, W, 3] in [0, 1], black where no surface is seen.
    mask : [H, W], where one is.
    """
    if use_twins():
        raster = rasterize(vertices, faces, camera)
        normals = vertex_normals(vertices, faces)
        faces = checked(faces, "faces", shape=(None, 3), dtype=np.int32)
        return twins.shade_normals(camera, raster, faces, normals), raster.mask
    vertices = checked(vertices, "vertices", shape=(None, 3))
    faces = checked(faces, "faces", shape=(None, 3), dtype=np.int32)
    check_indices(faces, "faces", count=len(vertices), of="vertices")
    shape = (camera.height, camera.width)
    picture, mask = np.empty((*shape, 3), np.float32), np.empty(shape, np.bool_)
    native.render_normals(
        native_camera(camera), vertices, faces, check_threads(threads), picture, mask
    )
    return picture, mask
