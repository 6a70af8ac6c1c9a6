"""The shell around a posed body: which vertex a point belongs to, and its canonical place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import checked
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_threads, native, use_twins

__all__ = ["PosedShell", "WideReach", "checked_radius_m"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

MAX_RADIUS_M = 0.5


@dataclass(frozen=True, eq=False)
class WideReach:
    """Vertices that points belong to which are farther from every vertex than a shell's radius.

    Attributes
    ----------
    vertex_id : [W] numbers of vertices, ascending; at least one.
    radius_m : how far these reach, in (0, 0.5].
    """

    vertex_id: I32
    radius_m: float


class PosedShell:
    """All points less than `radius_m` away from a posed vertex. Built once per pose.

    A point belongs to the vertex nearest to it. One that is in nobody's reach belongs to the
    nearest of the vertices `wide`, if those reach it: clothes stand off wide from some parts of a
    body, and a sample beside an arm shall not be the arm's for that.

    Parameters
    ----------
    vertices : [V, 3] metres, posed; at least one.
    maps : [V, 3, 4] from `inverse_maps`: a point x near vertex v lies at ``maps[v] @ [x, 1]`` in
        canonical space.
    radius_m : in (0, 0.5].
    wide : vertices that reach farther; none if None.
    threads : used here and by `query`; results do not depend on it.

    Attributes
    ----------
    lo, hi : [3] a box; nothing outside is in the shell. Of the vertices grown by the radius.
    """

    def __init__(
        self,
        vertices: F32,
        maps: F32,
        *,
        radius_m: float,
        wide: WideReach | None = None,
        threads: int = 1,
    ) -> None:
        vertices = checked(vertices, "vertices", shape=(None, 3))
        if len(vertices) == 0:
            raise ShapeError("vertices: expected at least one, got none")
        maps = checked(maps, "maps", shape=(len(vertices), 3, 4))
        self.radius_m = checked_radius_m(radius_m, "radius_m")
        self.threads = check_threads(threads)
        self._vertices, self._maps = vertices, maps
        self.lo, self.hi = _box(vertices, self.radius_m)
        self._wide_id = np.zeros(0, np.int32)
        self._wide_radius_m = self.radius_m
        if wide is not None:
            self._wide_id = _checked_ids(wide.vertex_id, count=len(vertices))
            self._wide_radius_m = checked_radius_m(wide.radius_m, "wide.radius_m")
            lo, hi = _box(vertices[self._wide_id], self._wide_radius_m)
            self.lo, self.hi = np.minimum(self.lo, lo), np.maximum(self.hi, hi)
        self._compiled: native.Shell | None = None
        if not use_twins():
            try:
                self._compiled = native.Shell(
                    vertices,
                    maps,
                    self.radius_m,
                    self._wide_id,
                    self._wide_radius_m,
                    self.threads,
                )
            except ValueError as error:
                size = ", ".join(f"{s:.0f}" for s in self.hi.astype(np.float64) - self.lo)
                away_m = float(np.abs([self.lo, self.hi]).max())
                raise ShapeError(
                    f"vertices: they span ({size}) m, up to {away_m:.3g} m from the origin, too "
                    "far apart or away for one body; remove the strays, convert the units to "
                    "metres or move the body to the origin"
                ) from error

    @property
    def compiled(self) -> native.Shell:
        """What the compiled march takes; only there unless the twins were chosen."""
        if self._compiled is None:
            raise InputError("PosedShell: it was built for the NumPy twins; build it again")
        return self._compiled

    @property
    def maps(self) -> F32:
        """[V, 3, 4] posed to canonical, as given."""
        return self._maps

    def query(self, points: F32) -> tuple[I32, F32]:
        """The nearest vertex of each point, and where the point lies in canonical space.

        Parameters
        ----------
        points : [N, 3] metres, world.

        Returns
        -------
        vertex_id : [N], -1 outside the shell; of vertices equally near, the lowest.
        canonical : [N, 3], zero outside the shell.
        """
        points = checked(points, "points", shape=(None, 3))
        if self._compiled is None:
            return twins.query_shell(
                self._vertices,
                self._maps,
                self.radius_m,
                points,
                wide_id=self._wide_id,
                wide_radius_m=self._wide_radius_m,
            )
        vertex_id = np.empty(len(points), np.int32)
        canonical = np.empty_like(points)
        self._compiled.query(points, self.threads, vertex_id, canonical)
        return vertex_id, canonical


def checked_radius_m(value: float, name: str) -> float:
    """A radius that a shell can have; InputError tells `name` and value of another."""
    if not (math.isfinite(value) and 0 < value <= MAX_RADIUS_M):
        raise InputError(f"{name}: expected a length in (0, {MAX_RADIUS_M}] metres, got {value!r}")
    return float(value)


def _box(vertices: F32, radius_m: float) -> tuple[F32, F32]:
    """The vertices' box grown by the radius."""
    by_axis = np.ascontiguousarray(vertices.T)  # NumPy is slow along an axis of stride three
    return by_axis.min(1) - np.float32(radius_m), by_axis.max(1) + np.float32(radius_m)


def _checked_ids(vertex_id: I32, *, count: int) -> I32:
    ids = checked(vertex_id, "wide.vertex_id", shape=(None,), dtype=np.int32)
    if not len(ids) or ids[0] < 0 or ids[-1] >= count or (np.diff(ids) <= 0).any():
        raise InputError(
            f"wide.vertex_id: expected at least one number in 0..{count - 1}, each larger than the "
            f"one before it, got {len(ids)} that are not"
        )
    return ids
