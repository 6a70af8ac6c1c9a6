"""Painting hair and hats: strands, partings, sheen, ribs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.fields import ramp
from reference.people.hair import scalp_of
from reference.people.look import Hair
from reference.people.texture.blend import over, shade

F32 = NDArray[np.float32]

__all__ = ["paint_hair", "strands", "tress_picture"]


def strands(hair: Hair, along: F32, across: F32, noise: F32) -> F32:
    """Hair colours [N,3]: `across` metres over the strands, `along` them, noise in [-1, 1]."""
    fine = (
        np.sin(across * 900 + 4 * noise) * 0.5 + np.sin(across * 370 + 9 * noise + along * 8) * 0.5
    )
    curly = noise * 1.6
    tone = (1 - hair.curl) * fine + hair.curl * curly
    colours = np.empty((len(across), 3), np.float32)
    colours[:] = hair.colour
    over(colours, hair.streaks, np.clip(0.35 * tone + 0.1, 0, 0.8).astype(np.float32))
    shade(colours, (1 + 0.16 * np.clip(tone, -1.5, 1)).astype(np.float32))
    return np.clip(colours, 0, 1)


def paint_hair(colours: F32, hair: Hair, skin: tuple[float, float, float], canvas: Canvas,
               rng: np.random.Generator) -> None:  # fmt: skip
    """Hair and hat, in place on the texels' colours [N,3]."""
    fields = canvas.texels
    scalp = scalp_of(hair, fields)
    fine = canvas.noise.draw("fine", rng)
    grain = canvas.noise.draw("grain", rng)
    noise = hair.curl * (0.5 * fine + 0.8 * grain) + (1 - hair.curl) * 0.6 * fine
    ragged = scalp.hair + 0.006 * grain
    # The hair throws a soft shadow on forehead and neck.
    shade(colours, 1 - 0.25 * (np.exp(-np.maximum(-scalp.hair, 0) / 0.010) * (scalp.hair < 0)))
    around = scalp.angle * 0.09
    paint = strands(hair, scalp.lift, around + 0.35 * fields.x, noise)
    ring = np.exp(-(((scalp.lift - 0.062 - 0.01 * fine) / 0.016) ** 2)) * (1 - hair.curl)
    shade(paint, (1 + 0.28 * ring).astype(np.float32))
    low = np.clip((0.03 - scalp.lift) / 0.12, 0, 1)
    shade(paint, (1 - 0.22 * low).astype(np.float32))
    cover = ramp(ragged, 0.007)
    if hair.style == "buzz":
        cover = cover * 0.82
    elif hair.style == "mohawk":
        cover = cover * np.maximum(0.55, ramp(0.026 - fields.side_x, 0.008))
    over(colours, np.clip(paint, 0, 1), np.asarray(cover, np.float32))
    if hair.style in ("short", "long", "wavy", "bob", "pigtails") and abs(hair.parting) > 0.2:
        where = hair.parting * 0.035 if hair.style != "pigtails" else 0.0
        line = ramp(0.0028 - np.abs(fields.x - np.float32(where)), 0.004)
        line = line * (scalp.lift > 0.088) * (scalp.hair > 0.03) * (np.cos(scalp.angle) > -0.2)
        over(colours, skin, 0.35 * np.asarray(line, np.float32))
    if hair.hat != "none":
        _paint_hat(colours, hair, scalp.hat, scalp.angle, scalp.lift)


def _paint_hat(colours: F32, hair: Hair, distance: F32, angle: F32, lift: F32) -> None:
    shadow = np.exp(-np.maximum(-distance, 0) / 0.012) * (distance < 0)
    shade(colours, (1 - 0.4 * shadow).astype(np.float32))
    paint = np.empty_like(colours)
    paint[:] = hair.hat_colour
    if hair.hat == "beanie":
        over(paint, hair.hat_trim, ramp(0.026 - distance, 0.004))
        shade(paint, (1 + 0.10 * np.sin(angle * 40)).astype(np.float32))
        shade(paint, 1 - 0.3 * ramp(0.003 - np.abs(distance - 0.026), 0.004))
    else:
        panel = np.abs(((angle / np.pi * 3 + 0.5) % 1.0) - 0.5) / 3 * np.pi * 0.08
        shade(paint, (1 - 0.25 * ramp(0.002 - panel, 0.003)).astype(np.float32))
        badge = np.maximum(np.abs(angle) * 0.09 - 0.024, np.abs(lift - 0.085) - 0.018)
        over(paint, hair.hat_trim, ramp(-badge, 0.004))
    over(colours, np.clip(paint, 0, 1), ramp(distance, 0.005))


def tress_picture(hair: Hair, height: int, width: int, rng: np.random.Generator) -> F32:
    """A hanging sheet of hair, [height, width, 3], roots in the first row."""
    row, column = np.mgrid[0:height, 0:width].astype(np.float32)
    wobble = rng.uniform(-1, 1, (8, 24)).astype(np.float32)
    i = (row / height * 6.99).astype(np.int64)
    j = (column / width * 22.99).astype(np.int64)
    a, b = row / height * 6.99 - i, column / width * 22.99 - j
    noise = (1 - a) * ((1 - b) * wobble[i, j] + b * wobble[i, j + 1])
    noise += a * ((1 - b) * wobble[i + 1, j] + b * wobble[i + 1, j + 1])
    if hair.curl > 0.4:
        noise = noise + 0.7 * np.sin(row / height * 40 + 6 * noise)
    across = column / width * 0.45
    paint = strands(hair, row.ravel() * 0.003, across.ravel(), noise.ravel())
    depth = 0.92 - 0.14 * (row.ravel() / height)
    shade(paint, depth)
    return paint.reshape(height, width, 3)
