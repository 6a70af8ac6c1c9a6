"""The body's CUDA kernels: shape, joints, pose offsets, skinning, its inverse, normals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import checked
from gas_rt.errors import ShapeError
from gas_rt.kernels._cuda_call import Call, Stream

__all__ = [
    "corners_of_vertices",
    "inverse_maps",
    "joint_transforms",
    "pose_offsets",
    "regress_joints",
    "shape",
    "skin",
    "vertex_normals",
]

I32 = NDArray[np.int32]
MAX_JOINTS = 256  # whose chain fits a block's shared memory


def shape(template: Any, shapedirs: Any, betas: Any, *, out: Any, stream: Stream) -> None:
    """Shaped bodies at rest: ``out[b] = template + shapedirs @ betas[b]``.

    template [V, 3], shapedirs [V, 3, K], betas [B, K] → out [B, V, 3], metres.
    """
    with Call("shape", stream) as call:
        arrays = (
            call.read("template", template, ("V", 3)),
            call.read("shapedirs", shapedirs, ("V", 3, "K")),
            call.read("betas", betas, ("B", "K")),
        )
        target = call.write("out", out, ("B", "V", 3))
        n = call.sizes
        call.module.shape(*arrays, n["V"], n["K"], n["B"], target, call.stream)


def regress_joints(regressor: Any, vertices: Any, *, out: Any, stream: Stream) -> None:
    """Joints at rest: regressor [J, V], vertices [B, V, 3] → out [B, J, 3]."""
    with Call("regress_joints", stream) as call:
        arrays = (
            call.read("regressor", regressor, ("J", "V")),
            call.read("vertices", vertices, ("B", "V", 3)),
        )
        target = call.write("out", out, ("B", "J", 3))
        n = call.sizes
        call.module.regress_joints(*arrays, n["J"], n["V"], n["B"], target, call.stream)


def joint_transforms(
    rotations: Any,
    joints: Any,
    parents: Any,
    *,
    transforms: Any,
    posed_joints: Any,
    stream: Stream,
    translation: Any = None,
) -> None:
    """Pose skeletons.

    Parameters
    ----------
    rotations : [B, J, 3] axis-angle relative to the parent joint; at most 256 joints.
    joints : [B, J, 3] metres, at rest.
    parents : [J] int32, each joint's parent, which stands before it; -1 for the root.
    translation : [B, 3] metres, added to the pose.
    transforms : [B, J, 3, 4] output, each carries points from rest to the pose.
    posed_joints : [B, J, 3] output.
    """
    with Call("joint_transforms", stream) as call:
        arrays = (
            call.read("rotations", rotations, ("B", "J", 3)),
            call.read("joints", joints, ("B", "J", 3)),
            call.read("parents", parents, ("J",), np.int32),
            call.read_optional("translation", translation, ("B", 3)),
        )
        outputs = (
            call.write("transforms", transforms, ("B", "J", 3, 4)),
            call.write("posed_joints", posed_joints, ("B", "J", 3)),
        )
        n = call.sizes
        if n["J"] > MAX_JOINTS:
            raise ShapeError(
                f"joint_transforms: rotations: expected at most {MAX_JOINTS} joints, got {n['J']}"
            )
        call.module.joint_transforms(*arrays, n["J"], n["B"], *outputs, call.stream)


def pose_offsets(rotations: Any, posedirs: Any, *, features: Any, out: Any, stream: Stream) -> None:
    """Pose blend shapes: the offset of every vertex at rest.

    Parameters
    ----------
    rotations : [B, J, 3] axis-angle; the root's has no effect.
    posedirs : [V, 3, 9 (J - 1)]. Four poses share one reading of it, which is what takes the time.
    features : [B, 9 (J - 1)] workspace.
    out : [B, V, 3] output, metres.
    """
    with Call("pose_offsets", stream) as call:
        own = call.read("rotations", rotations, ("B", "J", 3))
        n_features = 9 * (call.sizes["J"] - 1)
        directions = call.read("posedirs", posedirs, ("V", 3, n_features))
        outputs = (
            call.write("features", features, ("B", n_features)),
            call.write("out", out, ("B", "V", 3)),
        )
        n = call.sizes
        call.module.pose_offsets(own, directions, n["J"], n["V"], n["B"], *outputs, call.stream)


def skin(
    vertices: Any,
    transforms: Any,
    bone_ids: Any,
    bone_weights: Any,
    *,
    out: Any,
    stream: Stream,
    offsets: Any = None,
) -> None:
    """Forward skinning by at most four bones a vertex.

    Parameters
    ----------
    vertices : [B, V, 3] metres, at rest.
    transforms : [B, J, 3, 4] from `joint_transforms`.
    bone_ids, bone_weights : [V, 4] int32 and float32; weights are not normalised. A vertex with a
        bone that does not exist becomes NaN.
    offsets : [B, V, 3] added to the vertices first, as from `pose_offsets`.
    out : [B, V, 3] output.
    """
    with Call("skin", stream) as call:
        arrays = (
            call.read("vertices", vertices, ("B", "V", 3)),
            call.read_optional("offsets", offsets, ("B", "V", 3)),
            call.read("transforms", transforms, ("B", "J", 3, 4)),
            call.read("bone_ids", bone_ids, ("V", 4), np.int32),
            call.read("bone_weights", bone_weights, ("V", 4)),
        )
        target = call.write("out", out, ("B", "V", 3))
        n = call.sizes
        call.module.skin(*arrays, n["V"], n["J"], n["B"], target, call.stream)


def inverse_maps(
    target_transforms: Any,
    target_offsets: Any,
    canonical_transforms: Any,
    canonical_offsets: Any,
    bone_ids: Any,
    bone_weights: Any,
    *,
    out: Any,
    stream: Stream,
) -> None:
    """Per vertex, the affine map from each target pose into the canonical pose.

    target_transforms [B, J, 3, 4], target_offsets [B, V, 3], canonical_transforms [J, 3, 4],
    canonical_offsets [V, 3], bone_ids and bone_weights [V, 4] → out [B, V, 3, 4]; as
    `gas_rt.kernels.inverse_maps` defines them.
    """
    with Call("inverse_maps", stream) as call:
        arrays = (
            call.read("target_transforms", target_transforms, ("B", "J", 3, 4)),
            call.read("target_offsets", target_offsets, ("B", "V", 3)),
            call.read("canonical_transforms", canonical_transforms, ("J", 3, 4)),
            call.read("canonical_offsets", canonical_offsets, ("V", 3)),
            call.read("bone_ids", bone_ids, ("V", 4), np.int32),
            call.read("bone_weights", bone_weights, ("V", 4)),
        )
        maps = call.write("out", out, ("B", "V", 3, 4))
        n = call.sizes
        call.module.inverse_maps(*arrays, n["V"], n["J"], n["B"], maps, call.stream)


def corners_of_vertices(faces: I32, n_vertices: int) -> tuple[I32, I32]:
    """Where each vertex is a corner: what `vertex_normals` sums over, made once per mesh.

    faces : [F, 3], on the host.

    Returns
    -------
    corner_start : [V + 1] into corners.
    corners : [3 F], ``3 * face + corner``, vertex after vertex, faces ascending.
    """
    faces = checked(faces, "faces", shape=(None, 3), dtype=np.int32)
    flat = faces.ravel()
    if flat.size and not (flat.min() >= 0 and flat.max() < n_vertices):
        raise ShapeError(
            f"faces: expected indices in 0..{n_vertices - 1} for {n_vertices} vertices, got "
            f"{flat.min()}..{flat.max()}"
        )
    counts = np.bincount(flat, minlength=n_vertices)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return start, np.argsort(flat, kind="stable").astype(np.int32)


def vertex_normals(
    vertices: Any, faces: Any, corner_start: Any, corners: Any, *, out: Any, stream: Stream
) -> None:
    """Angle-weighted unit normals, or zero for a vertex without a face that has an area.

    vertices [B, V, 3], faces [F, 3], corner_start [V + 1] and corners [3 F] from
    `corners_of_vertices` → out [B, V, 3].
    """
    with Call("vertex_normals", stream) as call:
        own = call.read("vertices", vertices, ("B", "V", 3))
        triangles = call.read("faces", faces, ("F", 3), np.int32)
        n = call.sizes
        lists = (
            call.read("corner_start", corner_start, (n["V"] + 1,), np.int32),
            call.read("corners", corners, (3 * n["F"],), np.int32),
        )
        target = call.write("out", out, ("B", "V", 3))
        call.module.vertex_normals(
            own, triangles, *lists, n["V"], n["F"], n["B"], target, call.stream
        )
