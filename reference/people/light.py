"""One soft key light and a hemispheric ambient, both fixed in the world of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["Light", "draw_light"]

WRAP = 0.3
"""How far the key light reaches around the terminator; skin and cloth scatter."""


@dataclass(frozen=True)
class Light:
    """Key `direction` (unit, world, towards the light) and strengths."""

    direction: tuple[float, float, float]
    key: float
    sky: float
    ground: float

    def irradiance(self, normals: F32) -> F32:
        """Brightness at unit normals. [N,3] → [N]."""
        facing = normals @ np.array(self.direction, np.float32)
        key = np.clip((facing + WRAP) / (1 + WRAP), 0, None)
        up = 0.5 + 0.5 * normals[:, 1]
        ambient = self.ground + (self.sky - self.ground) * up
        return np.asarray(ambient + self.key * key, np.float32)

    def as_array(self) -> F32:
        """[7]: direction, key, sky, ground, and a zero kept for later."""
        return np.array([*self.direction, self.key, self.sky, self.ground, 0], np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """A light from above, anywhere but from behind the photographer's subject at the floor."""
    azimuth = rng.uniform(-1.3, 1.3)
    elevation = rng.uniform(0.35, 1.1)
    direction = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    key = float(rng.uniform(0.45, 0.75))
    sky = float(rng.uniform(1.15, 1.3)) - key * 0.8
    return Light(direction, key, sky, sky * float(rng.uniform(0.55, 0.75)))
