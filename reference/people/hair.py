"""The scalp: where hair or a hat grows on the head, and how far it stands off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.fields import Fields, ramp
from reference.people.look import Hair
from reference.people.noise import lattice_noise

F32 = NDArray[np.float32]

__all__ = ["CURTAIN_STYLES", "Scalp", "hair_offsets", "scalp_of"]

CURTAIN_STYLES = ("bob", "long", "wavy")

# The hairline: metres above the eyes at angles (degrees) from the front, around to the nape.
LINE_ANGLES = (0, 35, 58, 72, 82, 92, 108, 122, 150, 180)
LINE_HEIGHTS = (0.066, 0.062, 0.045, 0.004, -0.022, 0.012, 0.008, -0.045, -0.075, -0.088)
HAT_ANGLES = (0, 60, 90, 180)
HAT_HEIGHTS = (0.046, 0.036, 0.022, -0.012)


@dataclass(frozen=True, eq=False)
class Scalp:
    """Hair and hat at a set of points.

    Attributes
    ----------
    hair, hat : [N] signed distance to their edges, positive inside.
    angle : [N] radians around the head, 0 in front, positive to the subject's left.
    lift : [N] metres above the eyes.
    outward : [N,3] unit, away from the middle of the skull.
    """

    hair: F32
    hat: F32
    angle: F32
    lift: F32
    outward: F32


def scalp_of(hair: Hair, fields: Fields) -> Scalp:
    """Scalp coordinates of any points of the body."""
    head = fields.anatomy.head
    local = (fields.position - head.centre) / head.radii
    outward = local / (np.linalg.norm(local, axis=1, keepdims=True) + 1e-6)
    angle = np.arctan2(local[:, 0], local[:, 2]).astype(np.float32)
    around = np.degrees(np.abs(angle))
    lift = fields.y - head.eye[1]
    on_head = np.where(fields.neck > 0.25, np.float32(1), np.float32(-1))
    distance = lift - np.interp(around, LINE_ANGLES, _line_heights(hair)).astype(np.float32)
    # Ears stay bare: they stand out from the skull.
    if hair.style not in ("afro", *CURTAIN_STYLES):
        distance = np.where((fields.ear > 0.5) & (lift < 0.012), -0.01, distance)
    distance = np.minimum(_thin_top(hair, distance, lift, around, fields), on_head)
    hat = lift - np.interp(around, HAT_ANGLES, HAT_HEIGHTS).astype(np.float32)
    hat = np.minimum(hat, on_head) if hair.hat != "none" else np.full_like(lift, -1)
    if hair.style == "bald":
        distance = np.full_like(lift, -1)
    return Scalp(
        np.asarray(distance, np.float32),
        np.asarray(hat, np.float32),
        angle,
        np.asarray(lift, np.float32),
        np.asarray(outward, np.float32),
    )


def _line_heights(hair: Hair) -> F32:
    heights = np.array(LINE_HEIGHTS, np.float32)
    if (
        hair.style in (*CURTAIN_STYLES, "short", "curly", "ponytail", "pigtails")
        and hair.fringe > 0.55
    ):
        # A fringe down to just above the brows.
        heights[:3] = (0.034, 0.030, 0.022)
    if hair.style in CURTAIN_STYLES:
        heights[3:6] = (0.0, -0.02, -0.02)
    if hair.style in ("buzz", "balding"):
        heights[:2] += 0.008
    return heights


def _thin_top(hair: Hair, distance: F32, lift: F32, around: F32, fields: Fields) -> F32:
    """Take away what a style leaves bare on top."""
    if hair.style == "balding":
        top = np.where(around < 150, 0.058 + 0.0002 * around, 0.09)
        return np.minimum(distance, top - lift).astype(np.float32)
    return distance


def hair_offsets(hair: Hair, canvas: Canvas, rng: np.random.Generator) -> F32:
    """Offsets [V,3] from scalp to the surface of hair and hat, in the rest pose."""
    fields = canvas.vertices
    scalp = scalp_of(hair, fields)
    alpha = ramp(scalp.hair - 0.004, 0.018)
    thickness = hair.volume_m * (0.55 + 0.45 * np.clip(scalp.lift / 0.10, 0, 1))
    high = np.clip((scalp.lift - 0.05) / 0.06, 0, 1)
    if hair.style == "quiff":
        front = np.clip(np.cos(scalp.angle), 0, 1)
        thickness = 0.4 * thickness + hair.volume_m * 1.1 * high * front
    elif hair.style == "short":
        thickness = thickness * (0.45 + 0.7 * high)
        swept = 0.35 * hair.volume_m * high * np.tanh(fields.x * hair.parting / 0.03)
        thickness = thickness + swept
    elif hair.style == "mohawk":
        crest = ramp(0.026 - fields.side_x, 0.014)
        thickness = 0.004 + hair.volume_m * crest * high
    elif hair.style in ("ponytail", "bun", "pigtails"):
        thickness = 0.55 * thickness
    if hair.curl > 0.4:
        lumps = lattice_noise(fields.position, 0.022, rng)
        thickness = thickness * (1 + 0.3 * hair.curl * lumps)
    thickness = np.maximum(thickness, 0.002).astype(np.float32) * alpha
    if hair.hat != "none":
        worn = ramp(scalp.hat, 0.015)
        crown = 0.012 if hair.hat == "cap" else 0.016 + 0.02 * np.clip(scalp.lift / 0.1, 0, 1) ** 2
        thickness = thickness * (1 - worn) + worn * crown
        thickness = np.where(scalp.hat < 0, np.minimum(thickness, 0.02), thickness)
    return (scalp.outward * thickness[:, None]).astype(np.float32)
