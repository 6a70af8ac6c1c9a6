"""Skinning: against the body models' own code, against the twins, and backwards."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from geometry_cases import SMPL_PARENTS, bones, f32
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gas_rt import kernels
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import twins

JOINTS = len(SMPL_PARENTS)


def random_pose(seed: int, *, scale: float = 0.6) -> tuple[Any, Any]:
    """Axis-angle rotations and rest joints of a skeleton with SMPL's tree."""
    rng = np.random.default_rng(seed)
    return f32(rng.normal(0, scale, (JOINTS, 3))), f32(rng.normal(0, 0.4, (JOINTS, 3)))


def test_a_random_model_poses_as_smplx_poses_it() -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lbs = pytest.importorskip("smplx.lbs").lbs
    rng = np.random.default_rng(0)
    n = 300
    template, regressor = rng.normal(0, 0.5, (n, 3)), rng.dirichlet(np.ones(n), JOINTS)
    shapedirs, posedirs = rng.normal(0, 0.02, (n, 3, 10)), rng.normal(0, 0.01, (n, 3, 207))
    ids, weights = bones(rng, n, JOINTS)
    dense = np.zeros((n, JOINTS))
    np.put_along_axis(dense, ids, weights, axis=1)
    betas, rotations = rng.normal(size=10), rng.normal(0, 0.7, (JOINTS, 3))
    as_torch = torch.from_numpy
    want, want_joints = lbs(
        as_torch(betas[None]),
        as_torch(rotations.reshape(1, -1)),
        as_torch(template),
        as_torch(shapedirs),
        as_torch(posedirs.reshape(n * 3, 207).T.copy()),
        as_torch(regressor),
        as_torch(np.array(SMPL_PARENTS)),
        as_torch(dense),
    )

    shaped = template + shapedirs @ betas
    joints = f32(regressor @ shaped)
    transforms, posed_joints = kernels.joint_transforms(f32(rotations), joints, SMPL_PARENTS)
    rest = f32(shaped) + kernels.pose_offsets(f32(rotations), f32(posedirs))
    posed = kernels.skin(rest, transforms, ids, weights)

    assert np.abs(posed - want[0].numpy()).max() <= 1e-5
    assert np.abs(posed_joints - want_joints[0].numpy()).max() <= 1e-5


@given(hnp.arrays(np.float32, (5, 3), elements=st.floats(-7, 7, width=32)))
@settings(max_examples=50, deadline=None)
def test_rodrigues_is_a_rotation_and_equals_its_twin(rotvec: Any) -> None:
    matrices = kernels.rodrigues(rotvec)
    np.testing.assert_allclose(matrices, twins.rodrigues(rotvec), atol=1e-6)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (5, 1, 1)), atol=2e-6
    )


def test_rodrigues_of_a_quarter_turn() -> None:
    (matrix,) = kernels.rodrigues(f32([[0, 0, np.pi / 2]]))
    np.testing.assert_allclose(matrix, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("vertices", [0, 1, 2500])
def test_kernels_equal_their_twins(vertices: int, threads: int) -> None:
    rng = np.random.default_rng(vertices)
    rotations, joints = random_pose(1)
    transforms, posed_joints = kernels.joint_transforms(rotations, joints, SMPL_PARENTS)
    want = twins.joint_transforms(rotations, joints, np.array(SMPL_PARENTS, np.int32))
    np.testing.assert_allclose(transforms, want[0], atol=1e-6)
    np.testing.assert_allclose(posed_joints, want[1], atol=1e-6)

    points = f32(rng.normal(0, 0.5, (vertices, 3)))
    ids, weights = bones(rng, vertices, JOINTS)
    np.testing.assert_allclose(
        kernels.skin(points, transforms, ids, weights, threads=threads),
        twins.skin(points, transforms, ids, weights),
        atol=2e-6,
    )
    posedirs = f32(rng.normal(0, 0.01, (vertices, 3, 207)))
    np.testing.assert_allclose(
        kernels.pose_offsets(rotations, posedirs, threads=threads),
        twins.pose_offsets(rotations, posedirs),
        atol=1e-6,
    )
    offsets, canonical_offsets = f32(rng.normal(0, 0.02, (2, vertices, 3)))
    canonical, _ = kernels.joint_transforms(random_pose(2)[0], joints, SMPL_PARENTS)
    arguments = (transforms, offsets, canonical, canonical_offsets, ids, weights)
    maps = kernels.inverse_maps(*arguments, threads=threads)
    np.testing.assert_allclose(maps, twins.inverse_maps(*arguments), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vertices", [1, 2, 5, 6, 7, 90])
@pytest.mark.parametrize("joints", [1, 2, 3, 4, 16, 17, 24])
def test_pose_offsets_of_any_size_equal_their_twin(
    joints: int, vertices: int, threads: int
) -> None:
    """Rows are read a few at a time and beyond their ends: neither may show."""
    rng = np.random.default_rng(joints)
    rotations = f32(rng.normal(0, 0.5, (2, joints, 3)))
    posedirs = f32(rng.normal(0, 0.01, (vertices, 3, 9 * (joints - 1))))
    offsets = kernels.pose_offsets(rotations, posedirs, threads=threads)
    for at, pose in enumerate(rotations):
        np.testing.assert_allclose(offsets[at], twins.pose_offsets(pose, posedirs), atol=1e-6)


@pytest.mark.parametrize("vertices", [0, 1, 5, 6, 333])
@pytest.mark.parametrize("betas", [0, 1, 10, 16, 17])
def test_shape_offsets_equal_their_twin(betas: int, vertices: int) -> None:
    rng = np.random.default_rng(betas)
    shape, shapedirs = f32(rng.normal(size=betas)), f32(rng.normal(0, 0.02, (vertices, 3, betas)))
    np.testing.assert_allclose(
        kernels.shape_offsets(shape, shapedirs), twins.shape_offsets(shape, shapedirs), atol=1e-6
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_inverse_maps_carry_posed_vertices_to_the_canonical_pose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    rotations, joints = random_pose(seed, scale=0.3)
    big, canonical_joints = random_pose(seed + 1, scale=0.3)
    target, _ = kernels.joint_transforms(rotations, joints, SMPL_PARENTS)
    canonical, _ = kernels.joint_transforms(big, canonical_joints, SMPL_PARENTS)
    # Neighbouring bones only: bodies blend those, and unrelated ones can fold space.
    ids = f32(rng.integers(0, JOINTS, (n, 1))).astype(np.int32).repeat(4, axis=1)
    ids[:, 1] = np.maximum(np.array(SMPL_PARENTS)[ids[:, 0]], 0)
    weights = f32(rng.dirichlet([4, 2, 1, 1], n))
    template = f32(rng.normal(0, 0.5, (n, 3)))
    offsets, canonical_offsets = f32(rng.normal(0, 0.02, (2, n, 3)))

    posed = kernels.skin(template + offsets, target, ids, weights)
    want = kernels.skin(template + canonical_offsets, canonical, ids, weights)
    maps = kernels.inverse_maps(target, offsets, canonical, canonical_offsets, ids, weights)
    back = np.einsum("vik,vk->vi", maps[:, :, :3], posed) + maps[:, :, 3]
    np.testing.assert_allclose(back, want, atol=2e-5)


def test_a_blend_that_folds_space_falls_back_to_its_strongest_bone() -> None:
    half_turn = kernels.rodrigues(f32([[0, 0, 0], [np.pi, 0, 0]]))
    transforms = np.concatenate([half_turn, np.zeros((2, 3, 1), np.float32)], axis=2)
    identity = np.tile(np.eye(3, 4, dtype=np.float32), (2, 1, 1))
    zero = np.zeros((1, 3), np.float32)
    ids, weights = np.array([[0, 1, 0, 0]], np.int32), f32([[0.5, 0.5, 0, 0]])
    (m,) = kernels.inverse_maps(transforms, zero, identity, zero, ids, weights)
    np.testing.assert_allclose(m, np.eye(3, 4), atol=1e-6)


def test_bad_arguments_are_named() -> None:
    rotations, joints = random_pose(0)
    transforms, _ = kernels.joint_transforms(rotations, joints, SMPL_PARENTS)
    ids, weights = bones(np.random.default_rng(0), 2, JOINTS)
    points = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"parents: joint 1 has parent 2"):
        kernels.joint_transforms(rotations, joints, [-1, 2, *SMPL_PARENTS[2:]])
    with pytest.raises(ShapeError, match=r"bone_ids: index 24 is out of range, expected 0\.\.23"):
        kernels.skin(points, transforms, ids * 0 + JOINTS, weights)
    with pytest.raises(ShapeError, match=r"bone_ids: expected 3 rows like vertices, got 2"):
        kernels.skin(np.zeros((3, 3)), transforms, ids, weights)
    with pytest.raises(ShapeError, match=r"vertices: 1 of 6 values are NaN"):
        kernels.skin([[np.nan, 0, 0], [0, 0, 0]], transforms, ids, weights)
    with pytest.raises(ShapeError, match=r"posedirs: expected float32 \[V, 3, 207\]"):
        kernels.pose_offsets(rotations, np.zeros((2, 3, 9), np.float32))
    posedirs = np.zeros((2, 3, 207), np.float32)
    posedirs[1, 2, 3] = np.nan
    with pytest.raises(ShapeError, match=r"posedirs: 1 of 1242 values are NaN"):
        kernels.pose_offsets(rotations, posedirs)
    with pytest.raises(ShapeError, match=r"shapedirs: expected float32 \[V, 3, 3\] for 3 betas"):
        kernels.shape_offsets(np.zeros(3), np.zeros((2, 3, 9), np.float32))
    with pytest.raises(ShapeError, match=r"posedirs: the offsets overflow"):
        kernels.pose_offsets(rotations, np.full_like(posedirs, 3e38))
    with pytest.raises(InputError, match=r"threads: expected an integer of at least 1, got 0"):
        kernels.skin(points, transforms, ids, weights, threads=0)
