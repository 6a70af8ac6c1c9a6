"""Plausible colours: cloth, skin, hair and eyes. sRGB in [0, 1]."""

from __future__ import annotations

import colorsys

import numpy as np

__all__ = [
    "RGB",
    "accent",
    "cloth",
    "contrasting",
    "denim",
    "eye",
    "hair",
    "leather",
    "luma",
    "neutral",
    "pick",
    "saturation",
    "shade",
    "skin",
]

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
    ((0.53, 0.28, 0.15), 0.9),
    ((0.60, 0.59, 0.58), 1.0),
    ((0.86, 0.85, 0.83), 0.6),
    ((0.75, 0.25, 0.45), 0.12),
    ((0.20, 0.40, 0.65), 0.12),
    ((0.20, 0.50, 0.35), 0.06),
)
EYES: tuple[RGB, ...] = (
    (0.25, 0.14, 0.07),
    (0.33, 0.20, 0.10),
    (0.25, 0.45, 0.68),
    (0.30, 0.50, 0.35),
    (0.42, 0.47, 0.50),
)


DARKEST = 0.15
"""Value below which cloth would melt into the black background."""

NEUTRAL: dict[str, tuple[RGB, float]] = {
    "white": ((0.92, 0.92, 0.91), 2.6),
    "cream": ((0.90, 0.86, 0.77), 1.2),
    "light grey": ((0.72, 0.73, 0.74), 1.5),
    "grey": ((0.48, 0.49, 0.51), 1.6),
    "charcoal": ((0.26, 0.27, 0.29), 1.8),
    "black": ((0.16, 0.16, 0.17), 2.6),
    "navy": ((0.15, 0.19, 0.32), 2.4),
    "sand": ((0.76, 0.68, 0.54), 1.3),
    "khaki": ((0.55, 0.51, 0.38), 1.0),
    "brown": ((0.37, 0.26, 0.19), 1.0),
    "taupe": ((0.52, 0.45, 0.40), 0.7),
}
MUTED: dict[str, tuple[RGB, float]] = {
    "light blue": ((0.60, 0.71, 0.84), 1.5),
    "steel blue": ((0.30, 0.42, 0.58), 1.5),
    "burgundy": ((0.42, 0.13, 0.17), 1.3),
    "brick": ((0.64, 0.28, 0.21), 0.9),
    "rust": ((0.70, 0.39, 0.20), 0.7),
    "mustard": ((0.80, 0.62, 0.24), 0.7),
    "olive": ((0.37, 0.39, 0.22), 1.2),
    "forest": ((0.16, 0.32, 0.22), 1.1),
    "sage": ((0.56, 0.64, 0.52), 0.8),
    "teal": ((0.16, 0.42, 0.44), 0.9),
    "plum": ((0.38, 0.20, 0.37), 0.7),
    "lavender": ((0.68, 0.62, 0.80), 0.6),
    "dusty pink": ((0.83, 0.63, 0.64), 1.0),
    "peach": ((0.93, 0.75, 0.62), 0.5),
}
BRIGHT: dict[str, tuple[RGB, float]] = {
    "red": ((0.77, 0.14, 0.15), 2.0),
    "royal blue": ((0.14, 0.29, 0.70), 1.6),
    "sky": ((0.25, 0.58, 0.86), 1.0),
    "orange": ((0.93, 0.48, 0.13), 0.8),
    "yellow": ((0.95, 0.80, 0.24), 0.9),
    "green": ((0.15, 0.55, 0.28), 0.9),
    "turquoise": ((0.20, 0.66, 0.66), 0.6),
    "magenta": ((0.80, 0.20, 0.50), 0.6),
    "violet": ((0.44, 0.27, 0.67), 0.6),
    "lime": ((0.67, 0.80, 0.26), 0.25),
}
LEATHER: dict[str, tuple[RGB, float]] = {
    "black": ((0.16, 0.15, 0.15), 3.0),
    "dark brown": ((0.27, 0.18, 0.13), 2.0),
    "brown": ((0.42, 0.28, 0.18), 1.6),
    "tan": ((0.62, 0.44, 0.28), 1.0),
    "oxblood": ((0.34, 0.13, 0.13), 0.5),
}


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, drawn by weight."""
    names = list(weights)
    share = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def luma(colour: RGB) -> float:
    """Perceived brightness in [0, 1]."""
    return 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def _dye(rng: np.random.Generator, table: dict[str, tuple[RGB, float]]) -> RGB:
    """One colour of a table, drawn by weight, a little lighter, darker or greener."""
    weights = {name: weight for name, (_, weight) in table.items()}
    hue, chroma, value = colorsys.rgb_to_hsv(*table[pick(rng, weights)][0])
    return _hsv(
        hue + rng.normal(0, 0.012),
        chroma * rng.uniform(0.85, 1.12),
        max(value * rng.uniform(0.88, 1.1), DARKEST),
    )


def _hsv(hue: float, saturation: float, value: float) -> RGB:
    return colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))


def neutral(rng: np.random.Generator) -> RGB:
    """What goes with everything: white to near black, navy, sand, brown."""
    return _dye(rng, NEUTRAL)


def cloth(rng: np.random.Generator) -> RGB:
    """A dye as shops have them: half neutral, most others muted, one in eight bright."""
    return _dye(rng, (NEUTRAL, MUTED, BRIGHT)[int(rng.choice(3, p=(0.46, 0.41, 0.13)))])


def accent(rng: np.random.Generator) -> RGB:
    """A dye that is worn to be seen."""
    return _dye(rng, MUTED if rng.random() < 0.6 else BRIGHT)


def leather(rng: np.random.Generator) -> RGB:
    """Black, brown or tan."""
    return _dye(rng, LEATHER)


def shade(colour: RGB, factor: float) -> RGB:
    """The same dye, darker or paler."""
    r, g, b = np.clip(np.array(colour) * factor, 0.04, 0.97)
    return (float(r), float(g), float(b))


def contrasting(rng: np.random.Generator, colour: RGB, least: float = 0.22) -> RGB:
    """A dye that reads against `colour`; bright ones seldom meet."""
    best, gap = colour, -1.0
    loud = saturation(colour) > 0.5
    for _ in range(8):
        other = neutral(rng) if loud and rng.random() < 0.75 else cloth(rng)
        difference = float(np.abs(np.subtract(other, colour)).mean())
        if difference > gap:
            best, gap = other, difference
        if gap > least:
            break
    return best


def saturation(colour: RGB) -> float:
    """How far from grey, weighed by how light: dark colours are never loud. [0, 1]."""
    return max(colour) - min(colour)


def denim(rng: np.random.Generator) -> RGB:
    """Blue from washed to raw, sometimes grey or black."""
    washed = float(rng.uniform(0.30, 0.66))
    if rng.random() < 0.25:
        return _hsv(0.6, 0.06, float(rng.uniform(0.17, 0.42)))
    return _hsv(rng.uniform(0.575, 0.63), rng.uniform(0.38, 0.62), washed)


def skin(rng: np.random.Generator) -> RGB:
    """Between two neighbouring tones, slightly tinted."""
    where = float(rng.uniform(0, len(SKIN) - 1.001))
    low, t = int(where), where % 1.0
    tone = (1 - t) * np.array(SKIN[low]) + t * np.array(SKIN[low + 1])
    tint = 1 + rng.normal(0, 0.015, 3)
    r, g, b = np.clip(tone * tint, 0.08, 0.98)
    return (float(r), float(g), float(b))


def hair(rng: np.random.Generator, skin_tone: RGB) -> RGB:
    """A natural colour, sometimes grey, seldom dyed; mostly dark with darker skin."""
    colours, weights = zip(*HAIR, strict=True)
    share = np.array(weights)
    if luma(skin_tone) < 0.55:
        share[2:7] *= 0.12
    elif luma(skin_tone) < 0.68:
        share[3:7] *= 0.5
    share /= share.sum()
    tone = np.array(colours[int(rng.choice(len(colours), p=share))])
    r, g, b = np.clip(tone * rng.uniform(0.85, 1.15) + rng.normal(0, 0.01, 3), 0.07, 0.95)
    return (float(r), float(g), float(b))


def eye(rng: np.random.Generator, skin_tone: RGB) -> RGB:
    """An iris; mostly brown with darker skin."""
    brown = luma(skin_tone) < 0.55 and rng.random() < 0.9
    return EYES[int(rng.integers(2 if brown else len(EYES)))]
