"""Which part of the rest body each garment covers, and how far it stands off the skin.

Every garment is a signed distance in metres (positive inside) over the body's surface; colour and
relief both derive from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.people.anatomy import Anatomy
from reference.people.fields import Fields, box
from reference.people.outfit import Bottom, Footwear, Outer, Outfit, Top

F32 = NDArray[np.float32]

__all__ = [
    "Layer",
    "bottom_hem_y",
    "layers",
    "outer_hem_y",
    "outer_opening_m",
    "top_hem_y",
    "waistband_y",
]


@dataclass(frozen=True, eq=False)
class Layer:
    """One garment on the body's surface.

    Attributes
    ----------
    distance : [N] metres inside its edge; negative outside.
    thickness_m : [N] how far it stands off the skin where it covers.
    smoothing : 0 clings to every detail of the body, 1 hides toes and creases.
    """

    name: str
    distance: F32
    thickness_m: F32
    smoothing: float


def waistband_y(anatomy: Anatomy) -> float:
    """Where trousers and skirts begin."""
    return anatomy.waist_y - 0.035


def top_hem_y(top: Top, anatomy: Anatomy) -> float:
    """Lower edge of the top on the trunk."""
    if top.kind == "dress" or top.tucked:
        return anatomy.waist_y - 0.045
    if top.kind in ("hoodie", "sweater"):
        return anatomy.hip_y - 0.01
    return anatomy.waist_y - max(top.hem, -0.1) * (anatomy.waist_y - anatomy.crotch_y)


def outer_hem_y(outer: Outer, anatomy: Anatomy) -> float:
    """Lower edge of the jacket on the trunk; a coat's tails continue below it."""
    return anatomy.waist_y - 0.06 if outer.tails_m > 0 else anatomy.hip_y + 0.01


def bottom_hem_y(bottom: Bottom, anatomy: Anatomy) -> float:
    """Lower edge on the legs."""
    span = anatomy.crotch_y - (anatomy.ankle_y - 0.03)
    return anatomy.crotch_y - bottom.hem * span


def outer_opening_m(outer: Outer, anatomy: Anatomy, y: F32) -> F32:
    """Half the width of the open front at heights y. [N] → [N]."""
    widening = 0.12 * np.clip(anatomy.chest_y - y, -0.15, 0.4)
    return np.asarray(outer.opening_m + widening, np.float32)


def layers(outfit: Outfit, fields: Fields) -> list[Layer]:
    """The garments from the innermost to the outermost."""
    top = _top(outfit.top, fields)
    bottom = _bottom(outfit.bottom, fields)
    result = [_sock(outfit.footwear, fields)] if outfit.footwear.sock_m > -0.5 else []
    result += [bottom]
    if outfit.footwear.kind != "barefoot":
        shoe = _shoe(outfit.footwear, fields)
        high = outfit.footwear.shaft_m > 0.12 and outfit.bottom.flare_m < 0.012
        # Tall boots go over the trouser leg, everything else under its hem.
        result = [*result, shoe] if high else [*result[:-1], shoe, bottom]
    if outfit.top.tucked:
        result.insert(0, top)
    else:
        result.append(top)
    if outfit.bottom.belt is not None and (outfit.top.tucked or outfit.is_dress):
        result.append(_belt(fields))
    if outfit.top.collar:
        result.append(_collar(fields))
    if outfit.outer is not None:
        result.append(_outer(outfit.outer, fields))
        if outfit.outer.tails_m == 0 and not outfit.outer.hood:
            result.append(_collar(fields, "outer_collar", 0.030))
    return result


def _bump(value: F32, centre: float, width: float) -> F32:
    """A smooth hill of height 1. [N] → [N]."""
    return np.exp(-(((value - np.float32(centre)) / np.float32(width)) ** 2)).astype(np.float32)


def _smoothstep(value: F32, low: float, high: float) -> F32:
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _sock(footwear: Footwear, fields: Fields) -> Layer:
    edge = fields.anatomy.ankle_y + 0.02 + footwear.sock_m
    distance = np.float32(edge) - fields.y
    return Layer("sock", distance, np.full_like(distance, 0.003), 0.8)


def _shoe(footwear: Footwear, fields: Fields) -> Layer:
    anatomy = fields.anatomy
    edge = anatomy.ankle_y + 0.012 + footwear.shaft_m
    distance = np.float32(edge) - fields.y
    if footwear.kind == "flats":
        # Open over the instep: only toes, sides and heel are covered.
        instep = box(fields.z, anatomy.leg_z - 0.045, anatomy.leg_z + 0.115)
        low = np.float32(anatomy.floor_y + 0.042) - fields.y
        distance = np.where(instep > 0, np.minimum(low, distance), distance).astype(np.float32)
    sole = _smoothstep(-(fields.y - np.float32(anatomy.floor_y)), -0.035, 0.0)
    bulk = {"sneakers": 0.010, "boots": 0.012, "shoes": 0.007}.get(footwear.kind, 0.005)
    return Layer("shoe", distance, bulk + 0.006 * sole, 1.0)


def _bottom(bottom: Bottom, fields: Fields) -> Layer:
    anatomy = fields.anatomy
    top = waistband_y(anatomy)
    hem = bottom_hem_y(bottom, anatomy)
    thickness = np.full_like(fields.y, bottom.thickness_m)
    if bottom.kind == "skirt":
        hem = anatomy.crotch_y - 0.05
        thickness[:] = 0.004
    elif bottom.kind != "leggings":
        thickness = np.maximum(thickness, _tube(bottom, fields, hem))
    return Layer("bottom", box(fields.y, hem, top), thickness, 0.7)


def _tube(bottom: Bottom, fields: Fields, hem: float) -> F32:
    """How far a trouser leg that hangs as a tapered tube from the thigh stands off the leg. [N]."""
    anatomy = fields.anatomy
    radius, ankle, thigh = fields.leg_radius, 0.044, 0.074
    high = anatomy.crotch_y - 0.10
    down = np.clip((high - fields.y) / (high - anatomy.ankle_y), 0, 1)
    wide = ankle + 0.004 + bottom.thickness_m + bottom.flare_m
    tube = thigh + bottom.thickness_m + (wide - thigh - bottom.thickness_m) * down
    if bottom.kind == "joggers":
        tube = tube - 0.02 * _smoothstep(-fields.y, -hem - 0.05, -hem - 0.02)
    stands_off = np.where(radius < 0.2, tube - radius, 0) * _smoothstep(
        -fields.y, -anatomy.crotch_y + 0.02, -high
    )
    return np.asarray(stands_off, np.float32)


def _top(top: Top, fields: Fields) -> Layer:
    anatomy = fields.anatomy
    hem = fields.y - np.float32(top_hem_y(top, anatomy))
    reach = top.sleeve * (anatomy.wrist_x - anatomy.shoulder_x)
    sleeve = np.float32(reach) - fields.sleeve
    distance = np.minimum(np.minimum(hem, sleeve), _neckline(top, fields))
    trunk = 1 - _smoothstep(fields.sleeve, -0.02, 0.04)
    # What is not tucked in hangs straight down past the waist.
    loose = 1.0 if top.tucked or top.kind == "dress" else 2.2
    drape = loose * top.thickness_m * _bump(fields.y, anatomy.waist_y - 0.01, 0.12) * trunk
    cuff = 0.5 * top.thickness_m * _smoothstep(fields.sleeve, 0.1, 0.3)
    thickness = top.thickness_m + drape + (cuff if top.kind == "tshirt" else 0.0 * cuff)
    if top.kind == "hoodie":
        thickness = thickness + _hood(fields)
    return Layer("top", distance, thickness.astype(np.float32), 0.9)


def _neckline(top: Top, fields: Fields) -> F32:
    distance = fields.neckline - np.float32(0.004)
    depth = np.float32(top.neck_depth_m)
    if top.neckline == "v":
        cut = depth * 1.3 * np.clip(1.25 - fields.side_x / 0.065, 0, 1)
        distance = distance - cut * fields.front
    elif top.neckline == "scoop":
        distance = distance - depth * fields.front * _bump(fields.x, 0.0, 0.085)
    if top.kind == "tank":
        distance = np.minimum(distance, fields.neckline - 0.02)
    return distance.astype(np.float32)


def _hood(fields: Fields) -> F32:
    """A hood that lies on the shoulders behind the neck."""
    anatomy = fields.anatomy
    back = _bump(fields.y, anatomy.neck_y - 0.035, 0.05) * _bump(fields.x, 0.0, 0.085)
    return np.asarray(0.038 * back * (1 - fields.front) + 0.006 * back, np.float32)


def _belt(fields: Fields) -> Layer:
    distance = np.float32(0.02) - np.abs(fields.y - np.float32(waistband_y(fields.anatomy) - 0.012))
    return Layer("belt", distance, np.full_like(distance, 0.012), 0.9)


def _collar(fields: Fields, name: str = "collar", width_m: float = 0.024) -> Layer:
    distance = np.float32(width_m) - np.abs(fields.neckline - np.float32(0.008))
    gap = np.float32(0.012) + np.maximum(fields.neckline, 0) * 0.6
    opened = np.where(fields.is_front, fields.side_x - gap, np.float32(1.0))
    distance = np.minimum(distance, opened).astype(np.float32)
    return Layer(name, distance, np.full_like(distance, 0.014 + width_m * 0.2), 0.6)


def _outer(outer: Outer, fields: Fields) -> Layer:
    anatomy = fields.anatomy
    hem = fields.y - np.float32(outer_hem_y(outer, anatomy))
    reach = outer.sleeve * (anatomy.wrist_x - anatomy.shoulder_x) - 0.005
    sleeve = np.float32(reach) - fields.sleeve
    opening = np.where(
        fields.is_front & (fields.sleeve < 0),
        fields.side_x - outer_opening_m(outer, anatomy, fields.y),
        np.float32(1.0),
    )
    distance = np.minimum(np.minimum(hem, sleeve), np.minimum(fields.neckline + 0.012, opening))
    # It hangs past the waist rather than following it in.
    trunk = 1 - _smoothstep(fields.sleeve, -0.02, 0.04)
    drape = 1.6 * outer.thickness_m * _bump(fields.y, anatomy.waist_y, 0.11) * trunk
    thickness = outer.thickness_m + drape
    if outer.hood:
        thickness = thickness + _hood(fields)
    return Layer("outer", distance.astype(np.float32), thickness.astype(np.float32), 1.0)
