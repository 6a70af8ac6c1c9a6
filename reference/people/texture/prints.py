"""Motifs for the front and the back of a garment, as small coverage pictures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from reference.people.outfit import Print

F32 = NDArray[np.float32]

__all__ = ["stamp"]

SIDE = 96
FONT_PX = 64
STROKE_PX = 3
WORDS = ("WAVE", "NORTH", "CITY", "PLAY", "LUNA", "ECHO", "RUN", "WILD", "1987", "SURF", "NOVA",
         "CLUB", "ATLAS", "KIWI", "ROCK", "TEAM")  # fmt: skip


def stamp(motif: Print, x: F32, y: F32) -> tuple[F32, F32]:
    """Coverage of the motif and of its border at x, y [N] metres from its centre. ([N], [N])."""
    inner, outer = _pictures(motif.motif, motif.digits)
    scale = SIDE / (1.25 * motif.width_m)
    column = x * scale + SIDE / 2
    row = SIDE / 2 - y * scale
    return _sample(inner, column, row), _sample(outer, column, row)


def _sample(picture: F32, column: F32, row: F32) -> F32:
    """Bilinear, 0 outside. [N] → [N]."""
    inside = (column > 1) & (column < SIDE - 2) & (row > 1) & (row < SIDE - 2)
    c, r = np.clip(column, 0, SIDE - 2), np.clip(row, 0, SIDE - 2)
    i, j = r.astype(np.int64), c.astype(np.int64)
    a, b = r - i, c - j
    value = (1 - a) * ((1 - b) * picture[i, j] + b * picture[i, j + 1]) + a * (
        (1 - b) * picture[i + 1, j] + b * picture[i + 1, j + 1]
    )
    return np.where(inside, value, 0).astype(np.float32)


@lru_cache(maxsize=256)
def _pictures(motif: str, digits: str) -> tuple[F32, F32]:
    """Soft coverage of the motif, and of the motif grown by its border."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    if motif == "number":
        _text(image, digits, 0.66)
    elif motif == "letters":
        _text(image, WORDS[int(digits) % len(WORDS)], 0.34)
    else:
        for shape, points in _shapes(motif, int(digits)):
            if shape == "polygon":
                draw.polygon(points, fill=255)
            else:
                draw.ellipse(points, fill=255 if shape == "disc" else 0)
    grown = image.filter(ImageFilter.MaxFilter(7))

    def soft(picture: Image.Image) -> F32:
        blurred = picture.filter(ImageFilter.GaussianBlur(1.2))
        return np.asarray(blurred, np.float32) / np.float32(255)

    return soft(image), soft(grown)


def _text(image: Image.Image, text: str, height: float) -> None:
    """Heavy letters, centred and squeezed into the square; `height` of it high."""
    font = ImageFont.load_default(FONT_PX)
    left, top, right, bottom = font.getbbox(text, stroke_width=STROKE_PX)
    line = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(line).text(
        (-left, -top), text, fill=255, font=font, stroke_width=STROKE_PX, stroke_fill=255
    )
    high = round(height * SIDE)
    wide = min(round(line.width * high / line.height), SIDE - 14)
    line = line.resize((wide, high), Image.Resampling.BILINEAR)
    image.paste(line, ((SIDE - wide) // 2, (SIDE - high) // 2))


def _shapes(motif: str, number: int) -> list[tuple[str, list[tuple[float, float]]]]:
    """Polygons and discs in pixels, painted in order; "hole" erases."""

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(SIDE * x, SIDE * y) for x, y in points]

    def disc(x: float, y: float, r: float) -> list[tuple[float, float]]:
        return at((x - r, y - r), (x + r, y + r))

    if motif == "star":
        turn = [np.pi * k / 5 for k in range(10)]
        radius = [0.4 if k % 2 == 0 else 0.17 for k in range(10)]
        points = [
            (0.5 + r * np.sin(t), 0.5 - r * np.cos(t)) for t, r in zip(turn, radius, strict=True)
        ]
        return [("polygon", at(*points))]
    if motif == "blob":
        turn = [2 * np.pi * k / 40 for k in range(40)]
        lobes = 2 + number % 4
        points = [
            (0.5 + (0.3 + 0.09 * np.sin(lobes * t + number)) * np.cos(t),
             0.5 + (0.3 + 0.09 * np.sin(lobes * t + number)) * np.sin(t))
            for t in turn
        ]  # fmt: skip
        return [("polygon", at(*points))]
    heart = [("disc", disc(0.34, 0.36, 0.19)), ("disc", disc(0.66, 0.36, 0.19)),
             ("polygon", at((0.17, 0.44), (0.83, 0.44), (0.5, 0.88)))]  # fmt: skip
    smiley = [("disc", disc(0.5, 0.5, 0.4)), ("hole", disc(0.36, 0.4, 0.07)),
              ("hole", disc(0.64, 0.4, 0.07)), ("hole", at((0.3, 0.58), (0.7, 0.76)))]  # fmt: skip
    shapes = {
        "circle": [("disc", disc(0.5, 0.5, 0.38))],
        "rings": [("disc", disc(0.5, 0.5, 0.4)), ("hole", disc(0.5, 0.5, 0.28)),
                  ("disc", disc(0.5, 0.5, 0.16))],
        "triangle": [("polygon", at((0.5, 0.1), (0.9, 0.82), (0.1, 0.82)))],
        "band": [("polygon", at((0.03, 0.38), (0.97, 0.38), (0.97, 0.62), (0.03, 0.62)))],
        "cross": [("polygon", at((0.4, 0.1), (0.6, 0.1), (0.6, 0.9), (0.4, 0.9))),
                  ("polygon", at((0.1, 0.4), (0.9, 0.4), (0.9, 0.6), (0.1, 0.6)))],
        "bolt": [("polygon", at((0.55, 0.05), (0.2, 0.58), (0.45, 0.58), (0.35, 0.95), (0.8, 0.4),
                                (0.54, 0.4)))],
        "heart": heart,
        "smiley": smiley,
    }  # fmt: skip
    return shapes[motif]
