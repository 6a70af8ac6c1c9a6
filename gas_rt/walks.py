"""Showing somebody who walks: the body locked to its place, or a camera that follows it.

The window of a picture is small, a walk is long. Either the body is brought back to where it began
(`root_locked`), or the camera keeps its offset to the body (`FollowCamera`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gas_rt.cameras import moved_with
from gas_rt.core import Camera, Pose, checked
from gas_rt.errors import InputError

__all__ = ["FollowCamera", "root_locked"]

# A root farther than this from where it was expected was moved, it did not walk: in a tick of
# 40 ms that would be 25 m/s.
SNAP_M = 1.0
# Poses that stop for this long tell nothing of the speed after it.
GAP_NS = 1_000_000_000
HORIZONTAL = np.array([1.0, 0.0, 1.0])


def root_locked(pose: Pose, *, vertical: bool = False) -> Pose:
    """The pose brought back over the origin; jumps and squats stay unless `vertical`."""
    kept = np.zeros(3) if vertical else 1 - HORIZONTAL
    return Pose(pose.rotations, pose.translation * kept.astype(np.float32))


class FollowCamera:
    """Carries a camera along with a body, smoothly; pure: the time is an argument.

    It tracks where the root is and how fast it goes, and trusts a new value the less the sooner it
    comes after the one before. So steps and a tracker's noise don't shake the picture, yet a body
    that walks at one speed stays where it was in it. A root that jumps, or a pause, is a cut.
    """

    def __init__(
        self,
        camera: Camera,
        root_m: NDArray[np.floating],
        *,
        settle_s: float = 0.25,
        vertical: bool = False,
    ) -> None:
        """`camera` is right for a body whose root (its pose's translation) is at `root_m` [3].

        `settle_s` is the time constant of the smoothing. The camera follows steps; jumps and
        squats too where `vertical`.
        """
        if not 0 < settle_s < math.inf:
            raise InputError(f"settle_s: expected a time above 0, got {settle_s!r}")
        self._camera = camera
        self._home = checked(root_m, "root_m", shape=(3,)).astype(np.float64)
        self._settle_ns = settle_s * 1e9
        self._axes = np.ones(3) if vertical else HORIZONTAL
        self.reset()

    def reset(self) -> None:
        """Forget the body; the next one is a cut."""
        self._at: NDArray[np.float64] | None = None
        self._speed = np.zeros(3)  # metres per ns
        self._now_ns = 0

    def at(self, root_m: NDArray[np.floating], now_ns: int) -> Camera:
        """The camera for a body whose root is at `root_m` [3] at `now_ns`, of any clock.

        Times are expected to rise; one that doesn't tells nothing, and the camera stays.
        """
        root = checked(root_m, "root_m", shape=(3,)).astype(np.float64)
        passed_ns = now_ns - self._now_ns
        self._now_ns = now_ns
        if self._at is None or passed_ns > GAP_NS:
            self._at, self._speed = root, np.zeros(3)
        elif passed_ns > 0:
            self._at = self._tracked(self._at, root, passed_ns)
        offset = (self._at - self._home) * self._axes
        return moved_with(self._camera, offset.astype(np.float32))

    def _tracked(
        self, at: NDArray[np.float64], root: NDArray[np.float64], passed_ns: int
    ) -> NDArray[np.float64]:
        """One step of the critically damped filter of second order (fading memory)."""
        expected = at + self._speed * passed_ns
        missed = root - expected
        if np.abs(missed * self._axes).max() > SNAP_M:
            self._speed = np.zeros(3)
            return root
        kept = math.exp(-passed_ns / self._settle_ns)
        self._speed = self._speed + (1 - kept) ** 2 * missed / passed_ns
        moved: NDArray[np.float64] = expected + (1 - kept**2) * missed
        return moved
