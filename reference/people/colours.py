"""Plausible colours: cloth, skin, hair and eyes. sRGB in [0, 1]."""

from __future__ import annotations

import colorsys

import numpy as np

__all__ = ["RGB", "cloth", "contrasting", "denim", "eye", "hair", "luma", "pick", "skin"]

RGB = tuple[float, float, float]

SKIN: tuple[RGB, ...] = (
    (0.96, 0.82, 0.73),
    (0.93, 0.76, 0.64),
    (0.87, 0.68, 0.54),
    (0.80, 0.60, 0.44),
    (0.68, 0.48, 0.34),
    (0.55, 0.37, 0.26),
    (0.43, 0.28, 0.20),
    (0.33, 0.22, 0.17),
)
HAIR: tuple[tuple[RGB, float], ...] = (
    ((0.11, 0.09, 0.08), 4.0),
    ((0.22, 0.15, 0.10), 4.0),
    ((0.36, 0.24, 0.15), 3.0),
    ((0.52, 0.37, 0.22), 2.0),
    ((0.78, 0.62, 0.38), 2.0),
    ((0.90, 0.80, 0.58), 1.2),
    ((0.62, 0.27, 0.12), 1.5),
    ((0.60, 0.59, 0.58), 1.0),
    ((0.86, 0.85, 0.83), 0.6),
    ((0.75, 0.25, 0.45), 0.25),
    ((0.20, 0.40, 0.65), 0.25),
    ((0.20, 0.50, 0.35), 0.15),
)
EYES: tuple[RGB, ...] = (
    (0.25, 0.14, 0.07),
    (0.33, 0.20, 0.10),
    (0.25, 0.45, 0.68),
    (0.30, 0.50, 0.35),
    (0.42, 0.47, 0.50),
)


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, drawn by weight."""
    names = list(weights)
    share = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def luma(colour: RGB) -> float:
    """Perceived brightness in [0, 1]."""
    return 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def _hsv(hue: float, saturation: float, value: float) -> RGB:
    return colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))


def cloth(rng: np.random.Generator) -> RGB:
    """A dye: mostly saturated, some neutrals, never so black that it melts into the background."""
    kind = pick(rng, {"vivid": 5, "deep": 2.5, "pastel": 1.2, "neutral": 2.0, "earth": 1.2})
    hue = float(rng.random())
    if 0.2 < hue < 0.46 and rng.random() < 0.55:
        # Equal steps of hue would make a third of all cloth green.
        hue = float(rng.random())
    if kind == "vivid":
        return _hsv(hue, rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95))
    if kind == "deep":
        return _hsv(hue, rng.uniform(0.5, 0.9), rng.uniform(0.28, 0.5))
    if kind == "pastel":
        return _hsv(hue, rng.uniform(0.15, 0.4), rng.uniform(0.8, 0.97))
    if kind == "earth":
        return _hsv(rng.uniform(0.04, 0.16), rng.uniform(0.3, 0.65), rng.uniform(0.35, 0.8))
    grey = float(rng.choice([0.17, 0.24, 0.4, 0.6, 0.82, 0.94]))
    return _hsv(0.6, rng.uniform(0, 0.08), grey)


def contrasting(rng: np.random.Generator, colour: RGB, least: float = 0.22) -> RGB:
    """A dye that reads against `colour`."""
    best, gap = colour, -1.0
    for _ in range(8):
        other = cloth(rng)
        difference = float(np.abs(np.subtract(other, colour)).mean())
        if difference > gap:
            best, gap = other, difference
        if gap > least:
            break
    return best


def denim(rng: np.random.Generator) -> RGB:
    """Blue, grey or black jeans."""
    value = float(rng.uniform(0.25, 0.65))
    return _hsv(rng.uniform(0.57, 0.63), rng.choice([0.1, 0.45, 0.6]), value)


def skin(rng: np.random.Generator) -> RGB:
    """Between two neighbouring tones, slightly tinted."""
    where = float(rng.uniform(0, len(SKIN) - 1.001))
    low, t = int(where), where % 1.0
    tone = (1 - t) * np.array(SKIN[low]) + t * np.array(SKIN[low + 1])
    tint = 1 + rng.normal(0, 0.015, 3)
    r, g, b = np.clip(tone * tint, 0.08, 0.98)
    return (float(r), float(g), float(b))


def hair(rng: np.random.Generator) -> RGB:
    """A natural colour, sometimes grey, seldom dyed."""
    colours, weights = zip(*HAIR, strict=True)
    share = np.array(weights) / sum(weights)
    tone = np.array(colours[int(rng.choice(len(colours), p=share))])
    r, g, b = np.clip(tone * rng.uniform(0.85, 1.15) + rng.normal(0, 0.01, 3), 0.07, 0.95)
    return (float(r), float(g), float(b))


def eye(rng: np.random.Generator, skin_tone: RGB) -> RGB:
    """An iris; mostly brown with darker skin."""
    brown = luma(skin_tone) < 0.55 and rng.random() < 0.9
    return EYES[int(rng.integers(2 if brown else len(EYES)))]
