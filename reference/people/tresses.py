"""Hair that hangs or stands off the scalp: curtains, tails, buns, and the brim of a cap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import ShapedBody
from reference.people.anatomy import HeadShape
from reference.people.canvas import Canvas
from reference.people.hair import CURTAIN_STYLES
from reference.people.look import Hair
from reference.people.loose import Guides, LooseMesh, grid_faces, grid_mesh, slot_shape
from reference.people.texture.hair import tress_picture

F32 = NDArray[np.float32]

__all__ = ["hanging_hair"]

HEAD, NECK, CHEST = 15, 12, 9
CURTAIN_ROWS, CURTAIN_COLUMNS = 10, 21
TAIL_ROWS, TAIL_COLUMNS = 9, 8


def hanging_hair(
    hair: Hair, canvas: Canvas, clothed: ShapedBody, rng: np.random.Generator
) -> list[LooseMesh]:
    """The meshes of a hairstyle and hat."""
    head = canvas.anatomy.head
    shift = clothed.joints[HEAD] - canvas.body.shape([]).joints[HEAD]
    parts: list[LooseMesh] = []
    height, width = slot_shape(canvas.size)
    if hair.style in CURTAIN_STYLES:
        picture = tress_picture(hair, height, width, rng)
        guides = _curtain(hair, head, shift, clothed, canvas)
        parts.append(grid_mesh(guides, slot="curtain", picture=picture))
    if hair.style == "bun":
        high = float(rng.uniform(-0.2, 0.9))
        way = _towards_back(high)
        centre = head.centre + shift + way * (head.radii + 0.028)
        parts.append(_ball(centre, 0.042, tress_picture(hair, height, width, rng)))
    tails = {"ponytail": (0.0,), "pigtails": (-1.0, 1.0)}.get(hair.style, ())
    for side in tails:
        picture = tress_picture(hair, height, width, rng) if side <= 0 else parts[-1].picture
        parts.append(_tail(hair, head, shift, clothed, canvas, side, picture))
    if hair.hat == "cap":
        parts.append(_brim(hair, head, shift, height, width))
    return parts


def _towards_back(high: float) -> F32:
    """Unit direction behind the head, `high` up."""
    way = np.array([0, high, -1], np.float32)
    return np.asarray(way / np.linalg.norm(way), np.float32)


def _bones(y: F32, chin_y: float, chest_y: float) -> tuple[NDArray[np.int32], F32]:
    """Hair follows the head above the chin and the chest below the shoulders. [..., 4]."""
    t = np.clip((chin_y + 0.02 - y) / max(chin_y - chest_y, 0.05), 0, 1)
    t = t * t * (3 - 2 * t)
    ids = np.broadcast_to(np.array([HEAD, NECK, CHEST, 0], np.int32), (*y.shape, 4))
    neck = t * (1 - t)
    weights = np.stack([(1 - t) - neck / 2, neck, t - neck / 2, np.zeros_like(t)], -1)
    return np.ascontiguousarray(ids), np.ascontiguousarray(weights, np.float32)


def _curtain(
    hair: Hair, head: HeadShape, shift: F32, clothed: ShapedBody, canvas: Canvas
) -> Guides:
    """A sheet from temple to temple around the back, ever more behind the shoulders."""
    centre = head.centre + shift
    top_y = head.eye[1] + shift[1] + 0.035
    down = np.linspace(0, 1, CURTAIN_ROWS, dtype=np.float32)
    y = top_y - down * hair.length_m
    across = np.linspace(-1, 1, CURTAIN_COLUMNS, dtype=np.float32)
    chin_y = float(head.chin[1] + shift[1])
    narrowing = np.clip((chin_y - y) / 0.16, 0, 1)[:, None]
    span = np.radians(116) - narrowing * np.radians(34)
    angle = np.pi + across[None] * span
    # Wide enough to hide the ears, level with the shell of hair above them.
    wide = head.radii[0] + max(hair.volume_m, 0.016) + 0.012 * np.sin(down * np.pi)[:, None]
    deep = head.radii[2] + max(hair.volume_m, 0.014) + 0.004 * down[:, None]
    flip = 0.018 * np.clip(down - 0.8, 0, 1)[:, None] / 0.2 * (hair.style == "bob")
    x = centre[0] + (wide - flip) * np.sin(angle)
    z = centre[2] + (deep - flip) * np.cos(angle)
    # Strands end where they like, and those of the sides are shorter.
    ends = 1 - 0.16 * across**2 + 0.05 * np.sin(9 * across + hair.parting * 5) * np.cos(23 * across)
    y = top_y + (y - top_y)[:, None] * ends
    rest = np.stack([x, y, z], -1).astype(np.float32)
    # The first row is tucked into the shell, so that no gap opens when the sheet sways.
    rest[0, :, [0, 2]] = centre[[0, 2], None] + 0.93 * (rest[0, :, [0, 2]] - centre[[0, 2], None])
    if hair.style == "wavy":
        rest[..., 2] -= 0.010 * np.sin(down * 22)[:, None] * np.clip(down * 3, 0, 1)[:, None]
    _behind_shoulders(rest, clothed, canvas)
    ids, weights = _bones(rest[..., 1], chin_y, chin_y - 0.16)
    pull = np.linspace(30, 11, CURTAIN_ROWS).astype(np.float32)
    return Guides(rest, ids, weights, 2, pull, False, "outward")


def _behind_shoulders(rest: F32, clothed: ShapedBody, canvas: Canvas) -> None:
    """Push rows that would lie in neck, shoulders or back behind them, in place."""
    fields = canvas.vertices
    body = clothed.vertices[(fields.head < 0.5) & (fields.arm < 0.85)]
    limit = np.full(rest.shape[1], np.inf, np.float32)
    for row in rest:
        for k, point in enumerate(row):
            close = (np.abs(body[:, 0] - point[0]) < 0.035) & (
                np.abs(body[:, 1] - point[1]) < 0.035
            )
            if close.any():
                limit[k] = min(limit[k], float(body[close, 2].min()) - 0.016)
        row[:, 2] = np.minimum(row[:, 2], limit)
        # Cloth-like: a strand cannot stand out alone between its neighbours.
        row[1:-1, 2] = np.minimum(row[1:-1, 2], (row[:-2, 2] + row[2:, 2]) / 2 + 0.01)


def _ring(centre: F32, forward: F32, radius: float, count: int) -> F32:
    """A circle of `count` points around `centre`, across `forward`. [count,3]."""
    side = np.cross(forward, [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side) + 1e-9
    other = np.cross(forward, side)
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    circle = np.cos(turn)[:, None] * side - np.sin(turn)[:, None] * other
    return np.asarray(centre + radius * circle, np.float32)


def _tail(hair: Hair, head: HeadShape, shift: F32, clothed: ShapedBody, canvas: Canvas, side: float,
          picture: F32) -> LooseMesh:  # fmt: skip
    """A ponytail (side 0) or one of two pigtails: rings around a swaying line."""
    way = _towards_back(0.45) if side == 0 else np.array([0.8 * side, 0.1, -0.6], np.float32)
    root = head.centre + shift + way * (head.radii + hair.volume_m * 0.3)
    down = np.linspace(0, 1, TAIL_ROWS, dtype=np.float32)
    out = np.array([way[0] * (0.45 if side else 0), 0, way[2]], np.float32)
    reach = 0.055 * (1 - np.exp(-down * 5))
    line = root + out * reach[:, None]
    line[:, 1] -= hair.length_m * down - 0.02 * np.sin(np.clip(down * 6, 0, np.pi))
    guides_rest = line[:, None, :].astype(np.float32)
    _behind_shoulders(guides_rest, clothed, canvas)
    line = guides_rest[:, 0]
    thickness = 0.033 * np.sqrt(np.clip(down * 6, 0.12, 1)) * (1 - 0.75 * down**2)
    thickness *= 0.8 if side else 1.0
    forward = np.gradient(line, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    rings = np.stack(
        [_ring(line[k], forward[k], float(thickness[k]), TAIL_COLUMNS) for k in range(TAIL_ROWS)]
    )
    chin_y = float(head.chin[1] + shift[1])
    ids, weights = _bones(guides_rest[..., 1], chin_y, chin_y - 0.25)
    pull = np.linspace(24, 7, TAIL_ROWS).astype(np.float32)
    guides = Guides(guides_rest, ids, weights, 1, pull, False, "outward")
    faces, uv_faces, uv = grid_faces(TAIL_ROWS, TAIL_COLUMNS, True)
    return LooseMesh(
        guides=guides,
        guide_of=np.repeat(np.arange(TAIL_ROWS), TAIL_COLUMNS),
        rest=rings.reshape(-1, 3),
        bone_ids=np.repeat(ids.reshape(-1, 4), TAIL_COLUMNS, 0),
        bone_weights=np.repeat(weights.reshape(-1, 4), TAIL_COLUMNS, 0),
        faces=faces,
        uv=uv,
        uv_faces=uv_faces,
        slot="tress",
        picture=picture,
    )


def _rigid(rest: F32, closed: bool, picture: F32, slot: str) -> LooseMesh:
    """A grid [rows, columns, 3] fixed to the head."""
    rows, columns = rest.shape[:2]
    ids = np.zeros((rows, columns, 4), np.int32)
    ids[..., 0] = HEAD
    weights = np.zeros((rows, columns, 4), np.float32)
    weights[..., 0] = 1
    guides = Guides(
        rest.astype(np.float32), ids, weights, rows, np.ones(rows, np.float32), closed, "none"
    )
    return grid_mesh(guides, slot=slot, picture=picture, moving=False)


def _ball(centre: F32, radius: float, picture: F32) -> LooseMesh:
    """A bun."""
    polar = np.linspace(0.05, np.pi - 0.05, 7)[:, None]
    turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)[None]
    shape = (np.sin(polar) * np.cos(turn), np.cos(polar) + 0 * turn, -np.sin(polar) * np.sin(turn))
    return _rigid(centre + radius * np.stack(shape, -1), True, picture, "tress")


def _brim(hair: Hair, head: HeadShape, shift: F32, height: int, width: int) -> LooseMesh:
    """The visor of a cap."""
    centre = head.centre + shift
    turn = np.linspace(-1.1, 1.1, 9)[None]
    out = np.array([0.0, 0.03, 0.06, 0.078])[:, None]
    x = centre[0] + (head.radii[0] + 0.012) * np.sin(turn) * (1 + 0 * out)
    z = centre[2] + (head.radii[2] + 0.010) * np.cos(turn) + out * np.sqrt(np.cos(turn))
    y = head.eye[1] + shift[1] + 0.052 - 0.012 * np.sin(turn) ** 2 - out * 0.22
    rest = np.stack([x, y + 0 * x, z], -1)
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = hair.hat_trim if hair.parting > 0 else hair.hat_colour
    return _rigid(rest, False, picture, "tress")
