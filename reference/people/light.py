"""A soft key light and a sky over a floor, both fixed in the world of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["Light", "draw_light"]

WRAP = 0.25
"""How far the key light reaches around the terminator; skin and cloth scatter."""

BOUNCED = 0.22
"""Share of the ambient light that reaches a crease all the same, off the surfaces around it."""

LAMP_RAD = 0.16
"""Half the angle under which the key light's lamp or window is seen: its shadows' softness."""

TINT = (0.5, 0.08, -0.58)
"""Red, green, blue that a warmth of 1 adds to the key light; the sky is tinted half as much the
other way."""


@dataclass(frozen=True)
class Light:
    """Key `direction` (unit, world, towards the light), strengths, and how warm the key light is.

    Strengths are of linear light: a white surface square to both would have brightness
    key + sky. `warmth` is 0 for white light, positive towards orange.
    """

    direction: tuple[float, float, float]
    key: float
    sky: float
    ground: float
    warmth: float

    def lamp(self, count: int) -> F32:
        """Directions spread over the lamp. [count,3] unit."""
        forward = np.array(self.direction, np.float32)
        side = np.cross(forward, [0.0, 1.0, 0.0])
        side /= np.linalg.norm(side)
        turn = np.arange(count) * (2 * np.pi / count)
        ring = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(side, forward)
        spread = forward + np.float32(np.tan(LAMP_RAD)) * ring
        return np.asarray(spread / np.linalg.norm(spread, axis=1, keepdims=True), np.float32)

    def irradiance(self, normals: F32, lit: F32, open_: F32) -> F32:
        """Linear light at unit normals. [N,3] → [N,3].

        lit, open_ : [N] shares of the lamp and of the surroundings that are seen.
        """
        facing = normals @ np.array(self.direction, np.float32)
        key = self.key * lit * np.clip((facing + WRAP) / (1 + WRAP), 0, None)
        up = 0.5 + 0.5 * normals[:, 1]
        ambient = self.ground + (self.sky - self.ground) * up
        ambient = ambient * (BOUNCED + (1 - BOUNCED) * open_)
        tint = np.float32(self.warmth) * np.array(TINT, np.float32)
        return np.asarray(key[:, None] * (1 + tint) + ambient[:, None] * (1 - tint / 2), np.float32)

    def as_array(self) -> F32:
        """[7]: direction, key, sky, ground, warmth."""
        return np.array([*self.direction, self.key, self.sky, self.ground, self.warmth], np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """A light from above, anywhere but from behind the photographer's subject at the floor."""
    azimuth = rng.uniform(-1.3, 1.3)
    elevation = rng.uniform(0.35, 1.1)
    direction = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    key = float(rng.uniform(0.45, 0.95))
    sky = float(rng.uniform(1.2, 1.35)) - key * 0.75
    ground = sky * float(rng.uniform(0.45, 0.7))
    return Light(direction, key, sky, ground, float(np.clip(rng.normal(0.1, 0.12), -0.15, 0.35)))
