"""A posed person as a picture: raster at twice the size, shade, box filter.

Light is computed at the vertices of a pose, with the shadows that the person throws on itself, and
shared by all pictures of that pose.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.core import Camera
from reference.people.light import Light
from reference.people.occlusion import sphere, visibility
from reference.people.person import Person, PersonState

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

__all__ = ["render"]

SUPERSAMPLING = 2
INSIDE_GAIN = 0.62
"""Brightness of the inside of skirts, hoods and coats against their outside."""


SKY_DIRECTIONS = 10
LAMP_DIRECTIONS = 3
SHADOW_PICTURE = 112
"""A pixel of it is about 2 cm: shadows blur over the width of a limb's edge."""

SHADOW_OFFSET_M = 0.018


def render(
    person: Person, state: PersonState, camera: Camera, *, light: Light, threads: int = 1
) -> tuple[U8, U8]:
    """Picture [H,W,3] sRGB over black, premultiplied by coverage, and coverage [H,W]."""
    fine = camera.resized(width=camera.width * SUPERSAMPLING, height=camera.height * SUPERSAMPLING)
    mesh = person.mesh
    raster = kernels.rasterize(state.vertices, mesh.faces, fine, threads=threads)
    albedo = kernels.sample_texture(raster, mesh.uv, mesh.uv_faces, person.texture, threads=threads)
    shading = np.concatenate([_irradiance(person, state, light), _facing(state, fine)], 1)
    gain = kernels.interpolate(raster, mesh.faces, shading, threads=threads)
    inside = (raster.face_id >= mesh.body_faces) & (gain[..., 3] < 0)
    gain = gain[..., :3] * np.where(inside, np.float32(INSIDE_GAIN), np.float32(1))[..., None]
    # Albedo is linear; the picture is encoded before filtering, since coverage blends sRGB.
    colour = np.sqrt(np.clip(albedo * gain, 0, 1))
    mask = raster.mask.astype(np.float32)
    rgb = _box_filter(colour * mask[..., None])
    alpha = _box_filter(mask[..., None])[..., 0]
    return _quantise(rgb), _quantise(alpha)


@lru_cache(maxsize=2)
def _irradiance(person: Person, state: PersonState, light: Light) -> F32:
    """Linear light at the vertices of a state, what the person hides of it left out. [V,3].

    Cached, since an orbit shows one state from everywhere; people and states compare as objects.
    """
    sky = sphere(SKY_DIRECTIONS)
    directions = np.concatenate([sky, light.lamp(LAMP_DIRECTIONS)])
    proxy = person.mesh.proxy
    normals = state.normals[proxy.ids]
    seen = visibility(
        state.vertices[proxy.ids],
        proxy.faces,
        normals,
        directions,
        picture=SHADOW_PICTURE,
        offset_m=SHADOW_OFFSET_M,
    )
    cosine = np.maximum(sky @ normals.T, 0)
    open_ = (seen[:SKY_DIRECTIONS] * cosine).sum(0) / (cosine.sum(0) + np.float32(1e-6))
    lit = seen[SKY_DIRECTIONS:].mean(0)
    return light.irradiance(state.normals, proxy.spread(lit), proxy.spread(open_))


def _facing(state: PersonState, camera: Camera) -> F32:
    """Whether the outside of a vertex faces the camera: positive if so. [V,1]."""
    eye = -camera.rotation.T @ camera.translation
    facing = np.einsum("vc,vc->v", state.normals, eye - state.vertices)
    return np.asarray(facing[:, None], np.float32)


def _box_filter(picture: F32) -> F32:
    """[s·H, s·W, C] → [H, W, C]."""
    s = SUPERSAMPLING
    height, width, channels = picture.shape
    return picture.reshape(height // s, s, width // s, s, channels).mean((1, 3))


def _quantise(picture: F32) -> U8:
    return (picture * np.float32(255) + np.float32(0.5)).astype(np.uint8)
