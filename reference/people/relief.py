"""How far cloth and hair push the rest body's vertices outward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.fields import box, ramp
from reference.people.garments import bottom_hem_y, layers, waistband_y
from reference.people.outfit import Outfit

F32 = NDArray[np.float32]

__all__ = ["cloth_offsets", "neighbour_mean"]

HEM_WIDTH_M = 0.012


@dataclass(frozen=True, eq=False)
class _Graph:
    """Directed edges of the mesh, for averaging over neighbours."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    degree: F32


@lru_cache(maxsize=4)
def _graph(canvas: Canvas) -> _Graph:
    faces = canvas.body.faces.astype(np.int64)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    degree = np.bincount(pairs[:, 1], minlength=len(canvas.vertices.x)).astype(np.float32)
    return _Graph(pairs[:, 0], pairs[:, 1], np.maximum(degree, 1))


def neighbour_mean(canvas: Canvas, values: F32) -> F32:
    """The mean over each vertex's neighbours. [V,C] → [V,C]."""
    graph = _graph(canvas)
    columns = [
        np.bincount(graph.target, values[graph.source, k], minlength=len(values))
        for k in range(values.shape[1])
    ]
    return (np.stack(columns, 1) / graph.degree[:, None]).astype(np.float32)


@lru_cache(maxsize=4)
def _smooth(canvas: Canvas) -> tuple[F32, F32]:
    """Where heavy cloth would lie: displacement [V,3] onto a smoother body, and its normals."""
    start = canvas.vertices.position
    positions = _low_pass(canvas, start, 14)
    # Shoes have no toes: filter the feet until they are merged.
    shod = _low_pass(canvas, start, 60)
    foot = ramp(canvas.vertices.foot - np.float32(0.75), 0.4)[:, None]
    positions = positions + foot * (shod - positions)
    normals = canvas.vertices.normal
    for _ in range(6):
        normals = neighbour_mean(canvas, normals)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return (positions - start).astype(np.float32), normals.astype(np.float32)


def _low_pass(canvas: Canvas, positions: F32, rounds: int) -> F32:
    """Taubin's pairs of steps, which smooth without shrinking the limbs. [V,3]."""
    for _ in range(rounds):
        for factor in (0.58, -0.60):
            mean = neighbour_mean(canvas, positions)
            positions = (positions + np.float32(factor) * (mean - positions)).astype(np.float32)
    return positions


def cloth_offsets(outfit: Outfit, canvas: Canvas) -> F32:
    """Offsets [V,3] from skin to cloth, in the rest pose."""
    displacement, normals = _smooth(canvas)
    fields = canvas.vertices
    thickness = np.zeros(len(fields.x), np.float32)
    smoothing = np.zeros_like(thickness)
    for layer in layers(outfit, fields):
        alpha = ramp(layer.distance, HEM_WIDTH_M)
        thickness = np.maximum(thickness, alpha * layer.thickness_m)
        smoothing = np.maximum(smoothing, alpha * np.float32(layer.smoothing))
    if outfit.bottom.kind == "skirt":
        # Legs that a skirt hides are thinned, so that a stride does not push them through it.
        hem = bottom_hem_y(outfit.bottom, canvas.anatomy)
        hidden = box(fields.y, hem + 0.06, waistband_y(canvas.anatomy) - 0.10)
        thickness -= np.float32(0.018) * ramp(hidden, 0.10)
    return np.asarray(smoothing[:, None] * displacement + thickness[:, None] * normals, np.float32)
