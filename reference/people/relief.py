"""How far cloth and hair push the rest body's vertices outward."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.fields import box, ramp
from reference.people.folds import Folds
from reference.people.garments import bottom_hem_y, layers, waistband_y
from reference.people.outfit import Outfit
from reference.people.smoothing import low_pass

F32 = NDArray[np.float32]

__all__ = ["cloth_offsets"]

HEM_WIDTH_M = 0.012
FOLD_M = 0.010
"""Height of a deep fold over the cloth."""


@lru_cache(maxsize=4)
def _smooth(canvas: Canvas) -> tuple[F32, F32]:
    """Where heavy cloth would lie: displacement [V,3] onto a smoother body, and its normals."""
    fields, neighbours = canvas.vertices, canvas.neighbours
    # The feet of `fields` have their toes merged already, the body's own have not.
    positions = low_pass(neighbours, fields.position, 14)
    normals = fields.normal
    for _ in range(6):
        normals = neighbours.mean(normals)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return (positions - canvas.body.template).astype(np.float32), normals.astype(np.float32)


def cloth_offsets(outfit: Outfit, canvas: Canvas, rng: np.random.Generator) -> F32:
    """Offsets [V,3] from skin to cloth, in the rest pose; `rng` lays the folds."""
    displacement, normals = _smooth(canvas)
    fields = canvas.vertices
    thickness = np.zeros(len(fields.x), np.float32)
    smoothing = np.zeros_like(thickness)
    folds = Folds(outfit, fields, canvas.vertex_noise, rng)
    for layer in layers(outfit, fields):
        alpha = ramp(layer.distance, HEM_WIDTH_M)
        # A fold's valley does not reach the skin.
        depth = np.minimum(FOLD_M, 0.6 * layer.thickness_m + 0.001)
        raised = layer.thickness_m + depth * folds.of(layer.name)
        thickness = np.maximum(thickness, alpha * np.maximum(raised, 0.2 * layer.thickness_m))
        smoothing = np.maximum(smoothing, alpha * np.float32(layer.smoothing))
    if outfit.bottom.kind == "skirt":
        # Legs that a skirt hides are thinned, so that a stride does not push them through it.
        hem = bottom_hem_y(outfit.bottom, canvas.anatomy)
        hidden = box(fields.y, hem + 0.06, waistband_y(canvas.anatomy) - 0.10)
        thickness -= np.float32(0.018) * ramp(hidden, 0.10)
    return np.asarray(smoothing[:, None] * displacement + thickness[:, None] * normals, np.float32)
