"""A batch of poses gives what its poses give one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_cases import SMPL_PARENTS, bones, f32, sphere

from gas_rt import kernels
from gas_rt.errors import ShapeError

JOINTS = len(SMPL_PARENTS)


@pytest.fixture(params=["native", "numpy"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GAS_RT_KERNELS", request.param)
    return request.param


@pytest.mark.parametrize("poses", [0, 1, 3])
def test_a_batch_of_poses_is_the_poses(poses: int, implementation: str) -> None:
    rng = np.random.default_rng(poses)
    template, faces = sphere(12)
    n = len(template)
    rotations = f32(rng.normal(0, 0.5, (poses, JOINTS, 3)))
    joints = f32(rng.normal(0, 0.4, (JOINTS, 3)))
    posedirs = f32(rng.normal(0, 0.01, (n, 3, 9 * (JOINTS - 1))))
    ids, weights = bones(rng, n, JOINTS)

    transforms, posed_joints = kernels.joint_transforms(rotations, joints, SMPL_PARENTS)
    offsets = kernels.pose_offsets(rotations, posedirs, threads=2)
    vertices = kernels.skin(template + offsets, transforms, ids, weights, threads=2)
    normals = kernels.vertex_normals(vertices, faces, threads=2)
    assert transforms.shape == (poses, JOINTS, 3, 4)
    assert posed_joints.shape == (poses, JOINTS, 3)
    assert offsets.shape == vertices.shape == normals.shape == (poses, n, 3)

    for at, pose in enumerate(rotations):
        alone, alone_joints = kernels.joint_transforms(pose, joints, SMPL_PARENTS)
        np.testing.assert_array_equal(transforms[at], alone)
        np.testing.assert_array_equal(posed_joints[at], alone_joints)
        np.testing.assert_array_equal(offsets[at], kernels.pose_offsets(pose, posedirs))
        posed = kernels.skin(template + offsets[at], alone, ids, weights)
        np.testing.assert_array_equal(vertices[at], posed)
        np.testing.assert_array_equal(normals[at], kernels.vertex_normals(posed, faces))


def test_bad_batches_are_named() -> None:
    rng = np.random.default_rng(0)
    ids, weights = bones(rng, 5, JOINTS)
    transforms = np.zeros((2, JOINTS, 3, 4), np.float32)
    with pytest.raises(ShapeError, match=r"transforms: expected shape \[3, any, 3, 4\], got \[2,"):
        kernels.skin(np.zeros((3, 5, 3)), transforms, ids, weights)
    with pytest.raises(ShapeError, match=r"transforms: expected shape \[any, 3, 4\], got \[2,"):
        kernels.skin(np.zeros((5, 3)), transforms, ids, weights)
    with pytest.raises(ShapeError, match=r"bone_ids: expected 4 rows like vertices, got 5"):
        kernels.skin(np.zeros((2, 4, 3)), transforms, ids, weights)
    with pytest.raises(
        ShapeError, match=r"rotations: expected shape \[any, 3\], got \[1, 1, 2, 3\]"
    ):
        kernels.joint_transforms(np.zeros((1, 1, 2, 3)), np.zeros((2, 3)), [-1, 0])
    with pytest.raises(ShapeError, match=r"joints: expected shape \[2, 3\]"):
        kernels.joint_transforms(np.zeros((4, 2, 3)), np.zeros((4, 2, 3)), [-1, 0])
    with pytest.raises(ShapeError, match=r"rotations: expected at least one joint"):
        kernels.pose_offsets(np.zeros((4, 0, 3)), np.zeros((5, 3, 0), np.float32))
