"""Cloth and hair that hang free of the body: small grids with their own texture and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import STRIP

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

__all__ = ["SLOTS", "STRIP_SHARE", "Guides", "LooseMesh", "grid_mesh", "slot_shape"]

STRIP_SHARE = STRIP / (1 + STRIP)
"""Share of the whole texture's height that the loose meshes have, at its bottom."""

SLOTS = {"skirt": (0.0, 0.0), "tails": (0.5, 0.0), "curtain": (0.0, 0.5), "tress": (0.5, 0.5)}
"""Corner of each texture slot within the strip, (u, v); a slot is half as wide and as high."""


@dataclass(frozen=True, eq=False)
class Guides:
    """The particles that move a loose mesh: a grid hanging from its first rows.

    Attributes
    ----------
    rest : [rows, columns, 3] in the rest pose.
    bone_ids, bone_weights : [rows, columns, 4].
    pinned : rows that follow the body exactly.
    pull : [rows] rad/s, how fast a row returns to where the body carries it.
    closed : the last column is joined to the first.
    collides : "legs", "outward" (never behind where the body carries it) or "none".
    """

    rest: F32
    bone_ids: I32
    bone_weights: F32
    pinned: int
    pull: F32
    closed: bool
    collides: str


@dataclass(frozen=True, eq=False)
class LooseMesh:
    """Render vertices that follow guides.

    Attributes
    ----------
    guides : the particles; None for a part rigid on its bones.
    guide_of : [n] flat index of the guide each vertex moves with.
    rest [n,3], bone_ids [n,4], bone_weights [n,4] : its skinned position before the guides' motion.
    faces [f,3], uv [m,2] within the slot (v down), uv_faces [f,3].
    slot, picture : where its texture goes, sRGB [h,w,3].
    """

    guides: Guides | None
    guide_of: NDArray[np.int64]
    rest: F32
    bone_ids: I32
    bone_weights: F32
    faces: I32
    uv: F32
    uv_faces: I32
    slot: str
    picture: F32


def slot_shape(size: int) -> tuple[int, int]:
    """Rows and columns of one slot in an atlas `size` texels wide."""
    return round(size * STRIP / 2), size // 2


def grid_faces(rows: int, columns: int, closed: bool) -> tuple[I32, I32, F32]:
    """Faces [f,3] of a grid, the same on a UV grid with its seam, and UVs in [0,1], v down."""
    wide = columns + 1 if closed else columns
    r, c = np.mgrid[0 : rows - 1, 0 : wide - 1]

    def corner(i: NDArray[np.int64], j: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        return (i * width + j % width).ravel()

    def triangles(width: int) -> I32:
        a, b = corner(r, c, width), corner(r, c + 1, width)
        d, e = corner(r + 1, c, width), corner(r + 1, c + 1, width)
        return np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, e], 1)]).astype(np.int32)

    v, u = np.mgrid[0:rows, 0:wide].astype(np.float32)
    uv = np.stack([u.ravel() / (wide - 1), v.ravel() / (rows - 1)], 1)
    return triangles(columns), triangles(wide), uv.astype(np.float32)


def grid_mesh(guides: Guides, *, slot: str, picture: F32, moving: bool = True) -> LooseMesh:
    """A sheet whose vertices are its guides."""
    rows, columns = guides.rest.shape[:2]
    faces, uv_faces, uv = grid_faces(rows, columns, guides.closed)
    return LooseMesh(
        guides=guides if moving else None,
        guide_of=np.arange(rows * columns),
        rest=guides.rest.reshape(-1, 3),
        bone_ids=guides.bone_ids.reshape(-1, 4),
        bone_weights=guides.bone_weights.reshape(-1, 4),
        faces=faces,
        uv=uv,
        uv_faces=uv_faces,
        slot=slot,
        picture=picture,
    )
