"""A posed person as a picture: raster at twice the size, shade, box filter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.core import Camera
from reference.people.light import Light
from reference.people.person import Person, PersonState

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

__all__ = ["render"]

SUPERSAMPLING = 2
INSIDE_GAIN = 0.62
"""Brightness of the inside of skirts, hoods and coats against their outside."""


def render(
    person: Person, state: PersonState, camera: Camera, *, light: Light, threads: int = 1
) -> tuple[U8, U8]:
    """Picture [H,W,3] sRGB over black, premultiplied by coverage, and coverage [H,W]."""
    fine = camera.resized(width=camera.width * SUPERSAMPLING, height=camera.height * SUPERSAMPLING)
    mesh = person.mesh
    raster = kernels.rasterize(state.vertices, mesh.faces, fine, threads=threads)
    albedo = kernels.sample_texture(raster, mesh.uv, mesh.uv_faces, person.texture, threads=threads)
    shading = _shading(state, fine, light)
    gain = kernels.interpolate(raster, mesh.faces, shading, threads=threads)
    inside = (raster.face_id >= mesh.body_faces) & (gain[..., 1] < 0)
    gain = gain[..., :1] * np.where(inside, np.float32(INSIDE_GAIN), np.float32(1))[..., None]
    # Albedo is linear; the picture is encoded before filtering, since coverage blends sRGB.
    colour = np.sqrt(np.clip(albedo * gain, 0, 1))
    mask = raster.mask.astype(np.float32)
    rgb = _box_filter(colour * mask[..., None])
    alpha = _box_filter(mask[..., None])[..., 0]
    return _quantise(rgb), _quantise(alpha)


def _shading(state: PersonState, camera: Camera, light: Light) -> F32:
    """Per vertex: brightness, and whether the outside faces the camera. [V,2]."""
    brightness = light.irradiance(state.normals)
    eye = -camera.rotation.T @ camera.translation
    facing = np.einsum("vc,vc->v", state.normals, eye - state.vertices)
    return np.stack([brightness, facing], 1).astype(np.float32)


def _box_filter(picture: F32) -> F32:
    """[s·H, s·W, C] → [H, W, C]."""
    s = SUPERSAMPLING
    height, width, channels = picture.shape
    return picture.reshape(height // s, s, width // s, s, channels).mean((1, 3))


def _quantise(picture: F32) -> U8:
    return (picture * np.float32(255) + np.float32(0.5)).astype(np.uint8)
