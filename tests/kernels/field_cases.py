"""Small fields, shells and cameras for the field kernels' tests."""

from __future__ import annotations

import numpy as np

from gas_rt.core import Camera
from gas_rt.kernels import (
    FieldTrainer,
    HashField,
    HashGridConfig,
    PosedShell,
    WideReach,
    learning_rate,
)

SMALL = HashGridConfig(levels=4, features=4, log2_table=10, base_resolution=6, per_level_scale=1.7)
LO, HI = np.float32([-0.5, -0.6, -0.4]), np.float32([0.5, 0.6, 0.4])
SPHERE_M = 0.2


def random_field(config: HashGridConfig = SMALL, *, seed: int = 0, scale: float = 0.4) -> HashField:
    rng = np.random.default_rng(seed)
    sizes = (config.n_params, 32 * config.n_padded + 512, 32 * 32 + 512)
    return HashField(config, *(rng.normal(size=n) * scale for n in sizes), LO, HI)


def constant_field(sigma: float, rgb: tuple[float, float, float]) -> HashField:
    """The same density and colour everywhere: the table is 1, so the encoding is."""
    config = HashGridConfig(levels=1, features=1, log2_table=10, base_resolution=4)
    density = np.zeros(32 * 16 + 16 * 32)
    density[0], density[16] = 1, -1  # hidden0 = (1, 0, ...)
    density[32 * 16] = np.log(np.expm1(sigma / 100))
    colour = np.zeros(32 * 32 + 16 * 32)
    colour[19] = 1  # the first of the inputs that are 1
    colour[32 * 32 : 32 * 32 + 96 : 32] = np.log(np.array(rgb) / (1 - np.array(rgb)))
    return HashField(config, np.ones(config.n_params), density, colour, LO, HI)


def sphere_samples(n: int, *, seed: int) -> tuple[np.ndarray, ...]:
    """Points, directions, density and colour of a solid, patterned sphere."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.35, 0.35, (n, 3)).astype(np.float32)
    d = rng.normal(size=(n, 3))
    d = (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)
    inside = (SPHERE_M - np.linalg.norm(x, axis=1)) * 200
    sigma = 400 / (1 + np.exp(-inside))
    rgb = 0.5 + 0.3 * np.sin(x * 12) + 0.1 * d
    return x, d, sigma.astype(np.float32), rgb.astype(np.float32)


def sphere_field(*, steps: int = 150, points: int = 8192) -> HashField:
    """`sphere_samples`, fitted."""
    trainer = FieldTrainer(SMALL, 0, lo=LO, hi=HI, threads=2)
    for step in range(steps):
        batch = sphere_samples(points, seed=step)
        trainer.step(*batch, lr=learning_rate(step, steps))
    return trainer.field()


def identity_shell(vertices: np.ndarray, *, radius_m: float, wide: bool = False) -> PosedShell:
    """With `wide` every third vertex reaches twice as far."""
    maps = np.tile(np.eye(3, 4, dtype=np.float32), (len(vertices), 1, 1))
    return _shell(vertices, maps, radius_m, wide=wide)


def _shell(vertices: np.ndarray, maps: np.ndarray, radius_m: float, *, wide: bool) -> PosedShell:
    third = WideReach(np.arange(0, len(vertices), 3, dtype=np.int32), 2 * radius_m)
    return PosedShell(vertices, maps, radius_m=radius_m, wide=third if wide else None)


def random_shell(
    *, seed: int = 0, count: int = 80, radius_m: float = 0.06, wide: bool = False
) -> PosedShell:
    """A cloud of vertices with affine maps of their own; `wide` as above."""
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-0.2, 0.2, (count, 3)).astype(np.float32)
    maps = np.eye(3, 4) + rng.normal(size=(count, 3, 4)) * 0.1
    return _shell(vertices, maps, radius_m, wide=wide)


def camera(width: int, height: int, *, distance_m: float = 1.5, turn: float = 0.0) -> Camera:
    """Looks at the origin from +z, turned about y; about one metre fills the picture."""
    size = max(width, height)
    focal = size * distance_m
    k = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    c, s = np.cos(turn), np.sin(turn)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    rotation = np.diag([1.0, -1.0, -1.0]) @ about_y
    return Camera(k, rotation, [0, 0, distance_m], width, height)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2) + 1e-12))
