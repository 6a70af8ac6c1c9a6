"""Coordinates in which skin and garments are painted, at any set of points of the rest body.

The same functions serve the texels of the atlas (colours) and the vertices of the mesh (cloth
thickness), so a hem's colour and its relief cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reference.people.anatomy import Anatomy

F32 = NDArray[np.float32]

__all__ = ["Fields", "box", "ramp"]

ARM_JOINTS = (16, 17, 18, 19, 20, 21, 22, 23)
HAND_JOINTS = (20, 21, 22, 23)
LEG_JOINTS = (1, 2, 4, 5, 7, 8, 10, 11)
FOOT_JOINTS = (7, 8, 10, 11)
HEAD_JOINTS = (15,)
NECK_JOINTS = (12, 15)


def ramp(distance_m: F32, width_m: float = 0.004) -> F32:
    """0 outside, 1 inside, smooth over `width_m` around a signed distance of zero. [N] → [N]."""
    t = np.clip(distance_m / width_m + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def box(value: F32, low: float, high: float) -> F32:
    """Signed distance to an interval, positive inside. [N] → [N]."""
    return np.minimum(value - np.float32(low), np.float32(high) - value)


@dataclass(frozen=True, eq=False)
class Fields:
    """Points on the template: position [N,3], normal [N,3], skin weights [N,24], ear share [N]."""

    anatomy: Anatomy
    position: F32
    normal: F32
    weights: F32
    ear: F32

    def _share(self, joints: tuple[int, ...]) -> F32:
        return np.asarray(self.weights[:, list(joints)].sum(1), np.float32)

    @cached_property
    def x(self) -> F32:
        """[N] towards the subject's left."""
        return np.ascontiguousarray(self.position[:, 0])

    @cached_property
    def y(self) -> F32:
        """[N] up."""
        return np.ascontiguousarray(self.position[:, 1])

    @cached_property
    def z(self) -> F32:
        """[N] forward."""
        return np.ascontiguousarray(self.position[:, 2])

    @cached_property
    def side_x(self) -> F32:
        """[N] distance from the body's plane of symmetry."""
        return np.abs(self.x)

    @cached_property
    def head(self) -> F32:
        """[N] share of the head's bone."""
        return self._share(HEAD_JOINTS)

    @cached_property
    def neck(self) -> F32:
        """[N] share of neck and head."""
        return self._share(NECK_JOINTS)

    @cached_property
    def arm(self) -> F32:
        """[N] share of everything from the shoulder joint to the fingers."""
        return self._share(ARM_JOINTS)

    @cached_property
    def hand(self) -> F32:
        """[N] share of wrists and hands."""
        return self._share(HAND_JOINTS)

    @cached_property
    def foot(self) -> F32:
        """[N] share of ankles and feet."""
        return self._share(FOOT_JOINTS)

    @cached_property
    def leg(self) -> F32:
        """[N] share of hips, knees, ankles and feet."""
        return self._share(LEG_JOINTS)

    @cached_property
    def front(self) -> F32:
        """[N] 1 on what faces forward, 0 on what faces backward, split at the side seams."""
        anatomy = self.anatomy
        leg = self.y < anatomy.crotch_y
        middle = np.where(leg, anatomy.leg_z, anatomy.torso_z).astype(np.float32)
        arm = self.sleeve > 0
        middle = np.where(arm, np.float32(anatomy.arm_z), middle)
        # The seam follows the normal: positions alone would cut buttocks and bellies.
        return ramp(self.normal[:, 2] + 2.0 * (self.z - middle), 0.05)

    @cached_property
    def is_front(self) -> NDArray[np.bool_]:
        """[N] which side of the side seams."""
        return self.front > 0.5

    @cached_property
    def sleeve(self) -> F32:
        """[N] metres along the arm from the armhole seam, positive on the arm."""
        anatomy = self.anatomy
        # The armhole leans inward towards the armpit, where the torso is narrower.
        drop = np.clip(anatomy.shoulder_y - self.y, -0.05, 0.10)
        seam = 0.98 * anatomy.shoulder_x - 0.25 * drop
        low = self.y < anatomy.shoulder_y - 0.20
        return np.where(low, np.float32(-1.0), self.side_x - seam).astype(np.float32)

    @cached_property
    def arm_angle(self) -> F32:
        """[N] angle around the arm, 0 on top, ±π below."""
        anatomy = self.anatomy
        return np.arctan2(self.z - anatomy.arm_z, self.y - anatomy.arm_y).astype(np.float32)

    @cached_property
    def leg_angle(self) -> F32:
        """[N] angle around each leg, 0 outward, positive forward."""
        anatomy = self.anatomy
        return np.arctan2(self.z - anatomy.leg_z, self.side_x - anatomy.leg_x).astype(np.float32)

    @cached_property
    def leg_radius(self) -> F32:
        """[N] metres from the middle of the leg at that height; meaningless above the legs."""
        edges = np.linspace(self.anatomy.floor_y, self.anatomy.crotch_y, 33)
        mine = (self.leg > 0.5) & (self.foot < 0.5) & (self.x > 0)
        where = np.digitize(self.y[mine], edges)
        count = np.bincount(where, minlength=34)
        found = np.flatnonzero(count > 3)
        heights, x, z = (
            np.bincount(where, value[mine], 34)[found] / count[found]
            for value in (self.y, self.x, self.z)
        )
        middle_x, middle_z = (np.interp(self.y, heights, value) for value in (x, z))
        return np.hypot(self.side_x - middle_x, self.z - middle_z).astype(np.float32)

    @cached_property
    def cloth_v(self) -> F32:
        """[N] metres up the cloth: height on the trunk and the legs, arm length on the sleeves."""
        anatomy = self.anatomy
        on_arm = anatomy.shoulder_y - self.sleeve
        return np.where(self.sleeve > 0, on_arm, self.y).astype(np.float32)

    @cached_property
    def cloth_u(self) -> F32:
        """[N] metres around the cloth, 0 in front; broken at the back and at sleeves and legs."""
        anatomy = self.anatomy
        trunk = np.arctan2(self.x, 1.25 * (self.z - np.float32(anatomy.torso_z))) * 0.145
        # On the shoulders angles would crowd around the neck: there, cloth is two flat panels.
        flat = np.where(self.is_front, self.x, np.sign(self.x) * np.pi * 0.145 - self.x)
        top = ramp(self.y - np.float32(anatomy.shoulder_y - 0.05), 0.12)
        trunk = trunk + top * (flat - trunk)
        leg = np.sign(self.x) * (0.12 - 0.075 * self.leg_angle)
        arm = self.arm_angle * 0.055 + np.where(self.x > 0, 1.0, 2.0)
        around = np.where(self.y < anatomy.crotch_y - 0.02, leg, trunk)
        return np.where(self.sleeve > 0, arm, around).astype(np.float32)

    @cached_property
    def neckline(self) -> F32:
        """[N] metres below the base of the neck, measured along the chest; negative on the neck.

        A plane that leans forward, as a crew neck does.
        """
        anatomy = self.anatomy
        plane = anatomy.neck_y + 0.012 - 0.45 * (self.z - anatomy.neck_z)
        return np.asarray(plane - self.y, np.float32)
