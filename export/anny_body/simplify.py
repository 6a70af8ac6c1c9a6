"""Mirror-symmetric mesh simplification by half-edge collapses that keep a subset of the vertices.

A vertex is moved onto a neighbour and never anywhere else, so weights, shape directions and UVs
carry over. Quadric error over several body shapes; both sides of the body collapse together; UV
charts keep their seams, and no triangle flips in space or in UV.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from export.anny_body.source import F64, I64

__all__ = ["Simplified", "simplify"]

# A collapse may turn a triangle's normal by at most this much (cosine), in every shape.
_MIN_NORMAL_COSINE = 0.35
# Smallest height over longest edge that a new triangle may have, unless the old one was as thin.
_MIN_ASPECT = 0.06
# How far (UV units) a seam vertex may lie off the new seam edge.
_MAX_SEAM_SHIFT = 0.0025
_MIN_UV_SHARE = 0.02


@dataclass(frozen=True)
class Simplified:
    """kept [V'] old vertex ids, ascending; faces, uv_faces [F', 3] into kept and kept_uv."""

    kept: I64
    kept_uv: I64
    faces: I64
    uv_faces: I64


def simplify(
    shapes: F64,
    faces: I64,
    uv: F64,
    uv_faces: I64,
    *,
    mirror: I64,
    importance: F64,
    weights: F64,
    pinned: I64,
    target: int,
) -> Simplified:
    """Collapse until about `target` vertices are left.

    shapes [K, V, 3] metres; importance [V] scales the error; weights [V, 24] skin weights, whose
    change along an edge costs too; pinned [P] vertices that stay.
    """
    work = _Work(shapes, faces, uv, uv_faces, mirror, importance, weights)
    work.locked.update(int(v) for v in pinned)
    work.locked.update(int(mirror[v]) for v in pinned)
    heap: list[tuple[float, int, int, int]] = []
    for u in range(shapes.shape[1]):
        work.push(heap, u)
    alive = shapes.shape[1]
    while heap and alive > target:
        _, u, rank, version = heapq.heappop(heap)
        if work.version[u] != version:
            continue
        v = work.candidates[u][rank][1]
        touched = work.collapse_pair(u, v)
        if touched is None:
            work.push_rank(heap, u, rank + 1)
            continue
        alive -= 1 if mirror[u] == u else 2
        for t in touched:
            work.push(heap, t)
    return work.result()


class _Work:
    """The mesh during simplification."""

    def __init__(
        self,
        shapes: F64,
        faces: I64,
        uv: F64,
        uv_faces: I64,
        mirror: I64,
        importance: F64,
        weights: F64,
    ) -> None:
        self.points = np.ascontiguousarray(shapes.transpose(1, 0, 2))  # [V, K, 3]
        self.uv = uv
        self.mirror = [int(m) for m in mirror]
        self.weights = weights
        self.importance = importance
        self.face = {i: [int(a) for a in f] for i, f in enumerate(faces)}
        self.uv_face = {i: [int(a) for a in f] for i, f in enumerate(uv_faces)}
        self.around: list[set[int]] = [set() for _ in range(shapes.shape[1])]
        for i, f in self.face.items():
            for a in f:
                self.around[a].add(i)
        self.quadric = _vertex_quadrics(self.points, faces, importance)
        self.locked: set[int] = set()
        self.version = [0] * shapes.shape[1]
        self.candidates: dict[int, list[tuple[float, int]]] = {}

    def ring(self, u: int) -> list[int]:
        """Neighbours of u, ascending."""
        return sorted({a for i in self.around[u] for a in self.face[i]} - {u})

    def push(self, heap: list[tuple[float, int, int, int]], u: int) -> None:
        """(Re)consider vertex u: rank the neighbours it could move onto."""
        self.version[u] += 1
        # Only one of a mirrored pair is queued; the other follows it.
        if u in self.locked or not self.around[u] or self.mirror[u] < u:
            if self.around[u] and self.mirror[u] < u and u not in self.locked:
                self.push(heap, self.mirror[u])
            return
        ring = [v for v in self.ring(u) if self._sides_agree(u, v)]
        if not ring:
            return
        q, p = self.quadric[u], self.points[ring]  # [K, 4, 4], [N, K, 3]
        error = np.einsum("nki,kij,nkj->n", p, q[:, :3, :3], p)
        error += 2 * np.einsum("nki,ki->n", p, q[:, :3, 3]) + q[:, 3, 3].sum()
        length2 = ((p - self.points[u]) ** 2).sum((1, 2)) / p.shape[1]
        skin = ((self.weights[ring] - self.weights[u]) ** 2).sum(1)
        error += self.importance[u] * length2 * length2 * (0.004 + 0.5 * skin)
        self.candidates[u] = sorted(zip(error.tolist(), ring, strict=True))
        self.push_rank(heap, u, 0)

    def push_rank(self, heap: list[tuple[float, int, int, int]], u: int, rank: int) -> None:
        """Queue u with its rank-th best neighbour."""
        if rank < len(self.candidates[u]):
            heapq.heappush(heap, (self.candidates[u][rank][0], u, rank, self.version[u]))

    def _sides_agree(self, u: int, v: int) -> bool:
        mu, mv = self.mirror[u], self.mirror[v]
        return mv == v if mu == u else v != mu

    def collapse_pair(self, u: int, v: int) -> set[int] | None:
        """Collapse u onto v and its mirror image likewise; None if that is not allowed."""
        mu, mv = self.mirror[u], self.mirror[v]
        if mu == u:
            plan = self._plan(u, v)
            return None if plan is None else self._apply(u, v, plan)
        ring, mirrored_ring = set(self.ring(u)), set(self.ring(mu))
        if mu in ring or (mv != v and mv in ring):
            return None
        if mv == v and not (ring & mirrored_ring) - {v} <= set(self.ring(v)):
            return None
        plan, mirrored = self._plan(u, v), self._plan(mu, mv)
        if plan is None or mirrored is None:
            return None
        return self._apply(u, v, plan) | self._apply(mu, mv, mirrored)

    def _plan(self, u: int, v: int) -> dict[int, int] | None:
        """uv id -> uv id for the corners at u, if the collapse keeps mesh and charts sound."""
        removed = sorted(self.around[u] & self.around[v])
        if len(removed) != 2 or len(set(self.ring(u)) & set(self.ring(v))) != 2:
            return None
        corners = {self._corner(i, u) for i in self.around[u]}
        remap = {self._corner(i, u): self._corner(i, v) for i in removed}
        if corners != set(remap) or not self._seam_kept(u, v, corners, remap):
            return None
        rest = self.around[u] - set(removed)
        if len(rest) < 1 or not self._shapes_kept(u, v, sorted(rest), remap):
            return None
        return remap

    def _corner(self, i: int, vertex: int) -> int:
        return self.uv_face[i][self.face[i].index(vertex)]

    def _seam_kept(self, u: int, v: int, corners: set[int], remap: dict[int, int]) -> bool:
        """A seam vertex may only slide along a nearly straight seam."""
        if len(corners) == 1:
            return True
        if len(corners) > 2 or len(set(remap.values())) < 1:
            return False
        # The seam's other end at u: the neighbour whose two faces disagree about u's corner.
        ends = []
        for w in self.ring(u):
            shared = self.around[u] & self.around[w]
            if len({self._corner(i, u) for i in shared}) == 2:
                ends.append(w)
        if v not in ends or len(ends) != 2:
            return False
        (other,) = [w for w in ends if w != v]
        for i in self.around[u] & self.around[other]:
            a, b = self.uv[self._corner(i, other)], self.uv[remap[self._corner(i, u)]]
            p, along = self.uv[self._corner(i, u)], b - a
            length = float(np.hypot(*along))
            cross = along[0] * (p - a)[1] - along[1] * (p - a)[0]
            if length < 1e-9 or abs(cross) / length > _MAX_SEAM_SHIFT:
                return False
        return True

    def _shapes_kept(self, u: int, v: int, rest: list[int], remap: dict[int, int]) -> bool:
        old = np.array([self.face[i] for i in rest])
        new = np.where(old == u, v, old)
        before, _ = _normals(self.points[old])
        after, aspect = _normals(self.points[new])
        cosine = (before * after).sum(-1) / (
            np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1) + 1e-20
        )
        if cosine.min() < _MIN_NORMAL_COSINE or aspect.min() < _MIN_ASPECT:
            return False
        uv_old = np.array([self.uv_face[i] for i in rest])
        uv_new = np.where(old == u, np.vectorize(lambda t: remap.get(t, t))(uv_old), uv_old)
        area_old, area_new = _uv_area(self.uv[uv_old]), _uv_area(self.uv[uv_new])
        return bool((area_new * np.sign(area_old) > _MIN_UV_SHARE * np.abs(area_old)).all())

    def _apply(self, u: int, v: int, remap: dict[int, int]) -> set[int]:
        ring = set(self.ring(u))
        for i in sorted(self.around[u]):
            f = self.face[i]
            if v in f:
                for a in f:
                    if a != u:
                        self.around[a].discard(i)
                del self.face[i], self.uv_face[i]
                continue
            k = f.index(u)
            f[k] = v
            self.uv_face[i][k] = remap[self.uv_face[i][k]]
            self.around[v].add(i)
        self.around[u] = set()
        self.quadric[v] += self.quadric[u]
        self.version[u] += 1
        return ring

    def result(self) -> Simplified:
        """Renumber what is left."""
        order = sorted(self.face)
        faces = np.array([self.face[i] for i in order])
        uv_faces = np.array([self.uv_face[i] for i in order])
        kept, index = np.unique(faces, return_inverse=True)
        kept_uv, uv_index = np.unique(uv_faces, return_inverse=True)
        return Simplified(kept, kept_uv, index.reshape(-1, 3), uv_index.reshape(-1, 3))


def _vertex_quadrics(points: F64, faces: I64, importance: F64) -> F64:
    """[V, K, 4, 4] area-weighted plane quadrics, scaled by the vertex's importance."""
    a, b, c = (points[faces[:, k]] for k in range(3))  # [F, K, 3]
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=-1) + 1e-20
    normal = normal / area[..., None]
    plane = np.concatenate([normal, -(normal * a).sum(-1)[..., None]], axis=-1)
    quadric = plane[..., :, None] * plane[..., None, :] * (area / 6)[..., None, None]
    quadric /= points.shape[1]
    out = np.zeros((len(points), points.shape[1], 4, 4))
    for k in range(3):
        np.add.at(out, faces[:, k], quadric)
    return out * importance[:, None, None, None]


def _normals(triangles: F64) -> tuple[F64, F64]:
    """Area normals [F, K, 3] and height over longest edge [F, K] of triangles [F, 3, K, 3]."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    longest2 = np.max([((b - a) ** 2).sum(-1), ((c - b) ** 2).sum(-1), ((a - c) ** 2).sum(-1)], 0)
    return normal, np.linalg.norm(normal, axis=-1) / (longest2 + 1e-20)


def _uv_area(corner: F64) -> F64:
    a, b, c = corner[:, 0], corner[:, 1], corner[:, 2]
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
