"""Motions by name: the procedural ones of `gas_rt.body`, and random ones."""

from __future__ import annotations

import numpy as np

from gas_rt.body import MOTION_NAMES, procedural_motion
from gas_rt.core import Pose
from reference.people.poses import random_sequence

__all__ = ["MOTIONS", "NAMED", "motion"]

RANDOM = "random"
NAMED = tuple(MOTION_NAMES)
MOTIONS = (*NAMED, RANDOM)

LOOP_S = 3.0
"""Named motions fit a whole number of cycles into what they are asked for: not less than this."""


def motion(name: str, *, frames: int, fps: float, rng: np.random.Generator) -> list[Pose]:
    """`frames` poses of the motion `name`, from a random moment of its loop on."""
    if name == RANDOM:
        return random_sequence(frames, fps, rng)
    loop = max(frames, round(LOOP_S * fps))
    poses = list(procedural_motion(name, loop, fps=fps, seed=int(rng.integers(2**31))))
    start = int(rng.integers(loop))
    return [poses[(start + k) % loop] for k in range(frames)]
