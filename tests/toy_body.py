"""A body of tubes in SMPL's layout: 24 joints, a thousand vertices, two shape directions."""

from __future__ import annotations

import numpy as np

from gas_rt.body import BodyModel

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
JOINTS = np.array(
    [
        *([0, -0.22, 0], [0.09, -0.31, 0], [-0.09, -0.31, 0], [0, -0.11, 0]),
        *([0.1, -0.68, 0], [-0.1, -0.68, 0], [0, 0.02, 0], [0.09, -1.08, 0], [-0.09, -1.08, 0]),
        *([0, 0.08, 0], [0.1, -1.13, 0.12], [-0.1, -1.13, 0.12], [0, 0.29, 0], [0.08, 0.19, 0]),
        *([-0.08, 0.19, 0], [0, 0.36, 0.02], [0.18, 0.22, 0], [-0.18, 0.22, 0], [0.43, 0.22, 0]),
        *([-0.43, 0.22, 0], [0.68, 0.22, 0], [-0.68, 0.22, 0], [0.77, 0.22, 0], [-0.77, 0.22, 0]),
    ]
)
RADII_M = {4: 0.08, 5: 0.08, 7: 0.06, 8: 0.06, 3: 0.14, 6: 0.15, 9: 0.16, 12: 0.08, 15: 0.1}
RADIUS_M = 0.05
RINGS, SIDES = 5, 8


def toy_body() -> BodyModel:
    """The body, made the same every time."""
    vertices, faces, weights = [], [], []
    regressor_rows: dict[int, np.ndarray] = {}
    count = 0
    for joint in range(1, 24):
        start, end = JOINTS[PARENTS[joint]], JOINTS[joint]
        if joint == 15:  # the head goes on above its joint
            end = end + np.array([0, 0.2, 0])
        ring = _tube(start, end, RADII_M.get(joint, RADIUS_M))
        share = np.repeat(np.linspace(0, 1, RINGS), SIDES)
        bone = np.zeros((len(ring), 24))
        bone[np.arange(len(ring)), PARENTS[joint]] = 1 - 0.5 * share
        bone[np.arange(len(ring)), joint] += 0.5 * share
        vertices.append(ring)
        weights.append(bone)
        faces.append(_faces() + count)
        regressor_rows[joint] = np.arange(count + len(ring) - SIDES, count + len(ring))
        if joint == 1:
            regressor_rows[0] = np.arange(count, count + SIDES)
        count += len(ring)
    template = np.concatenate(vertices)
    regressor = np.zeros((24, count))
    for joint, rows in regressor_rows.items():
        regressor[joint, rows] = 1 / SIDES
    shapes = np.zeros((count, 3, 10))
    shapes[:, 1, 0] = 0.03 * template[:, 1]
    shapes[:, 2, 1] = 0.05 * template[:, 2]
    tree = np.stack([np.array(PARENTS) % 2**32, np.arange(24)]).astype(np.uint32)
    return BodyModel.from_arrays(
        {
            "v_template": template.astype(np.float32),
            "shapedirs": shapes.astype(np.float32),
            "posedirs": np.zeros((count, 3, 207), np.float32),
            "J_regressor": regressor.astype(np.float32),
            "weights": np.concatenate(weights).astype(np.float32),
            "kintree_table": tree,
            "f": np.concatenate(faces).astype(np.uint32),
        }
    )


def _tube(start: np.ndarray, end: np.ndarray, radius_m: float) -> np.ndarray:
    """RINGS × SIDES points around the line from start to end; its ends are narrow."""
    axis = end - start
    axis = axis / np.linalg.norm(axis)
    side = np.cross(axis, [0.3, 0.2, 0.9])
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    angles = 2 * np.pi * np.arange(SIDES) / SIDES
    circle = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    swell = [0.6, 1, 1, 1, 0.6]
    return np.concatenate(
        [
            start + (end - start) * k / (RINGS - 1) + circle * radius_m * swell[k]
            for k in range(RINGS)
        ]
    )


def _faces() -> np.ndarray:
    faces = []
    for ring in range(RINGS - 1):
        for k in range(SIDES):
            a, b = ring * SIDES + k, ring * SIDES + (k + 1) % SIDES
            c, d = a + SIDES, b + SIDES
            faces += [[a, b, c], [b, d, c]]
    last = (RINGS - 1) * SIDES
    for k in range(1, SIDES - 1):
        faces += [[0, k + 1, k], [last, last + k, last + k + 1]]
    return np.array(faces)
