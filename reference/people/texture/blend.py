"""Laying one colour over another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["ellipse", "over", "shade"]


def over(colours: F32, paint: F32 | tuple[float, float, float], alpha: F32) -> None:
    """Blend `paint` ([3] or [N,3]) into colours [N,3] in place by alpha [N]."""
    where = np.flatnonzero(alpha > 1e-3)
    top = np.asarray(paint, np.float32)
    if top.ndim == 2:
        top = top[where]
    colours[where] += (top - colours[where]) * alpha[where, None]


def shade(colours: F32, gain: F32) -> None:
    """Multiply colours [N,3] by gain [N] in place."""
    colours *= gain[:, None]


def ellipse(x: F32, y: F32, width: float, height: float, edge: float = 0.25) -> F32:
    """Soft coverage of an ellipse of half axes `width`, `height` at the origin. [N] → [N]."""
    r = np.sqrt((x / np.float32(width)) ** 2 + (y / np.float32(height)) ** 2)
    t = np.clip((1 - r) / edge + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
