"""Rasterisation of triangle meshes, and what is looked up per pixel afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera, as_array, checked
from gas_rt.errors import ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import (
    check_indices,
    check_threads,
    native,
    native_camera,
    use_twins,
)

__all__ = ["Raster", "interpolate", "rasterize", "sample_texture"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Raster:
    """Which surface each pixel's centre sees.

    Attributes
    ----------
    face_id : [H, W] int32, -1 where no surface is seen.
    barycentric : [H, W, 3] perspective-correct weights of the face's corners; 0 where none.
    depth : [H, W] metres along the camera's z axis; infinity where none.
    """

    face_id: I32
    barycentric: F32
    depth: F32

    def __post_init__(self) -> None:
        size = as_array(self.face_id, "Raster.face_id").shape
        wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
            "face_id": (np.int32, size),
            "barycentric": (np.float32, (*size, 3)),
            "depth": (np.float32, size),
        }
        for name, (dtype, shape) in wanted.items():
            # Not `checked`, which reads all values: a raster is made for every frame.
            array = as_array(getattr(self, name), f"Raster.{name}")
            if array.dtype != dtype or array.shape != shape or len(size) != 2:
                shown = list(shape) if len(size) == 2 else "[H, W]"
                raise ShapeError(
                    f"Raster.{name}: expected {np.dtype(dtype)} {shown}, "
                    f"got {array.dtype} {list(array.shape)}"
                )
            object.__setattr__(self, name, np.ascontiguousarray(array))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[H, W], where a surface is seen."""
        mask: NDArray[np.bool_] = self.face_id >= 0
        return mask


def rasterize(vertices: F32, faces: I32, camera: Camera, *, threads: int = 1) -> Raster:
    """The nearest face at every pixel centre; both sides of a face are seen.

    Faces that share an edge leave no gap and draw no pixel twice; of equal depths the lowest face
    wins. Nothing nearer than 1 cm to the camera's plane is drawn. The result does not depend on
    `threads`.

    Parameters
    ----------
    vertices : [V, 3] metres, world.
    faces : [F, 3].
    """
    vertices = checked(vertices, "vertices", shape=(None, 3))
    faces = checked(faces, "faces", shape=(None, 3), dtype=np.int32)
    check_indices(faces, "faces", count=len(vertices), of="vertices")
    threads = check_threads(threads)
    if use_twins():
        return Raster(*twins.rasterize(vertices, faces, camera, threads=threads))
    shape = (camera.height, camera.width)
    raster = Raster(
        np.empty(shape, np.int32), np.empty((*shape, 3), np.float32), np.empty(shape, np.float32)
    )
    native.rasterize(
        native_camera(camera),
        vertices,
        faces,
        threads,
        raster.face_id,
        raster.barycentric,
        raster.depth,
    )
    return raster


def interpolate(raster: Raster, faces: I32, attributes: F32, *, threads: int = 1) -> F32:
    """Vertex attributes at the pixels: [H, W, C], zero where no surface is seen.

    Parameters
    ----------
    faces : [F, 3] rows of `attributes`; the faces that were rasterised, or others one to one.
    attributes : [V, C].
    """
    attributes = checked(attributes, "attributes", shape=(None, None))
    faces = _checked_faces(raster, faces, "faces", attributes, "attributes")
    threads = check_threads(threads)
    if use_twins():
        return twins.interpolate(raster, faces, attributes, threads=threads)
    out = np.empty((*raster.face_id.shape, attributes.shape[1]), np.float32)
    native.interpolate(raster.face_id, raster.barycentric, faces, attributes, threads, out)
    return out


def sample_texture(
    raster: Raster, uv: F32, uv_faces: I32, texture: NDArray[Any], *, threads: int = 1
) -> F32:
    """A texture at the pixels, bilinear: [H, W, C], zero where no surface is seen.

    Parameters
    ----------
    uv : [Vt, 2]; (0, 0) is the outer corner of the texture's first texel, u runs along its rows
        and v down its columns; (1, 1) is the outer corner of the last. Outside, edges are held.
    uv_faces : [F, 3] rows of `uv`, one for each face that was rasterised.
    texture : [h, w, C] float32, or uint8 that reads as value / 255.
    """
    uv = checked(uv, "uv", shape=(None, 2))
    uv_faces = _checked_faces(raster, uv_faces, "uv_faces", uv, "uv")
    texture = np.ascontiguousarray(as_array(texture, "texture"))
    if texture.ndim != 3 or texture.dtype not in (np.float32, np.uint8) or 0 in texture.shape:
        raise ShapeError(
            "texture: expected float32 or uint8 [h, w, C] with at least one texel, "
            f"got {texture.dtype} {list(texture.shape)}"
        )
    threads = check_threads(threads)
    if use_twins():
        out = twins.sample_texture(raster, uv, uv_faces, texture, threads=threads)
    else:
        out = np.empty((*raster.face_id.shape, texture.shape[2]), np.float32)
        sample = (
            native.sample_texture_u8 if texture.dtype == np.uint8 else native.sample_texture_f32
        )
        sample(raster.face_id, raster.barycentric, uv, uv_faces, texture, threads, out)
    # A texture is larger than the picture; a NaN in the part that shows is caught here.
    if texture.dtype == np.float32 and not np.isfinite(out).all():
        raise ShapeError("texture: it holds NaN or infinite values; repair the source")
    return out


def _checked_faces(raster: Raster, faces: I32, name: str, target: F32, target_name: str) -> I32:
    faces = checked(faces, name, shape=(None, 3), dtype=np.int32)
    check_indices(faces, name, count=len(target), of=f"rows of {target_name}")
    check_indices(
        raster.face_id, "raster.face_id", count=len(faces), of=f"rows of {name}", lowest=-1
    )
    return faces
