"""Rotations against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from gas_rt.body import rotations

vectors = arrays(np.float64, (4, 3), elements=st.floats(-3, 3).map(lambda x: round(x, 6)))


def same_rotation(a: np.ndarray, b: np.ndarray) -> None:
    gap = (Rotation.from_rotvec(a) * Rotation.from_rotvec(b).inv()).magnitude()
    assert gap.max() < 1e-7


@given(vectors)
def test_quaternions_and_back(rotvec: np.ndarray) -> None:
    quaternion = rotations.quaternion_from_axis_angle(rotvec)
    same_rotation(rotvec, Rotation.from_quat(quaternion, scalar_first=True).as_rotvec())
    same_rotation(rotvec, rotations.axis_angle_from_quaternion(quaternion))


@given(vectors)
def test_matrices_and_back(rotvec: np.ndarray) -> None:
    matrix = Rotation.from_rotvec(rotvec).as_matrix()
    quaternion = rotations.quaternion_from_axis_angle(rotvec)
    np.testing.assert_allclose(rotations.matrix_from_quaternion(quaternion), matrix, atol=1e-12)
    same_rotation(rotations.axis_angle_from_matrix(matrix), rotvec)


@given(vectors, vectors)
def test_compose(a: np.ndarray, b: np.ndarray) -> None:
    expected = (Rotation.from_rotvec(a) * Rotation.from_rotvec(b)).as_rotvec()
    same_rotation(rotations.compose(a, b), expected)


@given(vectors, vectors, st.floats(0, 1))
def test_slerp(a: np.ndarray, b: np.ndarray, fraction: float) -> None:
    ours = rotations.slerp(a, b, np.full(len(a), fraction))
    for start, end, got in zip(a, b, ours, strict=True):
        pair = Rotation.from_rotvec([start, end])
        if (pair[0].inv() * pair[1]).magnitude() > np.pi - 1e-4:
            continue  # both ways round are shortest
        same_rotation(got[None], Slerp([0, 1], pair)(fraction).as_rotvec()[None])


@pytest.mark.parametrize("size", [0, 1e-12, 1e-7, 1e-5, 1e-3])
def test_tiny_rotations_keep_their_size(size: float) -> None:
    rotvec = np.array([[size, 0, 0]])
    back = rotations.axis_angle_from_quaternion(rotations.quaternion_from_axis_angle(rotvec))
    np.testing.assert_allclose(back, rotvec, rtol=1e-9, atol=1e-16)


def test_half_turn() -> None:
    matrix = Rotation.from_rotvec([0, np.pi, 0]).as_matrix()[None]
    assert np.linalg.norm(rotations.axis_angle_from_matrix(matrix)) == pytest.approx(np.pi)
