"""What a person looks like, in words and numbers, before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.people import colours
from reference.people.colours import RGB, pick
from reference.people.outfit import Outfit, draw_outfit
from reference.people.seeds import generator
from reference.people.shape import draw_betas

__all__ = ["Face", "Hair", "Look", "draw_look"]


@dataclass(frozen=True)
class Face:
    """Skin and features. Sizes are factors around 1."""

    skin: RGB
    eyes: RGB
    lips: RGB
    eye_size: float
    brow_thickness: float
    brow_tilt: float
    mouth_width: float
    smile: float
    blush: float
    freckles: float
    wrinkles: float
    beard: str
    glasses: str
    glasses_colour: RGB
    makeup: RGB | None


@dataclass(frozen=True)
class Hair:
    """A hairstyle. Lengths in metres."""

    style: str
    colour: RGB
    streaks: RGB
    volume_m: float
    length_m: float
    curl: float
    fringe: float
    parting: float
    hat: str
    hat_colour: RGB
    hat_trim: RGB


@dataclass(frozen=True)
class Look:
    """Everything visible that is not body shape."""

    face: Face
    hair: Hair
    outfit: Outfit


def draw_look(seed: int) -> Look:
    """The look of one identity."""
    # The first shape direction runs from small and feminine to tall and masculine bodies.
    odds = 1 / (1 + np.exp(1.2 * draw_betas(seed)[0]))
    feminine = bool(generator(seed, "presentation").random() < odds)
    face = _face(generator(seed, "face"), feminine)
    hair = _hair(generator(seed, "hair"), feminine, face.skin)
    return Look(face, hair, draw_outfit(generator(seed, "outfit"), feminine))


def _face(rng: np.random.Generator, feminine: bool) -> Face:
    tone = colours.skin(rng)
    red = np.array(tone) * [0.93, 0.62, 0.62] + [0.05, 0.0, 0.02]
    lips = np.clip(red if not feminine else red * [1.05, 0.85, 0.9], 0, 1)
    beards = {"none": 4.5, "stubble": 1.5, "moustache": 0.6, "goatee": 0.8, "full": 1.8}
    makeup = None
    if feminine and rng.random() < 0.5:
        lips = np.array([rng.uniform(0.55, 0.78), rng.uniform(0.15, 0.3), rng.uniform(0.2, 0.34)])
        makeup = colours.accent(rng) if rng.random() < 0.2 else (0.28, 0.2, 0.18)
    glasses = {"none": 7.2, "round": 1.1, "square": 1.1, "sun": 0.6}
    return Face(
        skin=tone,
        eyes=colours.eye(rng, tone),
        lips=(float(lips[0]), float(lips[1]), float(lips[2])),
        eye_size=float(rng.uniform(1.0, 1.35)),
        brow_thickness=float(rng.uniform(0.6, 1.1) if feminine else rng.uniform(0.9, 1.6)),
        brow_tilt=float(rng.uniform(-0.15, 0.12)),
        mouth_width=float(rng.uniform(0.85, 1.2)),
        smile=float(rng.uniform(0.1, 1.0)),
        blush=float(rng.uniform(0.0, 0.6)),
        freckles=float(rng.random() < 0.15) * float(rng.uniform(0.3, 1.0)),
        wrinkles=float(rng.uniform(0, 1) ** 2),
        beard="none" if feminine else pick(rng, beards),
        glasses=pick(rng, glasses),
        glasses_colour=(0.08, 0.08, 0.09) if rng.random() < 0.7 else colours.leather(rng),
        makeup=makeup,
    )


FEMININE_HAIR = {
    "short": 1.2, "bob": 2.5, "long": 3.5, "ponytail": 2.0, "bun": 1.5, "pigtails": 0.7,
    "curly": 1.5, "afro": 0.6, "wavy": 1.5,
}  # fmt: skip
MASCULINE_HAIR = {
    "bald": 1.0, "buzz": 1.4, "short": 3.2, "quiff": 1.8, "curly": 1.4, "afro": 0.6,
    "balding": 0.7, "bob": 0.5, "long": 0.6, "ponytail": 0.4, "bun": 0.4, "mohawk": 0.35,
}  # fmt: skip


def _hair(rng: np.random.Generator, feminine: bool, skin: RGB) -> Hair:
    style = pick(rng, FEMININE_HAIR if feminine else MASCULINE_HAIR)
    tone = colours.hair(rng, skin)
    volumes = {
        "bald": (0, 0), "balding": (0.006, 0.012), "buzz": (0.003, 0.006), "short": (0.016, 0.03),
        "quiff": (0.025, 0.045), "curly": (0.03, 0.05), "afro": (0.06, 0.11),
        "mohawk": (0.05, 0.09),
    }  # fmt: skip
    low, high = volumes.get(style, (0.014, 0.026))
    lengths = {"bob": (0.17, 0.24), "long": (0.34, 0.52), "wavy": (0.28, 0.46)}
    shortest, longest = lengths.get(style, (0.22, 0.42))
    bright = rng.random() < 0.05
    streaks = colours.hair(rng, skin) if bright else _shade(tone, float(rng.uniform(1.25, 1.6)))
    hat = pick(rng, {"none": 8.8, "beanie": 0.6, "cap": 0.7})
    if style in ("afro", "mohawk", "bun", "quiff"):
        hat = "none"
    hat_colour = colours.cloth(rng)
    return Hair(
        style=style,
        colour=tone,
        streaks=streaks,
        volume_m=float(rng.uniform(low, high)),
        length_m=float(rng.uniform(shortest, longest)),
        curl=float(
            rng.uniform(0.6, 1.0) if style in ("curly", "afro", "wavy") else rng.uniform(0, 0.3)
        ),
        fringe=float(rng.uniform(0, 1)),
        parting=float(rng.uniform(-1, 1)),
        hat=hat,
        hat_colour=hat_colour,
        hat_trim=colours.contrasting(rng, hat_colour) if rng.random() < 0.4 else hat_colour,
    )


def _shade(colour: RGB, factor: float) -> RGB:
    r, g, b = np.clip(np.array(colour) * factor + 0.03, 0, 1)
    return (float(r), float(g), float(b))
