"""Linear blend skinning: joints, pose offsets, forward skinning and its per-vertex inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import as_array, checked
from gas_rt.errors import ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import (
    check_indices,
    check_rows,
    check_threads,
    native,
    stacked,
    use_twins,
)

__all__ = ["inverse_maps", "joint_transforms", "pose_offsets", "rodrigues", "shape_offsets", "skin"]

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
    rotations : [J, 3] axis-angle relative to the parent joint; or [B, J, 3], a batch of poses,
        and then the results have that axis too.
    joints : [J, 3] metres, at rest.
    parents : [J] index of each joint's parent, which stands before it; -1 for the root.

    Returns
    -------
    transforms : [J, 3, 4], each carries points from rest to the pose.
    posed_joints : [J, 3].
    """
    poses, batched = stacked(rotations, "rotations", shape=(None, 3))
    joints = checked(joints, "joints", shape=(poses.shape[1], 3))
    parents = checked(parents, "parents", shape=(len(joints),), dtype=np.int32)
    late = np.flatnonzero(parents >= np.arange(len(parents)))
    if len(late):
        joint = int(late[0])
        raise ShapeError(
            f"parents: joint {joint} has parent {parents[joint]}; a parent must come before its "
            "child, sort the joints"
        )
    transforms = np.empty((*poses.shape[:2], 3, 4), np.float32)
    posed_joints = np.empty_like(poses)
    if use_twins():
        for at, pose in enumerate(poses):
            transforms[at], posed_joints[at] = twins.joint_transforms(pose, joints, parents)
    else:
        native.joint_transforms(poses, joints, parents, transforms, posed_joints)
    return (transforms, posed_joints) if batched else (transforms[0], posed_joints[0])


def pose_offsets(rotations: F32, posedirs: F32, *, threads: int = 1) -> F32:
    """Pose blend shapes: the offset [V, 3] of every vertex at rest.

    Parameters
    ----------
    rotations : [J, 3] axis-angle; the root's has no effect. Or [B, J, 3], a batch of poses, for
        offsets [B, V, 3]: `posedirs`, which takes longest to read, is read once.
    posedirs : [V, 3, 9 (J - 1)], one column per entry of the rotation matrices minus identity.
    """
    poses, batched = stacked(rotations, "rotations", shape=(None, 3))
    joints = poses.shape[1]
    if joints == 0:
        raise ShapeError("rotations: expected at least one joint, got none")
    posedirs = _directions(posedirs, "posedirs", 9 * (joints - 1), of=f"{joints} joints")
    threads = check_threads(threads)
    out = np.empty((len(poses), len(posedirs), 3), np.float32)
    if use_twins():
        for at, pose in enumerate(poses):
            out[at] = twins.pose_offsets(pose, posedirs, threads=threads)
    else:
        native.pose_offsets(poses, posedirs, threads, out)
    _check_offsets(out, posedirs, "posedirs")
    return out if batched else out[0]


def shape_offsets(betas: F32, shapedirs: F32) -> F32:
    """Shape blend shapes: the offset [V, 3] of every vertex at rest.

    Parameters
    ----------
    betas : [K].
    shapedirs : [V, 3, K], one column per beta.
    """
    betas = checked(betas, "betas", shape=(None,))
    shapedirs = _directions(shapedirs, "shapedirs", len(betas), of=f"{len(betas)} betas")
    out = np.empty(shapedirs.shape[:2], np.float32)
    if use_twins():
        out[:] = twins.shape_offsets(betas, shapedirs)
    else:
        native.shape_offsets(betas, shapedirs, out)
    _check_offsets(out, shapedirs, "shapedirs")
    return out


def skin(
    vertices: F32, transforms: F32, bone_ids: I32, bone_weights: F32, *, threads: int = 1
) -> F32:
    """Forward skinning by at most four bones a vertex.

    Parameters
    ----------
    vertices : [V, 3] metres, at rest, pose offsets added; or [B, V, 3] for a batch of poses.
    transforms : [J, 3, 4] from `joint_transforms`; [B, J, 3, 4] for a batch.
    bone_ids, bone_weights : [V, 4]; weights are used as they are, not normalised.

    Returns
    -------
    [V, 3] posed; [B, V, 3] of a batch.
    """
    rest, batched = stacked(vertices, "vertices", shape=(None, 3))
    shape = (None, 3, 4)
    if batched:
        transforms = checked(transforms, "transforms", shape=(len(rest), *shape))
    else:
        transforms = checked(transforms, "transforms", shape=shape)[None]
    bone_ids, bone_weights = _checked_bones(bone_ids, bone_weights, transforms.shape[1])
    check_rows(bone_ids, "bone_ids", rows=rest.shape[1], like="vertices")
    threads = check_threads(threads)
    out = np.empty_like(rest)
    if use_twins():
        for at, (points, carried) in enumerate(zip(rest, transforms, strict=True)):
            out[at] = twins.skin(points, carried, bone_ids, bone_weights, threads=threads)
    else:
        native.skin(rest, transforms, bone_ids, bone_weights, threads, out)
    return out if batched else out[0]


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
    bone_ids, bone_weights = _checked_bones(bone_ids, bone_weights, len(target))
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


def _directions(value: F32, name: str, columns: int, *, of: str) -> F32:
    """Directions [V, 3, `columns`], of the right shape and dtype; see `_check_offsets`."""
    array = np.ascontiguousarray(as_array(value, name))
    if array.dtype != np.float32 or array.ndim != 3 or array.shape[1:] != (3, columns):
        raise ShapeError(
            f"{name}: expected float32 [V, 3, {columns}] for {of}, "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array


def _check_offsets(offsets: F32, directions: F32, name: str) -> None:
    """Raise unless the directions and what came of them are finite.

    Directions have millions of entries and are the same at every call: any that is NaN or infinite
    shows in the sums, which are few.
    """
    if not np.isfinite(offsets).all():
        checked(directions, name, shape=directions.shape)
        raise ShapeError(f"{name}: the offsets overflow; the values are not lengths in metres")


def _checked_bones(bone_ids: I32, bone_weights: F32, bones: int) -> tuple[I32, F32]:
    ids = checked(bone_ids, "bone_ids", shape=(None, 4), dtype=np.int32)
    weights = checked(bone_weights, "bone_weights", shape=(len(ids), 4))
    check_indices(ids, "bone_ids", count=bones, of="bones")
    return ids, weights
