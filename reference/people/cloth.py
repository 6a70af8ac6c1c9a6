"""Secondary motion of hanging cloth and hair: particles with springs, fixed lengths, collisions.

Position-based dynamics on small grids. A particle is drawn back to where skinning carries it, keeps
its distance to the particle above, and stays out of the legs. Fixed substeps, no randomness: the
same poses give the same motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.people.loose import Guides

F32 = NDArray[np.float32]

__all__ = ["Capsules", "leg_capsules", "simulate"]

SUBSTEP_S = 1 / 60
WARM_UP_SUBSTEPS = 24
DAMPING_PER_S = 3.2
GRAVITY_M_S2 = 2.5
"""Below 9.81 because the rest shape already hangs; this is only what a new pose adds."""

ROUNDS = 3
MARGIN_M = 0.024
"""Between particles the sheet cuts corners; the margin keeps the legs behind it all the same."""

STRETCH = 1.06
NECK = 12
LEG_SEGMENTS = ((1, 4), (2, 5), (4, 7), (5, 8))


@dataclass(frozen=True, eq=False)
class Capsules:
    """Tapered legs: joint pairs [n,2] and the radius at either end [n,2], metres."""

    joints: NDArray[np.int64]
    radii: F32


def leg_capsules(vertices: F32, joints: F32, is_leg: NDArray[np.bool_]) -> Capsules:
    """Capsules around the clothed legs of a T-posed body."""
    legs = vertices[is_leg & (vertices[:, 0] > 0)]

    def radius(joint: int, lower_m: float) -> float:
        centre = joints[joint] - np.array([0, lower_m, 0], np.float32)
        near = legs[np.abs(legs[:, 1] - centre[1]) < 0.04]
        if len(near) == 0:
            return 0.06
        return float(np.linalg.norm(near[:, ::2] - centre[::2], axis=1).mean())

    hip, knee, ankle = radius(1, 0.10), radius(4, 0.0), radius(7, -0.06)
    return Capsules(
        np.array(LEG_SEGMENTS),
        np.array([[hip, knee], [hip, knee], [knee, ankle], [knee, ankle]], np.float32),
    )


def simulate(guides: Guides, goals: F32, joints: F32, capsules: Capsules, *, fps: float) -> F32:
    """Positions of the guides' particles, settled at the first frame.

    goals [T, rows, columns, 3] are where skinning carries them, joints [T, 24, 3] the posed
    skeleton. Returns [T, rows, columns, 3].
    """
    lengths = np.linalg.norm(guides.rest[1:] - guides.rest[:-1], axis=-1, keepdims=True)
    widths = np.linalg.norm(_next_column(guides.rest, guides.closed) - guides.rest, axis=-1)
    state = _State(guides, capsules, lengths, STRETCH * widths[..., None])
    substeps = max(1, round(1 / (fps * SUBSTEP_S)))
    out = np.empty_like(goals)
    position, previous = goals[0].copy(), goals[0].copy()
    for _ in range(WARM_UP_SUBSTEPS):
        position, previous = state.step(position, previous, goals[0], joints[0], 1 / 60)
    out[0] = position
    for frame in range(1, len(goals)):
        for k in range(1, substeps + 1):
            t = np.float32(k / substeps)
            goal = (1 - t) * goals[frame - 1] + t * goals[frame]
            skeleton = (1 - t) * joints[frame - 1] + t * joints[frame]
            dt = 1 / (fps * substeps)
            position, previous = state.step(position, previous, goal, skeleton, dt)
        out[frame] = position
    return out


def _next_column(grid: F32, closed: bool) -> F32:
    """Each particle's neighbour in the next column; an open grid's last one is its own."""
    following = np.roll(grid, -1, axis=-2)
    if not closed:
        following[..., -1, :] = grid[..., -1, :]
    return following


def _norm(vectors: F32) -> F32:
    """Lengths, never zero. [...,3] → [...,1]."""
    return np.sqrt(np.einsum("...k,...k->...", vectors, vectors))[..., None] + np.float32(1e-6)


@dataclass(frozen=True, eq=False)
class _State:
    """What a substep needs besides positions."""

    guides: Guides
    capsules: Capsules
    lengths: F32
    widths: F32

    def step(
        self, position: F32, previous: F32, goal: F32, joints: F32, dt_s: float
    ) -> tuple[F32, F32]:
        """One substep: the new positions and those before it."""
        guides = self.guides
        inertia = np.float32(np.exp(-DAMPING_PER_S * dt_s))
        pull = 1 - np.exp(-((guides.pull * np.float32(dt_s)) ** 2))[:, None, None]
        moved = position + inertia * (position - previous)
        moved[..., 1] -= np.float32(GRAVITY_M_S2 * dt_s**2)
        moved += pull * (goal - moved)
        moved[: guides.pinned] = goal[: guides.pinned]
        # Where skinning stretches the sheet over a bent knee, the springs must not fight it.
        lengths = np.maximum(self.lengths, _norm(goal[1:] - goal[:-1]))
        widths = np.maximum(self.widths, _norm(_next_column(goal, guides.closed) - goal))
        for _ in range(ROUNDS):
            self._keep_widths(moved, widths)
            self._keep_lengths(moved, lengths)
            self._collide(moved, goal, joints)
            moved[: guides.pinned] = goal[: guides.pinned]
        return moved, position

    def _keep_lengths(self, p: F32, lengths: F32) -> None:
        for row in range(self.guides.pinned, len(p)):
            step = p[row] - p[row - 1]
            p[row] = p[row - 1] + step * (lengths[row - 1] / _norm(step))

    def _keep_widths(self, p: F32, widths: F32) -> None:
        if p.shape[1] < 2:
            return
        step = _next_column(p, self.guides.closed) - p
        excess = np.clip(1 - widths / _norm(step), 0, None) * np.float32(0.4) * step
        p += excess
        back = np.roll(excess, 1, axis=1)
        if not self.guides.closed:
            back[:, 0] = 0
        p -= back

    def _collide(self, p: F32, goal: F32, joints: F32) -> None:
        if self.guides.collides == "legs":
            self._out_of_legs(p, goal, joints)
        elif self.guides.collides == "outward":
            self._not_behind(p, goal, joints)

    def _out_of_legs(self, p: F32, goal: F32, joints: F32) -> None:
        """Towards the side where skinning has the cloth, which is the side it came from."""
        for (a, b), (r0, r1) in zip(self.capsules.joints, self.capsules.radii, strict=True):
            axis = joints[b] - joints[a]
            t = np.clip((p - joints[a]) @ axis / np.float32(axis @ axis), 0, 1)[..., None]
            nearest = joints[a] + t * axis
            radius = r0 + (r1 - r0) * t + np.float32(MARGIN_M)
            depth = np.clip(radius - _norm(p - nearest), 0, None)
            towards = goal - nearest
            p += towards * (depth / _norm(towards))

    def _not_behind(self, p: F32, goal: F32, joints: F32) -> None:
        outward = goal - joints[NECK]
        outward[..., 1] = 0
        outward /= _norm(outward)
        depth = np.einsum("rck,rck->rc", p - goal, outward)
        p -= np.minimum(depth, 0)[..., None] * outward
