"""Rotations as axis-angle vectors and quaternions (w, x, y, z), with interpolation between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "angles_between",
    "axis_angle_from_matrix",
    "axis_angle_from_quaternion",
    "compose",
    "matrix_from_quaternion",
    "quaternion_from_axis_angle",
    "quaternion_from_matrix",
    "quaternion_product",
    "slerp",
]

F64 = NDArray[np.float64]
Array = NDArray[np.floating]

# Below this angle (radians) sin(a)/a is replaced by its series, which is then exact to 1e-16.
_SMALL_ANGLE = 1e-4


def quaternion_from_axis_angle(rotvec: Array) -> F64:
    """Unit quaternions [..., 4] of axis-angle vectors [..., 3]."""
    r = np.asarray(rotvec, np.float64)
    angle = np.linalg.norm(r, axis=-1, keepdims=True)
    small = angle < _SMALL_ANGLE
    scale = np.where(small, 0.5 - angle**2 / 48, np.sin(angle / 2) / np.where(small, 1, angle))
    return np.concatenate([np.cos(angle / 2), scale * r], axis=-1)


def axis_angle_from_quaternion(quaternion: Array) -> F64:
    """Axis-angle vectors [..., 3], angle at most π, of quaternions [..., 4] (normalised here)."""
    q = np.asarray(quaternion, np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    small = angle < _SMALL_ANGLE
    scale = np.where(small, 2 + angle**2 / 12, angle / np.where(small, 1, sine))
    return np.asarray(scale * q[..., 1:], np.float64)


def quaternion_product(a: Array, b: Array) -> F64:
    """The rotation b followed by a, both [..., 4]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    w = a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(-1, keepdims=True)
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, v], axis=-1)


def compose(first: Array, second: Array) -> F64:
    """Axis-angle [..., 3] of the matrix product R(first) R(second)."""
    product = quaternion_product(
        quaternion_from_axis_angle(first), quaternion_from_axis_angle(second)
    )
    return axis_angle_from_quaternion(product)


def matrix_from_quaternion(quaternion: Array) -> F64:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    w, x, y, z = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, axis=-1).reshape(*w.shape, 3, 3)


def quaternion_from_matrix(matrix: Array) -> F64:
    """Unit quaternions [..., 4] of rotation matrices [..., 3, 3]."""
    m = np.asarray(matrix, np.float64)
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the outer product of the quaternion with itself: its largest row is well scaled.
    rows = np.stack(
        [
            1 + d0 + d1 + d2,
            m[..., 2, 1] - m[..., 1, 2],
            m[..., 0, 2] - m[..., 2, 0],
            m[..., 1, 0] - m[..., 0, 1],
            m[..., 2, 1] - m[..., 1, 2],
            1 + d0 - d1 - d2,
            m[..., 0, 1] + m[..., 1, 0],
            m[..., 0, 2] + m[..., 2, 0],
            m[..., 0, 2] - m[..., 2, 0],
            m[..., 0, 1] + m[..., 1, 0],
            1 - d0 + d1 - d2,
            m[..., 1, 2] + m[..., 2, 1],
            m[..., 1, 0] - m[..., 0, 1],
            m[..., 0, 2] + m[..., 2, 0],
            m[..., 1, 2] + m[..., 2, 1],
            1 - d0 - d1 + d2,
        ],
        axis=-1,
    ).reshape(*d0.shape, 4, 4)
    largest = np.einsum("...ii->...i", rows).argmax(-1)
    row = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    return np.asarray(row / np.linalg.norm(row, axis=-1, keepdims=True), np.float64)


def axis_angle_from_matrix(matrix: Array) -> F64:
    """Axis-angle vectors [..., 3] of rotation matrices [..., 3, 3]."""
    return axis_angle_from_quaternion(quaternion_from_matrix(matrix))


def slerp(start: Array, end: Array, fraction: Array) -> F64:
    """Axis-angle [..., 3] on the shortest way from `start` to `end` at `fraction` [...] in 0..1."""
    a, b = quaternion_from_axis_angle(start), quaternion_from_axis_angle(end)
    inverse = a * np.array([1.0, -1.0, -1.0, -1.0])
    step = axis_angle_from_quaternion(quaternion_product(inverse, b))
    partial = quaternion_from_axis_angle(step * np.asarray(fraction, np.float64)[..., None])
    return axis_angle_from_quaternion(quaternion_product(a, partial))


def angles_between(one: Array, two: Array) -> F64:
    """Radians [...], at most π, of the rotation from `one` to `two`, axis-angle [..., 3]."""
    a, b = quaternion_from_axis_angle(one), quaternion_from_axis_angle(two)
    step = quaternion_product(a * np.array([1.0, -1.0, -1.0, -1.0]), b)
    sine = np.linalg.norm(step[..., 1:], axis=-1)
    return np.asarray(2 * np.arctan2(sine, np.abs(step[..., 0])), np.float64)
