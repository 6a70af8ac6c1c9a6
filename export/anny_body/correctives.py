"""Pose correctives: what linear blend skinning lacks against rotation-preserving skinning.

When one joint turns, linear skinning averages positions and the flesh around the joint shrinks;
blending rotations about the joint instead keeps its distance. The difference, carried back to the
rest pose and regressed on the joint's rotation matrix, is what SMPL's ``posedirs`` can hold.
"""

from __future__ import annotations

import numpy as np

from export.anny_body.source import F64, I64
from gas_rt.body.skeleton import JOINT_NAMES, MIRROR, PARENTS

__all__ = ["pose_directions"]

_FLIP = np.array([-1.0, 1.0, 1.0])
# Left joints: range of motion (degrees, axis-angle components x, y, z) and share of the correction
# taken. Pure rotation blending bulges at hinges, so those take less.
_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], float]] = {
    "left_hip": ((-115, 40), (-40, 40), (-25, 60), 0.85),
    "left_knee": ((0, 140), (-10, 10), (-6, 6), 0.75),
    "left_ankle": ((-45, 40), (-25, 25), (-25, 25), 0.85),
    "left_shoulder": ((-60, 60), (-100, 35), (-85, 55), 0.85),
    "left_elbow": ((-70, 90), (-140, 0), (-10, 10), 0.75),
    "left_wrist": ((-80, 80), (-30, 30), (-70, 70), 0.85),
}
_POSES = 160
_RIDGE = 0.02
# Singular blends (half weight at 180 degrees) have no rest-pose offset; keep the inverse bounded.
_INVERSE_DAMPING = 0.03
_LEAST_OFFSET_M = 0.0003


def pose_directions(
    template: F64, joints: F64, weights: F64, mirror: I64, *, seed: int
) -> tuple[F64, dict[str, tuple[float, float]]]:
    """posedirs [V, 3, 207], and per joint the rms gap to the target (metres): before, after."""
    rng = np.random.default_rng(seed)
    directions = np.zeros((len(template), 3, 9 * (len(JOINT_NAMES) - 1)))
    report = {}
    for name, (x, y, z, share) in _RANGES.items():
        joint = JOINT_NAMES.index(name)
        low, high = np.deg2rad(np.array([x, y, z], float)).T
        rotvec = rng.uniform(low, high, (_POSES, 3))
        below = weights[:, _subtree(joint)].sum(1)
        near = np.flatnonzero((below > 0.01) & (below < 0.99))
        rotations = _rotation(rotvec)
        offsets, gap = _offsets(template[near] - joints[joint], below[near], rotvec, share)
        feature = (rotations - np.eye(3)).reshape(_POSES, 9)
        gram = feature.T @ feature + _RIDGE * _POSES * np.eye(9) / 9
        solution = np.linalg.solve(gram, np.einsum("pf,pvi->fvi", feature, offsets).reshape(9, -1))
        fitted = (feature @ solution).reshape(offsets.shape)
        solution = solution.reshape(9, len(near), 3).transpose(1, 2, 0)
        solution[np.linalg.norm(fitted, axis=-1).max(0) < _LEAST_OFFSET_M] = 0
        left = slice(9 * (joint - 1), 9 * joint)
        right = slice(9 * (MIRROR[joint] - 1), 9 * MIRROR[joint])
        directions[near, :, left] = solution
        directions[mirror[near], :, right] = solution * _mirror_signs()
        report[name] = (_rms(gap), _rms(offsets - fitted))
    return directions, report


def _rms(v: F64) -> float:
    return float(np.sqrt((v**2).sum(-1).mean()))


def _mirror_signs() -> F64:
    """[3, 9]: the sign of offset component i under rotation entry (r, c) when x is mirrored."""
    entry = np.outer(_FLIP, _FLIP).reshape(9)
    return _FLIP[:, None] * entry[None]


def _subtree(joint: int) -> list[int]:
    below = [joint]
    for j in range(joint + 1, len(PARENTS)):
        if PARENTS[j] in below:
            below.append(j)
    return below


def _offsets(arm: F64, below: F64, rotvec: F64, share: float) -> tuple[F64, F64]:
    """Rest offsets [P, N, 3] that close the gap [P, N, 3] of linear skinning, for one joint.

    arm [N, 3] is the vertex relative to the joint, below [N] the weight that follows the joint.
    """
    rotation = _rotation(rotvec)[:, None]  # [P, 1, 3, 3]
    s = below[None, :, None, None]
    blend = (1 - s) * np.eye(3) + s * rotation  # [P, N, 3, 3]
    kept = _rotation(_blended_rotvec(rotvec, below))
    gap = share * ((kept - blend) @ arm[None, :, :, None])[..., 0]
    transposed = blend.transpose(0, 1, 3, 2)
    system = transposed @ blend + _INVERSE_DAMPING * np.eye(3)
    right = transposed @ gap[..., None]
    return np.linalg.solve(system, right)[..., 0], gap


def _blended_rotvec(rotvec: F64, below: F64) -> F64:
    """Normalised blend of identity and rotation as quaternions: about the same axis, [P, N, 3]."""
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True) + 1e-12  # [P, 1]
    blended = 2 * np.arctan2(below * np.sin(angle / 2), 1 - below + below * np.cos(angle / 2))
    return blended[..., None] * (rotvec / angle)[:, None]


def _rotation(rotvec: F64) -> F64:
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)[..., None]
    axis = rotvec / (angle[..., 0] + 1e-12)
    zero = np.zeros_like(axis[..., 0])
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*rotvec.shape[:-1], 3, 3)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
