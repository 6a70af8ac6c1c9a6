"""Hands at rest: fingers a little curled and closed, which the body's pose cannot say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import ShapedBody
from reference.people.fields import Fields, ramp

F32 = NDArray[np.float32]

__all__ = ["hand_offsets"]

CURL_RAD = (0.5, 1.5)
"""From an open hand to a loose fist, over a finger's length."""

CLOSING = 0.28
FINGERS_M = 0.10
HANDS = ((1.0, 22, 20), (-1.0, 23, 21))


def hand_offsets(shaped: ShapedBody, fields: Fields, rng: np.random.Generator) -> F32:
    """Offsets [V,3] in the T-pose, whose palms look down and fingers point sideways."""
    offsets = np.zeros_like(shaped.vertices)
    for side, hand, wrist in HANDS:
        curl = float(rng.uniform(*CURL_RAD)) / FINGERS_M
        mine = (fields.hand > 0.5) & (fields.x * side > 0)
        x, y, z = shaped.vertices[mine].T
        # Fingers begin where the hand's joint is; before it, nothing bends.
        along = np.clip((x - shaped.joints[hand, 0]) * side - 0.005, 0, None)
        finger = along > 0
        if not finger.any():
            continue
        middle_y, middle_z = float(np.median(y[finger])), float(np.median(z[finger]))
        # The thumb lies forward of the palm and closes towards it less.
        thumb = ramp(z - shaped.joints[wrist, 2] - np.float32(0.045), 0.02)
        angle = np.asarray(curl * along * (1 - 0.5 * thumb), np.float32)
        above = y - middle_y
        reach = np.sin(angle) / curl - along + above * np.sin(angle)
        drop = (np.cos(angle) - 1) * (1 / curl + above)
        closed = -CLOSING * (z - middle_z) * ramp(along - 0.01, 0.03) * (1 - thumb)
        offsets[mine] = np.stack([side * reach, drop, closed], 1)
    return offsets
