"""Meshes, cameras and skeletons that the geometry kernels' tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

SMPL_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def sphere(rings: int) -> tuple[F32, I32]:
    """A closed unit sphere, counter-clockwise from outside; faces at the poles are degenerate."""
    polar, azimuth = np.meshgrid(
        np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    )
    xyz = [np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)]
    vertices = np.stack(xyz, -1).transpose(1, 0, 2).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(rings - 1), np.arange(2 * rings), indexing="ij")
    a = row * 2 * rings + column
    b = row * 2 * rings + (column + 1) % (2 * rings)
    c, d = a + 2 * rings, b + 2 * rings
    faces = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])
    return vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.int32)


def frontal_camera(size: int, *, distance_m: float = 5.0, focal: float = 2.0) -> Camera:
    """Looks along -z at the origin from +z; `focal` in picture widths."""
    f = focal * size
    return Camera(
        np.array([[f, 0, size / 2], [0, f, size / 2], [0, 0, 1]]),
        np.diag([1, -1, -1]),
        np.array([0, 0, distance_m]),
        size,
        size,
    )


def straight_camera(width: int, height: int, *, focal: float) -> Camera:
    """At the origin, looking along +z, y down: the world is the camera's frame."""
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(k, np.eye(3), np.zeros(3), width, height)


def bones(rng: np.random.Generator, vertices: int, joints: int) -> tuple[I32, F32]:
    """Four different bones a vertex, weights summing to 1."""
    ids = rng.permuted(np.tile(np.arange(joints), (vertices, 1)), axis=1)[:, :4]
    weights = rng.dirichlet(np.ones(4), vertices)
    return ids.astype(np.int32), weights.astype(np.float32)


def f32(value: Any) -> F32:
    """As a float32 array."""
    return np.asarray(value, np.float32)
