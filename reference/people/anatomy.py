"""Where things are on the rest body: heights, limb lengths and facial landmarks, in metres.

Garments, skin and hair are painted on the template in its T-pose, so one set of measures per body
file serves every identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

__all__ = ["Anatomy", "HeadShape", "measure"]


@dataclass(frozen=True, eq=False)
class HeadShape:
    """The skull as an ellipsoid, and the landmarks of the face.

    Attributes
    ----------
    centre, radii : [3] of the ellipsoid through crown, temples, forehead and back of the head.
    eye : [3] the left eye's centre on the surface; the right eye is its mirror image.
    nose, mouth, chin, ear : [3] points on the surface; `ear` is the left one.
    """

    centre: F32
    radii: F32
    eye: F32
    nose: F32
    mouth: F32
    chin: F32
    ear: F32


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Heights (y) and lateral positions (x) of the template in its T-pose."""

    floor_y: float
    ankle_y: float
    knee_y: float
    crotch_y: float
    hip_y: float
    waist_y: float
    chest_y: float
    shoulder_y: float
    neck_y: float
    shoulder_x: float
    elbow_x: float
    wrist_x: float
    arm_y: float
    arm_z: float
    leg_x: float
    leg_z: float
    ball_z: float
    neck_z: float
    torso_z: float
    head: HeadShape


def measure(vertices: F32, joints: F32, landmarks: dict[str, F32]) -> Anatomy:
    """Measure a T-posed template.

    vertices [V,3], joints [24,3]; `landmarks` are the body file's named points.
    """
    x, y = vertices[:, 0], vertices[:, 1]
    floor = float(y.min())
    centre_line = np.abs(x) < 0.012
    crotch = float(y[centre_line].min())
    neck = float(joints[12, 1])
    trunk = neck - crotch
    return Anatomy(
        floor_y=floor,
        ankle_y=float(joints[7, 1]),
        knee_y=float(joints[4, 1]),
        crotch_y=crotch,
        hip_y=crotch + 0.16 * trunk,
        waist_y=crotch + 0.40 * trunk,
        chest_y=crotch + 0.74 * trunk,
        shoulder_y=float(joints[16, 1]),
        neck_y=neck,
        shoulder_x=float(joints[16, 0]),
        elbow_x=float(joints[18, 0]),
        wrist_x=float(joints[20, 0]),
        arm_y=float(joints[18, 1]),
        arm_z=float(joints[18, 2]),
        leg_x=float(joints[4, 0]),
        leg_z=float(joints[4, 2]),
        ball_z=float(joints[10, 2]),
        neck_z=float(joints[12, 2]),
        torso_z=float(joints[3, 2]),
        head=_head(vertices, joints, landmarks),
    )


def _head(vertices: F32, joints: F32, landmarks: dict[str, F32]) -> HeadShape:
    """Fit the skull ellipsoid and collect the landmarks."""
    top = float(vertices[:, 1].max())
    neck = float(joints[12, 1])
    skull = vertices[vertices[:, 1] > neck + 0.45 * (top - neck)]
    midline = skull[np.abs(skull[:, 0]) < 0.012]
    front = float(midline[midline[:, 1] > top - 0.09, 2].max())
    back = float(midline[:, 2].min())
    # Above the ears the head is as wide as the skull.
    upper = skull[skull[:, 1] > top - 0.085]
    half_width = float(np.abs(upper[:, 0]).max())
    half_depth = (front - back) / 2
    centre = np.array([0.0, top - 1.22 * half_width, (front + back) / 2], np.float32)
    radii = np.array([half_width, top - centre[1], half_depth], np.float32)
    found = {name: np.asarray(point, np.float32) for name, point in landmarks.items()}
    eye, nose, chin = found["left_eye"], found["nose_tip"], found["chin"]
    corner = found["left_mouth_corner"]
    mouth = np.array([0, corner[1], corner[2]], np.float32)
    ear = (found["left_ear_tip"] + found["left_ear_lobe"]) / 2
    return HeadShape(centre, radii, eye, nose, mouth, chin, ear)
