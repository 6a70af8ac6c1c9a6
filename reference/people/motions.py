"""Motions by name: random ones of our own."""

from __future__ import annotations

import numpy as np

from gas_rt.core import Pose
from reference.people.poses import random_sequence

__all__ = ["MOTIONS", "motion"]

MOTIONS = ("random",)


def motion(name: str, *, frames: int, fps: float, rng: np.random.Generator) -> list[Pose]:
    """`frames` poses of the motion `name`."""
    return random_sequence(frames, fps, rng)
