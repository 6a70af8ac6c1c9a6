"""Standing poses and smooth random pose sequences, in SMPL's joint order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Pose

F32 = NDArray[np.float32]

__all__ = ["random_sequence", "standing"]

KEY_INTERVAL_S = 0.7


def standing(rng: np.random.Generator) -> Pose:
    """Relaxed, between an A-pose and arms hanging down."""
    r = np.zeros((24, 3), np.float32)
    for side, (hip, knee, shoulder, elbow, wrist) in (
        (1, (1, 4, 16, 18, 20)),
        (-1, (2, 5, 17, 19, 21)),
    ):
        r[shoulder] = (
            rng.normal(0, 0.08),
            side * rng.normal(-0.1, 0.12),
            -side * rng.uniform(0.95, 1.36),
        )
        r[elbow] = (0, -side * rng.uniform(0.05, 0.45), 0)
        r[wrist] = rng.normal(0, 0.1, 3)
        bend = rng.uniform(0, 0.12)
        r[hip] = (
            -bend + rng.normal(0, 0.04),
            side * rng.uniform(-0.05, 0.2),
            side * rng.uniform(-0.05, 0.09),
        )
        r[knee] = (2 * bend, 0, 0)
    r[3] = rng.normal(0, 0.04, 3)
    r[6] = rng.normal(0, 0.04, 3)
    r[12] = rng.normal(0, 0.06, 3)
    r[15] = rng.normal(0, 0.10, 3)
    r[0] = (rng.normal(0, 0.02), rng.normal(0, 0.12), 0)
    return Pose(r)


def _key_pose(rng: np.random.Generator) -> F32:
    """A plausible pose far from rest. [24,3]."""
    r = np.asarray(standing(rng).rotations).copy()
    energy = rng.uniform(0.3, 1.0)
    for side, (hip, knee, shoulder, elbow) in ((1, (1, 4, 16, 18)), (-1, (2, 5, 17, 19))):
        lowered = rng.choice([rng.uniform(0.9, 1.3), rng.uniform(-0.9, 0.9)], p=[0.45, 0.55])
        r[shoulder] = (
            rng.normal(0, 0.35),
            -side * rng.uniform(-0.4, 1.1) * energy,
            -side * lowered,
        )
        r[elbow] = (rng.normal(0, 0.3), -side * rng.uniform(0.1, 1.9) * energy, 0)
        lift = rng.choice([0.0, rng.uniform(0, 1.1)], p=[0.5, 0.5]) * energy
        r[hip] = (-lift + rng.normal(0, 0.2) * energy, side * rng.normal(0.1, 0.2),
                  side * rng.uniform(0.0, 0.35) * energy)  # fmt: skip
        r[knee] = (lift * rng.uniform(0.6, 1.4) + rng.uniform(0, 0.3), 0, 0)
    r[3] = rng.normal(0, (0.14, 0.12, 0.08)) * energy
    r[6] = rng.normal(0, (0.10, 0.12, 0.06)) * energy
    r[9] = rng.normal(0, (0.08, 0.12, 0.05)) * energy
    r[12] = rng.normal(0, 0.12, 3)
    r[15] = rng.normal(0, (0.15, 0.25, 0.10))
    r[0] = (rng.normal(0, 0.06), 0, rng.normal(0, 0.05))
    return r


def random_sequence(frames: int, fps: float, rng: np.random.Generator) -> list[Pose]:
    """Smooth motion through random key poses, on the spot, turning slowly."""
    keys = max(2, int(np.ceil(frames / fps / KEY_INTERVAL_S)) + 2)
    rotations = np.stack([_key_pose(rng) for _ in range(keys)])
    turn = rng.normal(0, 0.5) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    rotations[:, 0, 1] = turn + np.cumsum(rng.normal(0, 0.25, keys))
    poses = []
    for frame in range(frames):
        at = frame / fps / KEY_INTERVAL_S
        k, t = int(at), at % 1.0
        t = t * t * (3 - 2 * t)
        # Key poses are close enough for their axis-angles to be blended.
        blend = ((1 - t) * rotations[k] + t * rotations[k + 1]).astype(np.float32)
        crouch = -0.06 * float(np.abs(blend[4:6, 0]).mean())
        poses.append(Pose(blend, np.array([0, crouch, 0], np.float32)))
    return poses
