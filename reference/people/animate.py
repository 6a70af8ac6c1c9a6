"""A person through a sequence of poses, loose cloth and hair included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Pose
from reference.people.cloth import Capsules, leg_capsules, simulate
from reference.people.loose import LooseMesh
from reference.people.person import Person, PersonState, Skinned

F32 = NDArray[np.float32]

__all__ = ["animate", "settle"]

LEG_JOINTS = [1, 2, 4, 5, 7, 8]


def animate(person: Person, poses: Sequence[Pose], fps: float) -> list[PersonState]:
    """The person's states at `poses`, `fps` apart; at the first one everything has come to rest."""
    skinned = [person.skinned(pose) for pose in poses]
    joints = np.stack([frame.joints for frame in skinned])
    capsules = _capsules(person)
    sheets = [
        _follow(part, skinned, k, joints, capsules, fps) for k, part in enumerate(person.loose)
    ]
    return [
        person.state(frame.pose, frame.vertices, [sheet[t] for sheet in sheets])
        for t, frame in enumerate(skinned)
    ]


def settle(person: Person, pose: Pose) -> PersonState:
    """The person at rest in one pose."""
    return animate(person, [pose], 30.0)[0]


def _capsules(person: Person) -> Capsules:
    body = person.body
    is_leg = (np.isin(body.bone_ids, LEG_JOINTS) * body.bone_weights).sum(1) > 0.5
    return leg_capsules(person.clothed.vertices, person.clothed.joints, is_leg)


def _follow(
    part: LooseMesh,
    skinned: Sequence[Skinned],
    index: int,
    joints: F32,
    capsules: Capsules,
    fps: float,
) -> F32:
    """Render vertices [T,n,3] of loose mesh `index`, carried along by its simulated guides."""
    carried = np.stack([frame.sheets[index] for frame in skinned])
    if part.guides is None:
        return carried
    goals = np.stack([frame.guides[index] for frame in skinned])
    positions = simulate(part.guides, goals, joints, capsules, fps=fps)
    positions = positions.reshape(len(skinned), -1, 3)
    if positions.shape == carried.shape:
        return positions
    return carried + (positions - goals.reshape(positions.shape))[:, part.guide_of]
