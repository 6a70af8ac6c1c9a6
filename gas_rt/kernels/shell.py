"""The shell around a posed body: which vertex a point belongs to, and its canonical place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import checked
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import twins
from gas_rt.kernels._backend import check_threads, native, use_twins

__all__ = ["PosedShell"]

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

MAX_RADIUS_M = 0.5


class PosedShell:
    """All points less than `radius_m` away from a posed vertex. Built once per pose.

    Parameters
    ----------
    vertices : [V, 3] metres, posed; at least one.
    maps : [V, 3, 4] from `inverse_maps`: a point x near vertex v lies at ``maps[v] @ [x, 1]`` in
        canonical space.
    radius_m : in (0, 0.5].
    threads : used here and by `query`; results do not depend on it.

    Attributes
    ----------
    lo, hi : [3] the vertices' box grown by the radius; nothing outside is in the shell.
    """

    def __init__(self, vertices: F32, maps: F32, *, radius_m: float, threads: int = 1) -> None:
        vertices = checked(vertices, "vertices", shape=(None, 3))
        if len(vertices) == 0:
            raise ShapeError("vertices: expected at least one, got none")
        maps = checked(maps, "maps", shape=(len(vertices), 3, 4))
        if not (math.isfinite(radius_m) and 0 < radius_m <= MAX_RADIUS_M):
            raise InputError(
                f"radius_m: expected a length in (0, {MAX_RADIUS_M}] metres, got {radius_m!r}"
            )
        self.radius_m = float(radius_m)
        self.threads = check_threads(threads)
        by_axis = np.ascontiguousarray(vertices.T)  # NumPy is slow along an axis of stride three
        self.lo: F32 = by_axis.min(1) - np.float32(radius_m)
        self.hi: F32 = by_axis.max(1) + np.float32(radius_m)
        self._vertices, self._maps = vertices, maps
        self._compiled: native.Shell | None = None
        if not use_twins():
            try:
                self._compiled = native.Shell(vertices, maps, self.radius_m, self.threads)
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
            return twins.query_shell(self._vertices, self._maps, self.radius_m, points)
        vertex_id = np.empty(len(points), np.int32)
        canonical = np.empty_like(points)
        self._compiled.query(points, self.threads, vertex_id, canonical)
        return vertex_id, canonical
