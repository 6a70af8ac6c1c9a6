"""Bare skin: tone, flush, soft anatomy, nails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.fields import Fields, ramp
from reference.people.look import Face
from reference.people.noise import NoiseBank
from reference.people.texture.blend import over, shade

F32 = NDArray[np.float32]

__all__ = ["paint_skin"]


def paint_skin(face: Face, fields: Fields, noise: NoiseBank, rng: np.random.Generator) -> F32:
    """Skin colours [N,3] of the whole body."""
    count = len(fields.x)
    colours = np.empty((count, 3), np.float32)
    colours[:] = face.skin
    mottle = 0.5 * noise.draw("medium", rng) + 0.5 * noise.draw("fine", rng)
    shade(colours, 1 + 0.05 * mottle)
    anatomy = fields.anatomy
    warm = np.clip(np.array(face.skin, np.float32) * np.array([0.98, 0.80, 0.76], np.float32), 0, 1)
    tips = ramp(fields.side_x - np.float32(anatomy.wrist_x + 0.11), 0.06) * (fields.hand > 0.5)
    joints = np.exp(-(((fields.side_x - anatomy.elbow_x) / 0.03) ** 2)) * (fields.sleeve > 0)
    knees = np.exp(-(((fields.y - anatomy.knee_y) / 0.04) ** 2)) * (fields.leg > 0.5)
    ears = ramp(fields.side_x - anatomy.head.radii[0] + 0.002, 0.01) * (fields.head > 0.6)
    flush = np.maximum.reduce([0.7 * tips, 0.5 * joints, 0.5 * knees, 0.8 * ears])
    over(colours, (warm[0], warm[1], warm[2]), flush.astype(np.float32))
    return colours
