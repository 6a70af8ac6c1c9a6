"""What hides what from the light: shares of the light that reach the vertices of a mesh.

One depth picture per direction, as nearly orthographic as float32 allows; a vertex is lit where
nothing lies before it. All directions are tested at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gas_rt import kernels
from gas_rt.core import Camera

F32 = NDArray[np.float32]

__all__ = ["Proxy", "bake_occlusion", "sphere", "visibility"]

DISTANCE_M = 40.0
BIAS_M = 0.006

BAKED_DIRECTIONS = 40
BAKED_PICTURE = 224
BAKED_OFFSET_M = 0.006


PROXY_CELL_M = 0.03
PROXY_NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class Proxy:
    """A coarse mesh made of some of a mesh's vertices, for light, which is soft.

    Attributes
    ----------
    ids : [P] vertices of the fine mesh; faces [F,3] index them.
    nearest, weights : [V,3] which of the P each fine vertex is lit like, and how much.
    """

    ids: NDArray[np.int64]
    faces: NDArray[np.int32]
    nearest: NDArray[np.int64]
    weights: F32

    @classmethod
    def of(cls, vertices: F32, faces: NDArray[np.int32], normals: F32) -> Proxy:
        """One vertex per cell of a grid; faces between three cells stay."""
        _, cell = np.unique(
            np.floor(vertices / PROXY_CELL_M).astype(np.int64), axis=0, return_inverse=True
        )
        count = int(cell.max()) + 1
        size = np.bincount(cell, minlength=count)[:, None]
        mean = np.stack([np.bincount(cell, vertices[:, k], count) for k in range(3)], 1) / size
        order = np.argsort(np.linalg.norm(vertices - mean[cell], axis=1), kind="stable")
        ids = np.empty(count, np.int64)
        ids[cell[order[::-1]]] = order[::-1]
        coarse = cell[faces]
        kept = (coarse != np.roll(coarse, 1, 1)).all(1)
        # Normals keep the two sides of a hand or an ear apart.
        places = np.concatenate([vertices, 0.05 * normals], 1)
        distance, nearest = cKDTree(places[ids]).query(places, PROXY_NEIGHBOURS)
        weights = 1 / (distance + 0.01)
        weights /= weights.sum(1, keepdims=True)
        return cls(
            ids, coarse[kept].astype(np.int32), nearest.astype(np.int64), weights.astype(np.float32)
        )

    def extended(self, vertices: int, faces: NDArray[np.int32]) -> Proxy:
        """With `vertices` more, all kept, and their faces [f,3], numbered as in the fine mesh."""
        before, coarse = len(self.nearest), len(self.ids)
        own = np.repeat(np.arange(coarse, coarse + vertices)[:, None], PROXY_NEIGHBOURS, 1)
        share = np.full((vertices, PROXY_NEIGHBOURS), 1 / PROXY_NEIGHBOURS, np.float32)
        return Proxy(
            np.concatenate([self.ids, np.arange(before, before + vertices)]),
            np.concatenate([self.faces, faces + np.int32(coarse - before)]),
            np.concatenate([self.nearest, own]),
            np.concatenate([self.weights, share]),
        )

    def spread(self, values: F32) -> F32:
        """[P] → [V]."""
        return np.einsum("vk,vk->v", values[self.nearest], self.weights)


def bake_occlusion(vertices: F32, faces: NDArray[np.int32], normals: F32) -> F32:
    """Share of the sky each vertex sees, cosine weighted, in [0, 1]. [V]."""
    directions = sphere(BAKED_DIRECTIONS)
    seen = visibility(
        vertices, faces, normals, directions, picture=BAKED_PICTURE, offset_m=BAKED_OFFSET_M
    )
    weight = np.maximum(directions @ normals.T, 0)
    return np.asarray((seen * weight).sum(0) / (weight.sum(0) + 1e-6), np.float32)


def sphere(count: int) -> F32:
    """Evenly spread unit vectors (Fibonacci). [count,3]."""
    i = np.arange(count) + 0.5
    y = 1 - 2 * i / count
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(angle), y, r * np.sin(angle)], 1).astype(np.float32)


def visibility(
    vertices: F32,
    faces: NDArray[np.int32],
    normals: F32,
    directions: F32,
    *,
    picture: int,
    offset_m: float,
) -> F32:
    """How much of the light from each direction passes everything else. [K,V] in [0, 1].

    Parameters
    ----------
    vertices, normals : [V,3] metres and unit, world; faces [F,3].
    directions : [K,3] unit, towards the light. What faces away is not told from what is lit.
    picture : side of a depth picture, pixels; its pixel is the shadow's softness.
    offset_m : how far off its surface a vertex is tested, against shadows of its own faces.
    """
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = float(np.sqrt(((vertices - centre) ** 2).sum(1).max())) + offset_m
    cameras = [_from_afar(d, centre, radius, picture) for d in directions]
    depth = np.full((len(cameras), picture + 1, picture + 1), np.inf, np.float32)
    for k, camera in enumerate(cameras):
        raster = kernels.rasterize(vertices, faces, camera)
        depth[k, :-1, :-1] = np.where(raster.mask, raster.depth, np.inf)
    lifted = vertices + np.float32(offset_m) * normals
    rotation = np.stack([c.rotation for c in cameras])
    local = (
        lifted @ rotation.transpose(0, 2, 1) + np.stack([c.translation for c in cameras])[:, None]
    )
    focal = cameras[0].intrinsics[0, 0]
    pixel = local[..., :2] * (focal / local[..., 2:]) + np.float32(picture / 2 - 0.5)
    pixel = np.clip(pixel, 0, picture - 1)
    corner = pixel.astype(np.int32)
    x, y = np.moveaxis(pixel - corner, -1, 0)
    near = local[..., 2] - np.float32(BIAS_M)
    flat = corner[..., 1] * (picture + 1) + corner[..., 0]
    flat += np.arange(len(cameras), dtype=np.int32)[:, None] * (picture + 1) ** 2
    depths = depth.ravel()
    # The share of the four nearest pixels in which the vertex is not behind what they show.
    lit = np.zeros(near.shape, np.float32)
    for step, weight in (
        (0, (1 - x) * (1 - y)),
        (1, x * (1 - y)),
        (picture + 1, (1 - x) * y),
        (picture + 2, x * y),
    ):
        lit += weight * (near < depths[flat + step])
    return lit


def _from_afar(direction: F32, centre: F32, radius_m: float, picture: int) -> Camera:
    """A nearly orthographic camera in `direction` from `centre`, the sphere filling the picture."""
    forward = -direction
    up = np.array([0, 1, 0] if abs(direction[1]) < 0.9 else [1, 0, 0], np.float32)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    focal = 0.5 * picture * DISTANCE_M / (radius_m * 1.02)
    half = picture / 2
    intrinsics = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]], np.float32)
    translation = -rotation @ (centre + direction * np.float32(DISTANCE_M))
    return Camera(intrinsics, rotation, translation.astype(np.float32), picture, picture)
