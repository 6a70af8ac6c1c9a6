"""Linear blend skinning: joints, pose offsets, forward skinning and its per-vertex inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import checked
from gas_rt.errors import ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_indices, check_rows, check_threads, native, use_twins

__all__ = ["inverse_maps", "joint_transforms", "pose_offsets", "rodrigues", "skin"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def rodrigues(rotvec: F32) -> F32:
    """Axis-angle vectors [N, 3], radians → rotation matrices [N, 3, 3]."""
    rotvec = checked(rotvec, "rotvec", shape=(None, 3))
    if use_twins():
        return twins.rodrigues(rotvec)
    out = np.empty((len(rotvec), 3, 3), np.float32)
    native.rodrigues(rotvec, out)
    return out


def joint_transforms(rotations: F32, joints: F32, parents: Any) -> tuple[F32, F32]:
    """Pose a skeleton.

    Parameters
    ----------
    rotations : [J, 3] axis-angle relative to the parent joint.
    joints : [J, 3] metres, at rest.
    parents : [J] index of each joint's parent, which stands before it; -1 for the root.

    Returns
    -------
    transforms : [J, 3, 4], each carries points from rest to the pose.
    posed_joints : [J, 3].
    """
    rotations = checked(rotations, "rotations", shape=(None, 3))
    joints = checked(joints, "joints", shape=(len(rotations), 3))
    parents = checked(parents, "parents", shape=(len(rotations),), dtype=np.int32)
    late = np.flatnonzero(parents >= np.arange(len(parents)))
    if len(late):
        joint = int(late[0])
        raise ShapeError(
            f"parents: joint {joint} has parent {parents[joint]}; a parent must come before its "
            "child, sort the joints"
        )
    if use_twins():
        return twins.joint_transforms(rotations, joints, parents)
    transforms = np.empty((len(joints), 3, 4), np.float32)
    posed_joints = np.empty_like(joints)
    native.joint_transforms(rotations, joints, parents, transforms, posed_joints)
    return transforms, posed_joints


def pose_offsets(rotations: F32, posedirs: F32, *, threads: int = 1) -> F32:
    """Pose blend shapes: the offset [V, 3] of every vertex at rest.

    Parameters
    ----------
    rotations : [J, 3] axis-angle; the root's has no effect.
    posedirs : [V, 3, 9 (J - 1)], one column per entry of the rotation matrices minus identity.
    """
    rotations = checked(rotations, "rotations", shape=(None, 3))
    posedirs = np.ascontiguousarray(posedirs)
    features = 9 * (len(rotations) - 1)
    if posedirs.dtype != np.float32 or posedirs.ndim != 3 or posedirs.shape[1:] != (3, features):
        raise ShapeError(
            f"posedirs: expected float32 [V, 3, {features}] for {len(rotations)} joints, "
            f"got {posedirs.dtype} {list(posedirs.shape)}"
        )
    if use_twins():
        out = twins.pose_offsets(rotations, posedirs, threads=check_threads(threads))
    else:
        out = np.empty((len(posedirs), 3), np.float32)
        native.pose_offsets(rotations, posedirs, check_threads(threads), out)
    # posedirs has millions of entries and is the same at every call: any that is NaN or infinite
    # shows in the sums, which are few.
    if not np.isfinite(out).all():
        checked(posedirs, "posedirs", shape=(None, 3, features))
        raise ShapeError("posedirs: the offsets overflow; the values are not lengths in metres")
    return out


def skin(
    vertices: F32, transforms: F32, bone_ids: I32, bone_weights: F32, *, threads: int = 1
) -> F32:
    """Forward skinning by at most four bones a vertex.

    Parameters
    ----------
    vertices : [V, 3] metres, at rest, pose offsets added.
    transforms : [J, 3, 4] from `joint_transforms`.
    bone_ids, bone_weights : [V, 4]; weights are used as they are, not normalised.

    Returns
    -------
    [V, 3] posed.
    """
    vertices = checked(vertices, "vertices", shape=(None, 3))
    transforms = checked(transforms, "transforms", shape=(None, 3, 4))
    bone_ids, bone_weights = _checked_bones(bone_ids, bone_weights, transforms)
    check_rows(bone_ids, "bone_ids", vertices, "vertices")
    threads = check_threads(threads)
    if use_twins():
        return twins.skin(vertices, transforms, bone_ids, bone_weights, threads=threads)
    out = np.empty_like(vertices)
    native.skin(vertices, transforms, bone_ids, bone_weights, threads, out)
    return out


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
    """Per vertex, the affine map from the target pose into the canonical pose.

    ``x_canonical = M[v] @ [x, 1]`` undoes vertex v's skinning and offsets in the target, then
    applies those of the canonical pose. Where the blend of bones folds space (determinant below
    1e-4) its strongest bone stands in.

    Parameters
    ----------
    target_transforms, canonical_transforms : [J, 3, 4].
    target_offsets : [V, 3] pose plus shape offsets in the target.
    canonical_offsets : [V, 3] pose offsets in the canonical pose.
    bone_ids, bone_weights : [V, 4].

    Returns
    -------
    M : [V, 3, 4].
    """
    target = checked(target_transforms, "target_transforms", shape=(None, 3, 4))
    canonical = checked(canonical_transforms, "canonical_transforms", shape=(len(target), 3, 4))
    bone_ids, bone_weights = _checked_bones(bone_ids, bone_weights, target)
    offsets = checked(target_offsets, "target_offsets", shape=(len(bone_ids), 3))
    canonical_offsets = checked(canonical_offsets, "canonical_offsets", shape=(len(bone_ids), 3))
    threads = check_threads(threads)
    if use_twins():
        return twins.inverse_maps(
            target, offsets, canonical, canonical_offsets, bone_ids, bone_weights, threads=threads
        )
    out = np.empty((len(bone_ids), 3, 4), np.float32)
    native.inverse_maps(
        target, offsets, canonical, canonical_offsets, bone_ids, bone_weights, threads, out
    )
    return out


def _checked_bones(bone_ids: I32, bone_weights: F32, transforms: F32) -> tuple[I32, F32]:
    ids = checked(bone_ids, "bone_ids", shape=(None, 4), dtype=np.int32)
    weights = checked(bone_weights, "bone_weights", shape=(len(ids), 4))
    check_indices(ids, "bone_ids", count=len(transforms), of="bones")
    return ids, weights
