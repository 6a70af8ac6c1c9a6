"""SMPL's 24 joints: names, tree, mirror, and the canonical "big pose"."""

from __future__ import annotations

import numpy as np

from gas_rt.core import Pose

__all__ = ["JOINT_NAMES", "MIRROR", "PARENTS", "big_pose", "joint_index"]

JOINT_NAMES = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar"),
    *("right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist", "left_hand", "right_hand"),
)
PARENTS = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
    *(9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
)
MIRROR = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)


def joint_index(name: str) -> int:
    """The joint's row in a pose."""
    return JOINT_NAMES.index(name)


def big_pose() -> Pose:
    """The canonical pose: legs 45 degrees apart, feet turned back, arms as in the T-pose."""
    rotations = np.zeros((len(JOINT_NAMES), 3), np.float32)
    for name, degrees in (
        ("left_hip", 45),
        ("right_hip", -45),
        ("left_ankle", -30),
        ("right_ankle", 30),
    ):
        rotations[joint_index(name), 2] = np.deg2rad(degrees)
    return Pose(rotations)
