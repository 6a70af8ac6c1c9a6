"""Legs by inverse kinematics and arms by angles: what procedural motions are put together from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.motion import REST_PELVIS, Motion
from gas_rt.body.rotations import axis_angle_from_matrix
from gas_rt.body.skeleton import JOINT_NAMES, PARENTS, joint_index

__all__ = ["REST_JOINTS", "Choreography", "Clock", "about", "foot_target"]

F64 = NDArray[np.float64]

# The bundled body's mean rest joints (metres) where the legs need them; x is the left side's.
_LEG_REST = {
    "hip": (0.1116, -0.2344, 0.0164),
    "knee": (0.1327, -0.6190, 0.0241),
    "ankle": (0.1327, -1.0530, 0.0003),
    "foot": (0.1547, -1.1024, 0.1392),
}
_SOLE_Y = -1.1294


def _rest_joints() -> F64:
    joints = np.zeros((len(JOINT_NAMES), 3))
    joints[0] = REST_PELVIS
    for name, (x, y, z) in _LEG_REST.items():
        joints[joint_index("left_" + name)] = (x, y, z)
        joints[joint_index("right_" + name)] = (-x, y, z)
    return joints


REST_JOINTS = _rest_joints()
ANKLE_HEIGHT = float(REST_JOINTS[joint_index("left_ankle"), 1]) - _SOLE_Y
STANDING_PELVIS = float(REST_JOINTS[0, 1]) - _SOLE_Y


def about(axis: str, degrees: F64 | float) -> F64:
    """Rotations [..., 3, 3] about x, y or z."""
    angle = np.deg2rad(np.asarray(degrees, np.float64))
    i = "xyz".index(axis)
    a, b = (i + 1) % 3, (i + 2) % 3
    out = np.zeros((*angle.shape, 3, 3))
    out[..., i, i] = 1
    out[..., a, a] = out[..., b, b] = np.cos(angle)
    out[..., b, a] = np.sin(angle)
    out[..., a, b] = -np.sin(angle)
    return out


@dataclass(frozen=True)
class Clock:
    """When the frames of a clip are."""

    frames: int
    fps: float
    start_s: float = 0.0
    loop: bool = True

    def phase(self, hertz: float) -> F64:
        """Radians [T] of a movement; a loop holds the whole number of cycles nearest to `hertz`."""
        index = np.arange(self.frames)
        if self.loop:
            cycles = max(1, round(self.frames / self.fps * hertz))
            return np.asarray(2 * np.pi * cycles * index / self.frames)
        return np.asarray(2 * np.pi * hertz * (self.start_s + index / self.fps))


@dataclass
class Choreography:
    """World rotations and positions being put together for T frames.

    `local` holds rotations [T, 3, 3] relative to the parent joint by name, legs excepted; pelvis
    [T, 3] is the pelvis's position with the floor at y = 0.
    """

    frames: int
    clock: Clock
    local: dict[str, F64] = field(default_factory=dict)
    pelvis: F64 = field(init=False)

    def __post_init__(self) -> None:
        self.pelvis = np.tile([0.0, STANDING_PELVIS, 0.0], (self.frames, 1))

    def turn(self, name: str, *rotations: F64) -> None:
        """Append rotations (the last acts first) to a joint."""
        for rotation in rotations:
            before = self.local.get(name, np.eye(3))
            self.local[name] = np.broadcast_to(before @ rotation, (self.frames, 3, 3))

    def bend_spine(
        self, *, pitch: F64 | float = 0, yaw: F64 | float = 0, roll: F64 | float = 0
    ) -> None:
        """Share degrees among the three spine joints."""
        for name in ("spine1", "spine2", "spine3"):
            self.turn(
                name,
                about("y", np.asarray(yaw) / 3),
                about("x", np.asarray(pitch) / 3),
                about("z", np.asarray(roll) / 3),
            )

    def arm(
        self,
        side: str,
        *,
        down: F64 | float,
        swing: F64 | float = 0,
        forward: F64 | float = 0,
        twist: F64 | float = 0,
        elbow: F64 | float = 0,
    ) -> None:
        """Pose an arm, degrees: `down` from the T-pose, `swing` forward about the hip's axis,
        `forward` in the T-pose's horizontal plane, `twist` of the upper arm, `elbow` flexion."""
        s = 1.0 if side == "left" else -1.0
        lowered = np.clip(np.asarray(down, float) / 75, -0.5, 1)
        self.turn(side + "_collar", about("z", -s * 9 * lowered))
        self.turn(
            side + "_shoulder",
            about("x", -np.asarray(swing, float)),
            about("z", -s * (np.asarray(down, float) - 9 * lowered)),
            about("y", -s * np.asarray(forward, float)),
            about("x", np.asarray(twist, float)),
        )
        self.turn(side + "_elbow", about("y", -s * np.asarray(elbow, float)))

    def leg(self, side: str, ankle: F64, foot: F64) -> None:
        """Put an ankle at [T, 3] and the foot at a world rotation [T, 3, 3]."""
        rest = {n: REST_JOINTS[joint_index(f"{side}_{n}")] for n in _LEG_REST}
        root = self._root()
        hip = self.pelvis + root @ (rest["hip"] - REST_JOINTS[0])
        thigh, shin = rest["knee"] - rest["hip"], rest["ankle"] - rest["knee"]
        upper, lower = float(np.linalg.norm(thigh)), float(np.linalg.norm(shin))
        reach = ankle - hip
        length = np.linalg.norm(reach, axis=1)
        bounded = np.clip(length, abs(upper - lower) + 0.02, upper + lower - 1e-4)
        along = reach / length[:, None]
        # The knee bends towards where the toes point.
        toes = foot[:, :, 2]
        ahead = toes - (toes * along).sum(1, keepdims=True) * along
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
        cosine = (upper**2 + bounded**2 - lower**2) / (2 * upper * bounded)
        sine = np.sqrt(np.clip(1 - cosine**2, 0, 1))
        knee = upper * (cosine[:, None] * along + sine[:, None] * ahead)
        down = bounded[:, None] * along - knee
        hip_world = _limb_rotation(thigh, knee, ahead)
        knee_world = _limb_rotation(shin, down, ahead)
        self.local[side + "_hip"] = _t(root) @ hip_world
        self.local[side + "_knee"] = _t(hip_world) @ knee_world
        self.local[side + "_ankle"] = _t(knee_world) @ foot

    def _root(self) -> F64:
        return np.broadcast_to(self.local.get("pelvis", np.eye(3)), (self.frames, 3, 3))

    def motion(self, fps: float) -> Motion:
        """The finished motion, standing on y = 0 as SMPL's template would."""
        rotations = np.zeros((self.frames, len(PARENTS), 3), np.float32)
        for name, local in self.local.items():
            rotations[:, joint_index(name)] = axis_angle_from_matrix(local)
        translations = self.pelvis - np.array(REST_PELVIS)
        return Motion(rotations, translations.astype(np.float32), fps)


def _t(matrix: F64) -> F64:
    return np.swapaxes(matrix, -1, -2)


def _limb_rotation(rest: F64, now: F64, ahead: F64) -> F64:
    """World rotations [T, 3, 3] that take a rest bone to `now` with its front towards `ahead`."""

    def frame(bone: F64, front: F64) -> F64:
        y = bone / np.linalg.norm(bone, axis=-1, keepdims=True)
        x = np.cross(y, front)
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        return np.stack([x, y, np.cross(x, y)], axis=-1)

    return frame(now, ahead) @ _t(frame(rest, np.array([0.0, 0.0, 1.0])))


def foot_target(
    side: str, *, ahead: F64, out: F64 | float, lift: F64 | float, pitch: F64, yaw: F64 | float
) -> tuple[F64, F64]:
    """Ankle [T, 3] and foot rotation [T, 3, 3] of a sole at a floor position.

    ahead, out, lift in metres (out: sideways from the body's middle, away from it); pitch in
    degrees, toes up positive, the foot rolling over heel or ball; yaw in degrees, toes out.
    """
    s = 1.0 if side == "left" else -1.0
    rest = REST_JOINTS[joint_index(f"{side}_ankle")]
    ball = REST_JOINTS[joint_index(f"{side}_foot")] - rest
    heel = np.array([0.0, -ANKLE_HEIGHT, -0.045])
    ball = ball * [1, 0, 1] + [0.0, -ANKLE_HEIGHT, 0.0]
    turned = about("y", s * np.asarray(yaw, float)) @ about("x", -np.asarray(pitch, float))
    turned = np.broadcast_to(turned, (len(pitch), 3, 3))
    flat = np.broadcast_to(about("y", s * np.asarray(yaw, float)), turned.shape)
    pivot = np.where(np.asarray(pitch)[:, None] > 0, heel, ball)
    rolled = (flat @ pivot[..., None] - turned @ pivot[..., None])[..., 0]
    ankle = np.stack(
        np.broadcast_arrays(s * np.asarray(out, float), ANKLE_HEIGHT + np.asarray(lift), ahead),
        axis=1,
    )
    return ankle + rolled, turned
