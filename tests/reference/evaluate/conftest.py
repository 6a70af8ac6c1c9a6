"""A small case: a grey square on 16 × 16 pixels, seen by an orbit or moving."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_people import orbit_camera

from gas_rt.core import Pose
from reference.data import Picture
from reference.evaluate.cases import Case

SIDE = 16
AZIMUTHS = (0.0, np.radians(59.0), np.radians(120.0), np.radians(-60.0))


def square_case(task: str, *, frames: int = 4, seed: int = 950_000, side: int = SIDE) -> Case:
    """Frames of different brightness, so that mixing two of them up shows."""
    quarter = side // 4
    rgb = np.zeros((frames, side, side, 3), np.uint8)
    mask = np.zeros((frames, side, side), np.uint8)
    levels = np.linspace(40, 240, frames).astype(np.uint8)
    rgb[:, quarter:-quarter, quarter:-quarter] = levels[:, None, None, None]
    mask[:, quarter:-quarter, quarter:-quarter] = 255
    photo_camera = orbit_camera(0.0, side=side)
    rng = np.random.default_rng(0)
    poses = [Pose((0.1 * rng.normal(size=(24, 3))).astype(np.float32)) for _ in range(frames)]
    cameras = [photo_camera] * frames
    if task == "view":
        poses = [Pose.rest()] * frames
        cameras = [orbit_camera(AZIMUTHS[k % 4], side=side) for k in range(frames)]
    return Case(
        seed=seed,
        task=task,
        betas=np.zeros(10, np.float32),
        photo=Picture(rgb[0], mask[0], Pose.rest(), photo_camera),
        poses=tuple(poses),
        cameras=tuple(cameras),
        rgb=rgb,
        mask=mask,
        counted=range(1 if task == "view" else 0, frames),
    )


@pytest.fixture
def square() -> Callable[..., Case]:
    return square_case
