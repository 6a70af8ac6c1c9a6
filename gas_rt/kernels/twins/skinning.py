"""Linear blend skinning in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

MIN_BLEND_DETERMINANT = 1e-4


def rodrigues(rotvec: F32) -> F32:
    """Rotation matrices [N, 3, 3] of axis-angle vectors [N, 3]."""
    return _rodrigues(rotvec).astype(np.float32)


def joint_transforms(rotations: F32, joints: F32, parents: I32) -> tuple[F32, F32]:
    """Skinning transforms [J, 3, 4] and posed joints [J, 3]."""
    local = _rodrigues(rotations)
    rest = joints.astype(np.float64)
    world_rotation = np.empty((len(joints), 3, 3))
    posed = np.empty((len(joints), 3))
    for joint, parent in enumerate(parents):
        if parent < 0:
            world_rotation[joint], posed[joint] = local[joint], rest[joint]
        else:
            world_rotation[joint] = world_rotation[parent] @ local[joint]
            posed[joint] = posed[parent] + world_rotation[parent] @ (rest[joint] - rest[parent])
    shift = posed - np.einsum("jik,jk->ji", world_rotation, rest)
    transforms = np.concatenate([world_rotation, shift[:, :, None]], axis=2)
    return transforms.astype(np.float32), posed.astype(np.float32)


def pose_offsets(rotations: F32, posedirs: F32, *, threads: int = 1) -> F32:
    """Pose blend shape offsets [V, 3]."""
    features = (rodrigues(rotations[1:]) - np.eye(3, dtype=np.float32)).ravel()
    return np.asarray(posedirs @ features, np.float32)


def shape_offsets(betas: F32, shapedirs: F32) -> F32:
    """Shape blend shape offsets [V, 3]."""
    return np.asarray(shapedirs @ betas, np.float32)


def skin(
    vertices: F32, transforms: F32, bone_ids: I32, bone_weights: F32, *, threads: int = 1
) -> F32:
    """Forward linear blend skinning, [V, 3]."""
    blend = _blend(transforms, bone_ids, bone_weights)
    posed = np.einsum("vik,vk->vi", blend[:, :, :3], vertices) + blend[:, :, 3]
    return np.asarray(posed, np.float32)


def inverse_maps(
    target_transforms: F32,
    target_offsets: F32,
    canonical_transforms: F32,
    canonical_offsets: F32,
    bone_ids: I32,
    bone_weights: F32,
    *,
    threads: int = 1,
) -> F32:
    """Maps [V, 3, 4] from the target pose into the canonical one."""
    to = _blend(target_transforms, bone_ids, bone_weights).astype(np.float64)
    strongest = np.take_along_axis(bone_ids, bone_weights.argmax(1)[:, None], 1)[:, 0]
    folded = np.abs(np.linalg.det(to[:, :, :3])) < MIN_BLEND_DETERMINANT
    to[folded] = target_transforms[strongest[folded]]
    back = _blend(canonical_transforms, bone_ids, bone_weights).astype(np.float64)
    inverse = np.linalg.inv(to[:, :, :3])
    shift = canonical_offsets.astype(np.float64) - target_offsets
    shift -= np.einsum("vik,vk->vi", inverse, to[:, :, 3])
    linear = back[:, :, :3] @ inverse
    offset = np.einsum("vik,vk->vi", back[:, :, :3], shift) + back[:, :, 3]
    return np.concatenate([linear, offset[:, :, None]], axis=2).astype(np.float32)


def _rodrigues(rotvec: F32) -> F64:
    r = rotvec.astype(np.float64)
    angle = np.linalg.norm(r + 1e-8, axis=1)
    axis = r / angle[:, None]
    k = np.zeros((len(r), 3, 3))
    k[:, [2, 0, 1], [1, 2, 0]] = axis
    k[:, [1, 2, 0], [2, 0, 1]] = -axis
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + s * k + (1 - c) * (k @ k))


def _blend(transforms: F32, bone_ids: I32, bone_weights: F32) -> F32:
    """One transform a vertex, [V, 3, 4]."""
    return np.asarray(np.einsum("vb,vbik->vik", bone_weights, transforms[bone_ids]), np.float32)
