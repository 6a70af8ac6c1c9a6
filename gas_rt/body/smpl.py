"""Bodies in SMPL's file layout: open, shape, pose, and the way back into canonical space."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt import kernels
from gas_rt.body.skeleton import JOINT_NAMES, big_pose, joint_index
from gas_rt.body.smpl_file import checked_arrays
from gas_rt.core import Pose, checked
from gas_rt.errors import ShapeError
from gas_rt.files import read_npz, write_npz

__all__ = ["BodyModel", "PosedBody", "ShapedBody"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
LOOSE_JOINTS = (
    *("pelvis", "spine1", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle", "left_foot", "right_foot"),
)
ARM_JOINTS = (
    *("left_collar", "right_collar", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
)


@dataclass(frozen=True, eq=False)
class ShapedBody:
    """A body's shape at rest.

    vertices [V, 3], joints [24, 3] metres; betas [K]; offsets [V, 3] what the shape adds to the
    template.
    """

    vertices: F32
    joints: F32
    betas: F32
    offsets: F32


@dataclass(frozen=True, eq=False)
class PosedBody:
    """A body in a pose, in the world.

    vertices [V, 3], joints [24, 3]; transforms [24, 3, 4] carry rest points to the world, the
    pose's translation included; pose_offsets [V, 3] at rest.
    """

    vertices: F32
    joints: F32
    transforms: F32
    pose_offsets: F32
    shaped: ShapedBody
    faces: I32 = field(repr=False)

    @functools.cached_property
    def normals(self) -> F32:
        """Smooth unit normals [V, 3]."""
        return kernels.vertex_normals(self.vertices, self.faces)


@dataclass(frozen=True, eq=False)
class BodyModel:
    """An SMPL-format body; see `open` for where it comes from.

    template [V, 3], shapedirs [V, 3, K], posedirs [V, 3, 207], joint_regressor [24, V], parents
    [24] (-1 for the root), faces [F, 3], bone_ids and bone_weights [V, 4]; uv [Vt, 2] with
    (0, 0) at the picture's upper left corner and uv_faces [F, 3], or None; extras: whatever else
    the file holds.
    """

    template: F32
    shapedirs: F32
    posedirs: F32
    joint_regressor: F32
    parents: I32
    faces: I32
    bone_ids: I32
    bone_weights: F32
    uv: F32 | None = None
    uv_faces: I32 | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BodyModel:
        """Read an ``.npz`` in SMPL's published layout.

        Shape directions beyond the tenth are dropped. Raises `FileError` naming the array that is
        missing, misshapen or out of range.
        """
        return cls(**checked_arrays(str(path), read_npz(path)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, name: str = "arrays") -> BodyModel:
        """The same from arrays under SMPL's keys; `name` is what errors call them."""
        return cls(**checked_arrays(name, dict(arrays)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `open` reads, atomically."""
        weights = np.zeros((self.vertex_count, len(JOINT_NAMES)), np.float32)
        np.add.at(
            weights, (np.arange(self.vertex_count)[:, None], self.bone_ids), self.bone_weights
        )
        tree = np.stack([self.parents.astype(np.int64) % 2**32, np.arange(len(self.parents))])
        arrays: dict[str, NDArray[Any]] = {
            "v_template": self.template,
            "shapedirs": self.shapedirs,
            "posedirs": self.posedirs,
            "J_regressor": self.joint_regressor,
            "weights": weights,
            "kintree_table": tree.astype(np.uint32),
            "f": self.faces.astype(np.uint32),
        }
        if self.uv is not None and self.uv_faces is not None:
            arrays |= {"uv": self.uv, "uv_faces": self.uv_faces.astype(np.uint32)}
        write_npz(path, arrays | dict(self.extras))

    @property
    def vertex_count(self) -> int:
        """V."""
        return len(self.template)

    @property
    def shape_count(self) -> int:
        """K, the most betas a shape can have."""
        return int(self.shapedirs.shape[2])

    @functools.cached_property
    def loose_vertices(self) -> I32:
        """Numbers of the vertices that skirts and coats hang from: of hips, waist and legs."""
        return np.flatnonzero(self._moved_by(LOOSE_JOINTS)).astype(np.int32)

    @functools.cached_property
    def arm_vertices(self) -> I32:
        """Numbers of the vertices of shoulders, arms and hands."""
        return np.flatnonzero(self._moved_by(ARM_JOINTS)).astype(np.int32)

    def _moved_by(self, joints: tuple[str, ...]) -> NDArray[np.bool_]:
        """[V] whether most of a vertex's weight is with some of the joints."""
        share = np.zeros(self.vertex_count, np.float32)
        for bones, weights in zip(self.bone_ids.T, self.bone_weights.T, strict=True):
            share += weights * np.isin(bones, [joint_index(name) for name in joints])
        return share >= 0.5

    @functools.cached_property
    def big_pose(self) -> Pose:
        """The canonical pose."""
        return big_pose()

    def shape(self, betas: Any) -> ShapedBody:
        """The body at rest for up to K betas; those not given are zero."""
        given = checked(betas, "betas", shape=(None,))
        if len(given) > self.shape_count:
            raise ShapeError(
                f"betas: this body has {self.shape_count} shape directions, got {len(given)} "
                "values; drop the last ones"
            )
        full = np.zeros(self.shape_count, np.float32)
        full[: len(given)] = given
        offsets = kernels.shape_offsets(full, self.shapedirs)
        template, directions = self._joint_shapes
        joints = (template + directions @ full).astype(np.float32)
        return ShapedBody(self.template + offsets, joints, full, offsets)

    @functools.cached_property
    def _joint_shapes(self) -> tuple[F64, F64]:
        """The template's joints [24, 3] and what a unit of each beta adds to them [24, 3, K].

        Joints are linear in the betas: with these a shape costs them no pass over the vertices.
        """
        regressor = self.joint_regressor.astype(np.float64)
        directions = np.tensordot(regressor, self.shapedirs.astype(np.float64), 1)
        return regressor @ self.template, directions

    def pose(self, body: ShapedBody | Any, pose: Pose, *, threads: int = 1) -> PosedBody:
        """Pose a shaped body, or the shape of the betas given in its place."""
        shaped = body if isinstance(body, ShapedBody) else self.shape(body)
        transforms, joints = kernels.joint_transforms(pose.rotations, shaped.joints, self.parents)
        transforms[:, :, 3] += pose.translation
        offsets = kernels.pose_offsets(pose.rotations, self.posedirs, threads=threads)
        vertices = kernels.skin(
            shaped.vertices + offsets,
            transforms,
            self.bone_ids,
            self.bone_weights,
            threads=threads,
        )
        joints = joints + pose.translation
        return PosedBody(vertices, joints, transforms, offsets, shaped, self.faces)

    def canonical(self) -> PosedBody:
        """The template in the big pose: the same for every identity, computed once."""
        return self._canonical

    @functools.cached_property
    def _canonical(self) -> PosedBody:
        return self.pose(np.zeros(0, np.float32), self.big_pose)

    def inverse_maps(self, posed: PosedBody, *, threads: int = 1) -> F32:
        """Per vertex the map [V, 3, 4] from the posed body's world into canonical space."""
        canonical = self.canonical()
        return kernels.inverse_maps(
            posed.transforms,
            posed.pose_offsets + posed.shaped.offsets,
            canonical.transforms,
            canonical.pose_offsets,
            self.bone_ids,
            self.bone_weights,
            threads=threads,
        )
