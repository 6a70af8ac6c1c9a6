"""Skirts and coat tails: tubes that hang from the waist of the clothed body at rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import PosedBody, ShapedBody
from reference.people.canvas import Canvas
from reference.people.fields import ramp
from reference.people.garments import (
    bottom_hem_y,
    outer_hem_y,
    outer_opening_m,
    waistband_y,
)
from reference.people.loose import Guides, LooseMesh, grid_mesh, slot_shape
from reference.people.noise import lattice_noise
from reference.people.outfit import Bottom, Fabric, Outfit
from reference.people.texture.blend import over, shade
from reference.people.texture.patterns import weave

F32 = NDArray[np.float32]

__all__ = ["draped_garments", "hung"]

ROWS = 11
SKIRT_COLUMNS = 48
TAIL_COLUMNS = 36
BINS = 72
GAP_M = 0.012
"""How far a skirt stays off what it hangs over."""

TUCK_M = -0.006

DRAGGED = 0.45
"""Share of a leg's motion that cloth follows where the leg moves away from it."""


def draped_garments(
    outfit: Outfit, canvas: Canvas, clothed: ShapedBody, rng: np.random.Generator
) -> list[LooseMesh]:
    """The skirt and the coat tails of an outfit, where it has them."""
    parts = []
    # Heights are the template's; the shaped body's legs are longer or shorter.
    to_y = _leg_scale(canvas, clothed)
    fields = canvas.vertices
    trunk = clothed.vertices[(fields.arm < 0.3) & (fields.y < canvas.anatomy.chest_y)]
    if outfit.bottom.kind == "skirt":
        top = to_y(waistband_y(canvas.anatomy) + (0.012 if outfit.is_dress else 0.0))
        low = to_y(bottom_hem_y(outfit.bottom, canvas.anatomy))
        flare = float(rng.uniform(0.02, 0.22))
        guides = _tube(trunk, clothed.joints, (top, low), flare, 0.0, rng)
        picture = _skirt_picture(outfit, canvas, guides, rng)
        parts.append(grid_mesh(guides, slot="skirt", picture=picture))
    outer = outfit.outer
    if outer is not None and outer.tails_m > 0:
        hem = outer_hem_y(outer, canvas.anatomy)
        low = hem - outer.tails_m
        # The tails' front edges continue those of the jacket.
        opening = float(outer_opening_m(outer, canvas.anatomy, np.float32([hem]))[0])
        gap = float(np.arctan2(opening, 0.125))
        trunk = np.concatenate([trunk, *(part.rest for part in parts)])
        guides = _tube(trunk, clothed.joints, (to_y(hem + 0.045), to_y(low)), 0.06, gap, rng)
        picture = _tails_picture(outer.fabric, outer.trim, canvas, guides, rng)
        parts.append(grid_mesh(guides, slot="tails", picture=picture))
    return parts


def _leg_scale(canvas: Canvas, clothed: ShapedBody) -> Callable[[float], float]:
    """From heights on the template to heights on the shaped body, matched at hip and ankle."""
    rest = canvas.body.shape([]).joints
    factor = (clothed.joints[0, 1] - clothed.joints[7, 1]) / (rest[0, 1] - rest[7, 1])
    return lambda y: float(clothed.joints[0, 1] + factor * (y - rest[0, 1]))


def _tube(
    points: F32,
    joints: F32,
    span_y: tuple[float, float],
    flare: float,
    gap_rad: float,
    rng: np.random.Generator,
) -> Guides:
    """A tube around the points [n,3]; with `gap_rad` on either side of the front, an open one."""
    heights = np.linspace(*span_y, ROWS, dtype=np.float32)
    axis_z = float(joints[0, 2])
    closed = gap_rad == 0
    columns = SKIRT_COLUMNS if closed else TAIL_COLUMNS
    if closed:
        angles = np.linspace(-np.pi, np.pi, columns, endpoint=False)
    else:
        # From the left front edge around the back to the right one.
        angles = np.linspace(gap_rad, 2 * np.pi - gap_rad, columns)
    radii = np.empty((ROWS, columns), np.float32)
    previous = np.zeros(columns, np.float32)
    for row, height in enumerate(heights):
        body = _profile(points, height, axis_z, angles)
        grown = previous + (heights[row - 1] - height) * flare if row else previous
        # The first row is tucked under what the tube hangs from.
        previous = np.maximum(body + (GAP_M if row else TUCK_M), grown)
        radii[row] = previous
    # The wider the hem, the deeper the folds it falls into.
    fall = np.linspace(0, 1, ROWS)[:, None]
    deep = 0.02 + 0.16 * flare
    radii = radii * (1 + deep * fall * _pleats(angles, rng))
    x = radii * np.sin(angles)
    z = axis_z + radii * np.cos(angles)
    y = np.broadcast_to(heights[:, None], x.shape)
    rest = np.stack([x, y, z], -1).astype(np.float32)
    ids, weights = _leg_weights(rest, joints)
    pull = np.linspace(22, 9, ROWS).astype(np.float32)
    return Guides(rest, ids, weights, 2, pull, closed, "legs")


def _pleats(angles: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Folds around a tube, uneven, in [-1, 1]. [columns]."""
    phase = rng.uniform(0, 2 * np.pi, 3)
    count = int(rng.integers(6, 10))
    drift = 0.8 * np.sin(2 * angles + phase[0])
    wave = np.sin(count * angles + phase[1] + drift) * (0.75 + 0.25 * np.sin(3 * angles + phase[2]))
    return np.asarray(wave)


def _profile(points: F32, height: float, axis_z: float, angles: NDArray[np.float64]) -> F32:
    """Radius of the body's hull around the vertical axis at one height. [columns]."""
    near = points[np.abs(points[:, 1] - height) < 0.03]
    if len(near) == 0:
        return np.zeros(len(angles), np.float32)
    dx, dz = near[:, 0], near[:, 2] - axis_z
    # The support function bridges the hollow between the legs, as hanging cloth does.
    directions = np.stack([np.sin(angles), np.cos(angles)])
    support = (np.stack([dx, dz], 1) @ directions).max(0)
    turn = np.abs((angles[:, None] - angles[None, :] + np.pi) % (2 * np.pi) - np.pi)
    reach = support[None, :] / np.maximum(np.cos(turn), 0.2)
    return np.asarray(np.where(turn < 1.2, reach, np.inf).min(1), np.float32)


def _leg_weights(rest: F32, joints: F32) -> tuple[NDArray[np.int32], F32]:
    """Skin weights of hanging cloth: pelvis at the top, thighs and a little shin below."""
    x, y = rest[..., 0], rest[..., 1]
    hip_y, knee_y = joints[1, 1], joints[4, 1]
    fall = np.clip((hip_y + 0.06 - y) / (hip_y - knee_y), 0, 1)
    leg = 0.95 * fall * fall * (3 - 2 * fall)
    left = ramp(x, 0.24)
    shin = 0.5 * leg * np.clip((knee_y - y) / 0.3, 0, 1)
    own_knee = np.where(x > 0, 4, 5)
    ids = np.stack(
        [np.zeros_like(own_knee), np.ones_like(own_knee), np.full_like(own_knee, 2), own_knee], -1
    )
    side = np.abs(left - 0.5) * 2
    shin = shin * side
    thigh = leg - shin
    weights = np.stack([1 - leg, thigh * left, thigh * (1 - left), shin], -1)
    return ids.astype(np.int32), weights.astype(np.float32)


def _cloth_coordinates(canvas: Canvas, guides: Guides) -> tuple[F32, F32, int, int]:
    """u, v [h·w] in metres over the slot's picture, and its shape."""
    height, width = slot_shape(canvas.size)
    radius = np.linalg.norm(
        guides.rest[ROWS // 2, :, ::2] - guides.rest[0, :, ::2].mean(0), axis=1
    ).mean()
    turn = np.linspace(-np.pi, np.pi, width, dtype=np.float32)
    high, low = float(guides.rest[0, 0, 1]), float(guides.rest[-1, 0, 1])
    u = np.broadcast_to(turn * np.float32(radius), (height, width))
    v = np.broadcast_to(np.linspace(high, low, height, dtype=np.float32)[:, None], (height, width))
    return u.ravel().copy(), v.ravel().copy(), height, width


def hung(guides: Guides, carried: F32, posed: PosedBody) -> F32:
    """Where cloth hangs: pushed by the legs, hardly pulled along by them. [rows, columns, 3].

    `carried` is plain skinning, which glues front and back of a skirt to the legs.
    """
    if guides.collides != "legs":
        return carried
    pelvis = posed.transforms[0]
    straight = guides.rest @ pelvis[:, :3].T + pelvis[:, 3]
    outward = guides.rest - guides.rest.mean(1, keepdims=True)
    outward[..., 1] = 0
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + np.float32(1e-6)
    outward = outward @ pelvis[:, :3].T
    push = np.einsum("rck,rck->rc", carried - straight, outward)[..., None]
    follow = np.float32(DRAGGED) + np.float32(1 - DRAGGED) * ramp(push, 0.06)
    return np.asarray(straight + follow * (carried - straight), np.float32)


def _blotches(u: F32, v: F32, rng: np.random.Generator) -> F32:
    """The trunk's medium noise, for a sheet. [n]."""
    return lattice_noise(np.stack([u, v, np.zeros_like(u)], 1), 0.07, rng)


def _folds(u: F32, v: F32, rng: np.random.Generator, depth: float) -> F32:
    """Brightness of vertical folds that deepen towards the hem."""
    phase = rng.uniform(0, 6, 3)
    wave = (
        np.sin(u * 31 + phase[0])
        + 0.6 * np.sin(u * 53 + phase[1])
        + 0.4 * np.sin(u * 17 + phase[2])
    )
    fall = (v.max() - v) / max(float(v.max() - v.min()), 1e-3)
    return np.asarray(1 + depth * wave * (0.3 + 0.7 * fall), np.float32)


def _skirt_picture(outfit: Outfit, canvas: Canvas, guides: Guides, rng: np.random.Generator) -> F32:
    bottom: Bottom = outfit.bottom
    u, v, height, width = _cloth_coordinates(canvas, guides)
    fabric = outfit.top.fabric if outfit.is_dress else bottom.fabric
    paint = weave(fabric, u, v, _blotches(u, v, rng))
    shade(paint, _folds(u, v, rng, float(rng.uniform(0.03, 0.09))))
    if rng.random() < 0.4:
        over(
            paint,
            outfit.top.trim if outfit.is_dress else bottom.seams,
            ramp(v.min() + 0.03 - v, 0.004),
        )
    band = bottom.belt if bottom.belt is not None else None
    if band is not None:
        over(paint, band, ramp(v - v.max() + 0.035, 0.004))
    elif not outfit.is_dress:
        shade(paint, 1 - 0.25 * ramp(0.004 - np.abs(v - v.max() + 0.035), 0.004))
    return np.clip(paint, 0, 1).reshape(height, width, 3)


def _tails_picture(
    fabric: Fabric,
    trim: tuple[float, float, float],
    canvas: Canvas,
    guides: Guides,
    rng: np.random.Generator,
) -> F32:
    u, v, height, width = _cloth_coordinates(canvas, guides)
    paint = weave(fabric, u, v, _blotches(u, v, rng))
    shade(paint, _folds(u, v, rng, 0.04))
    # A vent in the middle of the back, and the trim of the front edges.
    vent = np.maximum(np.abs(u) - 0.003, v - (v.min() + 0.25))
    shade(paint, 1 - 0.5 * ramp(-vent, 0.003))
    edge = np.abs(u) - np.abs(u).max() + 0.022
    over(paint, trim, 0.85 * ramp(edge, 0.004))
    return np.clip(paint, 0, 1).reshape(height, width, 3)
