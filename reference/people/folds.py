"""The folds of worn cloth, as heights over the rest body: where it is bent, bunched or hangs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.fields import Fields, ramp
from reference.people.garments import bottom_hem_y, top_hem_y
from reference.people.noise import NoiseBank
from reference.people.outfit import Bottom, Outfit, Top

F32 = NDArray[np.float32]

__all__ = ["Folds"]


class Folds:
    """Height of each garment's folds at a set of points, about in [-1, 1] where they are deep.

    The same `rng` gives the same folds at the vertices, which they displace, and at the texels,
    whose colours they darken.
    """

    def __init__(
        self, outfit: Outfit, fields: Fields, noise: NoiseBank, rng: np.random.Generator
    ) -> None:
        self.outfit = outfit
        self.fields = fields
        tall, flat, along = (noise.draw(f"{name} folds", rng) for name in ("tall", "flat", "long"))
        on_arm = fields.sleeve > 0
        # Around a limb: a bent or pushed-up sleeve, a trouser leg on its shoe. Down it: hanging.
        self._around = _ridges(np.where(on_arm, tall, flat))
        self._down = _ridges(np.where(on_arm, along, tall))

    def of(self, layer: str) -> F32:
        """[N] of a garment's layer."""
        fields, anatomy = self.fields, self.fields.anatomy
        if layer == "bottom" and self.outfit.bottom.kind != "skirt":
            return self._trousers(self.outfit.bottom)
        if layer in ("top", "outer"):
            elbow = _hill(fields.side_x, anatomy.elbow_x, 0.07)
            cuff = _hill(fields.side_x, anatomy.wrist_x, 0.07)
            sleeve = (0.25 + 0.6 * elbow + 0.5 * cuff) * (fields.sleeve > 0.01)
            hem = top_hem_y(self.outfit.top, anatomy)
            waist = _hill(fields.y, hem + 0.05, 0.08) + 0.5 * _hill(fields.y, anatomy.waist_y, 0.06)
            armpit = _hill(fields.side_x, anatomy.shoulder_x, 0.06) * _hill(
                fields.y, anatomy.chest_y + 0.02, 0.10
            )
            trunk = np.float32(1) - ramp(fields.sleeve, 0.06)
            around = sleeve + trunk * (0.7 * waist)
            down = 0.3 * sleeve + trunk * (0.35 + 0.6 * armpit)
            return self._mixed(around, down) * _scale(self.outfit.top, layer)
        return np.zeros_like(fields.x)

    def _trousers(self, bottom: Bottom) -> F32:
        fields, anatomy = self.fields, self.fields.anatomy
        hem = max(bottom_hem_y(bottom, anatomy), anatomy.ankle_y)
        knee = _hill(fields.y, anatomy.knee_y - 0.02, 0.08)
        stacked = _hill(fields.y, hem + 0.03, 0.09)
        crotch = _hill(fields.y, anatomy.crotch_y - 0.02, 0.07) * (
            1 - ramp(fields.side_x - 0.12, 0.08)
        )
        around = 0.45 * knee + 0.6 * stacked + 0.5 * crotch
        down = np.full_like(fields.y, 0.3)
        loose = {"leggings": 0.15, "joggers": 1.1}.get(bottom.kind, 0.9)
        return self._mixed(around, down) * np.float32(loose * bottom.fabric.wrinkles)

    def _mixed(self, around: F32, down: F32) -> F32:
        return np.asarray(around * self._around + down * self._down, np.float32)


def _scale(top: Top, layer: str) -> np.float32:
    tight = {"tank": 0.5, "dress": 0.5, "hoodie": 1.1, "sweater": 0.9, "shirt": 1.1}
    return np.float32(top.fabric.wrinkles * (1.0 if layer == "outer" else tight.get(top.kind, 0.9)))


def _ridges(noise: F32) -> F32:
    """Rounded hills with sharp valleys between them, as cloth folds. [N] → [N]."""
    return np.asarray(np.clip(2.4 * np.abs(noise / 0.35) ** 0.8 - 1.7, -1.6, 1.6) * 0.7, np.float32)


def _hill(value: F32, centre: float, width: float) -> F32:
    return np.exp(-(((value - np.float32(centre)) / np.float32(width)) ** 2)).astype(np.float32)
