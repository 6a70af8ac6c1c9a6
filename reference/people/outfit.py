"""What a person wears, as plain values: fabrics, prints, cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.people import colours
from reference.people.colours import RGB, pick

__all__ = ["Bottom", "Fabric", "Footwear", "Outer", "Outfit", "Print", "Top", "draw_outfit"]


@dataclass(frozen=True)
class Fabric:
    """A cloth: up to three dyes in a pattern of size `scale_m`."""

    base: RGB
    second: RGB
    third: RGB
    pattern: str
    scale_m: float
    phase: float
    wrinkles: float


@dataclass(frozen=True)
class Print:
    """A motif on the front or the back; centre relative to the middle of the chest."""

    motif: str
    digits: str
    colour: RGB
    border: RGB
    width_m: float
    dx_m: float
    dy_m: float


@dataclass(frozen=True)
class Top:
    """What covers the trunk. `sleeve` is the covered share of the arm, from the shoulder on."""

    kind: str
    fabric: Fabric
    sleeve_fabric: Fabric
    sleeve: float
    neckline: str
    neck_depth_m: float
    thickness_m: float
    hem: float
    tucked: bool
    trim: RGB
    collar: bool
    front: Print | None
    back: Print | None


@dataclass(frozen=True)
class Outer:
    """An open jacket, cardigan or coat. `tails_m` hang below the waist; 0 for a short jacket."""

    fabric: Fabric
    sleeve_fabric: Fabric
    opening_m: float
    sleeve: float
    thickness_m: float
    tails_m: float
    hood: bool
    trim: RGB
    back: Print | None


@dataclass(frozen=True)
class Bottom:
    """Trousers, shorts, leggings or a skirt. `hem` is the share of the leg that is covered."""

    kind: str
    fabric: Fabric
    hem: float
    thickness_m: float
    flare_m: float
    side_stripe: RGB | None
    seams: RGB
    belt: RGB | None
    knee_patches: RGB | None


@dataclass(frozen=True)
class Footwear:
    """Shoes and socks. `shaft_m` above the ankle; socks likewise."""

    kind: str
    upper: RGB
    sole: RGB
    accent: RGB
    shaft_m: float
    sock: RGB
    sock_m: float


@dataclass(frozen=True)
class Outfit:
    """Everything worn. A dress is a top with a skirt of its own fabric."""

    top: Top
    outer: Outer | None
    bottom: Bottom
    footwear: Footwear

    @property
    def is_dress(self) -> bool:
        """Top and skirt are one garment."""
        return self.top.kind == "dress"


PATTERNS = {
    "solid": 9.0, "stripes": 1.9, "pinstripes": 0.5, "check": 0.35, "plaid": 1.2, "dots": 0.4,
    "gradient": 0.35, "block": 0.8, "camo": 0.2, "diagonal": 0.2, "halves": 0.12, "zigzag": 0.12,
    "flowers": 0.5,
}  # fmt: skip
SHIRTING = {"solid": 5.0, "plaid": 2.2, "pinstripes": 1.2, "check": 0.6, "flowers": 0.4,
            "dots": 0.3}  # fmt: skip

PLAIN_SHARE = 0.4
"""Of people who wear one quiet colour per garment and no print, as most passers-by do."""

LOUD = 0.45
"""Saturation from which on a garment wants quiet company."""


def fabric(
    rng: np.random.Generator, patterns: dict[str, float], base: RGB, *, bold: bool = False
) -> Fabric:
    """A fabric of colour `base` in one of `patterns`; a `bold` one shows its second dye."""
    tonal = rng.random() < (0.15 if bold else 0.45)
    factor = rng.choice([0.62, 1.4]) if 0.25 < colours.luma(base) < 0.7 else None
    darker = factor or (0.72 if colours.luma(base) > 0.5 else 1.9)
    second = colours.shade(base, float(darker)) if tonal else colours.contrasting(rng, base)
    third = colours.contrasting(rng, second)
    return Fabric(
        base=base,
        second=second,
        third=third,
        pattern=pick(rng, patterns),
        scale_m=float(np.exp(rng.uniform(np.log(0.03), np.log(0.10)))),
        phase=float(rng.random()),
        wrinkles=float(rng.uniform(0.35, 1.0)),
    )


def _beside(rng: np.random.Generator, other: RGB, *, plain: bool) -> RGB:
    """A colour for the garment next to one of colour `other`."""
    for _ in range(6):
        quiet = plain or colours.saturation(other) > LOUD or rng.random() < 0.6
        colour = colours.neutral(rng) if quiet else colours.cloth(rng)
        if float(np.abs(np.subtract(colour, other)).mean()) > 0.10:
            return colour
    return colour


def _print(rng: np.random.Generator, base: RGB, back: bool) -> Print:
    motifs = {"number": 3.0 if back else 1.2, "circle": 0.8, "star": 0.8, "heart": 0.6,
              "triangle": 0.6, "band": 1.0, "letters": 4.0, "blob": 0.5, "smiley": 0.5,
              "cross": 0.3, "bolt": 0.7, "rings": 0.5}  # fmt: skip
    colour = colours.contrasting(rng, base, 0.3)
    small = not back and rng.random() < 0.3
    outlined = rng.random() < 0.35
    return Print(
        motif=pick(rng, motifs),
        digits=str(rng.integers(1, 100)),
        colour=colour,
        border=colours.contrasting(rng, colour) if outlined else colour,
        width_m=float(rng.uniform(0.07, 0.09) if small else rng.uniform(0.15, 0.25)),
        dx_m=0.075 if small else 0.0,
        dy_m=float(0.05 if small else rng.uniform(-0.04, 0.02)),
    )


def draw_outfit(rng: np.random.Generator, feminine: bool) -> Outfit:
    """One outfit; skirts and dresses are for one presentation, all else for both."""
    plain = bool(rng.random() < PLAIN_SHARE)
    kinds = {"tshirt": 3.2, "longsleeve": 1.5, "shirt": 1.6, "hoodie": 1.4, "sweater": 1.3,
             "tank": 0.5, "dress": 2.2 if feminine else 0.0}  # fmt: skip
    top = _top(rng, pick(rng, kinds), feminine, plain)
    wrapped = top.kind not in ("hoodie", "tank") and rng.random() < 0.3
    outer = _outer(rng, top, plain) if wrapped else None
    in_coat = outer is not None and outer.tails_m > 0
    bottom = _bottom(rng, feminine, top, plain=plain, in_coat=in_coat)
    return Outfit(top, outer, bottom, _footwear(rng, bottom, feminine))


def _top(rng: np.random.Generator, kind: str, feminine: bool, plain: bool) -> Top:
    # A dress continues on its skirt, where patterns fixed to the trunk would break.
    split = ("gradient", "block", "halves", "diagonal")
    patterns = SHIRTING if kind == "shirt" else PATTERNS
    patterns = {k: v for k, v in patterns.items() if kind != "dress" or k not in split}
    bold = not plain and rng.random() < 0.25
    base = colours.accent(rng) if bold else colours.cloth(rng)
    cloth = fabric(rng, {"solid": 1} if plain else patterns, base, bold=bold)
    sleeves = {
        "tshirt": rng.uniform(0.22, 0.45), "longsleeve": rng.uniform(0.9, 1.0), "tank": -0.04,
        "shirt": 1.0 if rng.random() < 0.65 else 0.4, "hoodie": 1.0, "sweater": 0.98,
        "dress": rng.choice([-0.04, 0.18, 0.35, 0.98]),
    }  # fmt: skip
    thicknesses = {
        "tshirt": (0.006, 0.013), "longsleeve": (0.005, 0.010), "shirt": (0.008, 0.015),
        "hoodie": (0.016, 0.024), "sweater": (0.011, 0.018), "tank": (0.004, 0.007),
        "dress": (0.004, 0.008),
    }  # fmt: skip
    raglan = kind in ("tshirt", "longsleeve") and not plain and rng.random() < 0.15
    sleeve_cloth = fabric(rng, {"solid": 1}, _beside(rng, base, plain=False)) if raglan else cloth
    printed = kind in ("tshirt", "longsleeve", "hoodie", "sweater", "tank")
    quiet = cloth.pattern in ("solid", "gradient", "block", "halves")
    logo = not plain and printed and quiet and rng.random() < 0.6
    back = not plain and printed and quiet and rng.random() < 0.25
    plunging = feminine and kind != "hoodie"
    necklines = {"crew": 3.0, "v": 1.2, "scoop": 1.6 if plunging else 0.2}
    neckline = "crew" if kind in ("hoodie", "sweater") else pick(rng, necklines)
    if kind == "shirt":
        neckline = "v"
    contrast = not plain and rng.random() < 0.25
    tint = 1.25 if colours.luma(base) < 0.4 else 0.85
    cropped = feminine and rng.random() < 0.12
    return Top(
        kind=kind,
        fabric=cloth,
        sleeve_fabric=sleeve_cloth,
        sleeve=float(sleeves[kind]),
        neckline=neckline,
        neck_depth_m=float(rng.uniform(0.03, 0.10 if feminine else 0.06)),
        thickness_m=float(rng.uniform(*thicknesses[kind])),
        hem=float(rng.uniform(-0.1, 0.2) if cropped else rng.uniform(0.45, 0.85)),
        tucked=bool(kind in ("shirt", "tank", "longsleeve") and rng.random() < 0.4),
        trim=colours.contrasting(rng, base) if contrast else colours.shade(base, tint),
        collar=bool(kind == "shirt" or (kind == "tshirt" and rng.random() < 0.15)),
        front=_print(rng, base, False) if logo else None,
        back=_print(rng, base, True) if back else None,
    )


def _outer(rng: np.random.Generator, top: Top, plain: bool) -> Outer:
    coat = rng.random() < 0.45
    base = _beside(rng, top.fabric.base, plain=plain)
    lively = {"solid": 9, "plaid": 0.8, "check": 0.3, "block": 0.6 * (1 - coat), "camo": 0.3}
    cloth = fabric(rng, {"solid": 1} if plain else lively, base)
    contrast = not plain and not coat and rng.random() < 0.2
    sleeve = fabric(rng, {"solid": 1}, _beside(rng, base, plain=True)) if contrast else cloth
    edged = not plain and rng.random() < 0.3
    return Outer(
        fabric=cloth,
        sleeve_fabric=sleeve,
        opening_m=float(rng.uniform(0.035, 0.08)),
        sleeve=1.0 if coat or rng.random() < 0.85 else -0.02,
        thickness_m=float(rng.uniform(0.014, 0.022)),
        tails_m=float(rng.uniform(0.26, 0.60)) if coat else 0.0,
        hood=bool(rng.random() < 0.3),
        trim=colours.contrasting(rng, base) if edged else colours.shade(base, 0.85),
        back=_print(rng, base, True) if contrast and rng.random() < 0.5 else None,
    )


def _bottom(
    rng: np.random.Generator, feminine: bool, top: Top, *, plain: bool, in_coat: bool
) -> Bottom:
    kinds = {"jeans": 3.6, "trousers": 2.6, "joggers": 1.3, "shorts": 1.7,
             "leggings": 1.2 if feminine else 0.0, "skirt": 2.6 if feminine else 0.0}  # fmt: skip
    if in_coat:
        kinds |= {"shorts": 0.0, "joggers": 0.3}
    kind = "skirt" if top.kind == "dress" else pick(rng, kinds)
    still = {"solid": 12, "plaid": 0.4, "camo": 0.5, "pinstripes": 0.5}
    lively = {"solid": 5, "plaid": 1.2, "dots": 0.6, "stripes": 0.5, "flowers": 0.8,
              "gradient": 0.3, "check": 0.5, "pinstripes": 0.4}  # fmt: skip
    # Two patterns on one person are seldom worn.
    single = plain or top.fabric.pattern not in ("solid", "block", "gradient")
    patterns = {"solid": 1.0} if single else lively if kind == "skirt" else still
    base = colours.denim(rng) if kind == "jeans" else _beside(rng, top.fabric.base, plain=plain)
    cloth = fabric(rng, patterns, base)
    if kind == "jeans":
        cloth = Fabric(base, cloth.second, cloth.third, "denim", cloth.scale_m, cloth.phase, 1.0)
    if top.kind == "dress":
        cloth = top.fabric
    hems = {"shorts": (0.3, 0.52), "skirt": (0.28, 0.85), "joggers": (0.95, 0.99)}
    # From slim to wide.
    thick = {"leggings": (0.002, 0.004), "jeans": (0.003, 0.014), "shorts": (0.010, 0.020),
             "trousers": (0.005, 0.018), "joggers": (0.008, 0.018)}  # fmt: skip
    belted = kind in ("jeans", "trousers") and rng.random() < 0.5
    sporty = kind in ("joggers", "shorts", "leggings") and not plain and rng.random() < 0.3
    return Bottom(
        kind=kind,
        fabric=cloth,
        hem=float(rng.uniform(*hems.get(kind, (0.94, 1.04)))),
        thickness_m=float(rng.uniform(*thick.get(kind, (0.008, 0.016)))),
        flare_m=float(rng.uniform(0.0, 0.022)) if kind in ("jeans", "trousers") else 0.006,
        side_stripe=colours.contrasting(rng, base) if sporty else None,
        seams=(0.70, 0.55, 0.36) if kind == "jeans" else colours.shade(base, 0.7),
        belt=colours.leather(rng) if belted or (kind == "skirt" and rng.random() < 0.3) else None,
        knee_patches=colours.shade(base, 0.7) if not plain and rng.random() < 0.04 else None,
    )


def _footwear(rng: np.random.Generator, bottom: Bottom, feminine: bool) -> Footwear:
    kind = pick(rng, {"sneakers": 5.0, "shoes": 2.2, "boots": 1.8,
                      "flats": 1.2 if feminine else 0.0, "barefoot": 0.2})  # fmt: skip
    canvas = colours.neutral(rng) if rng.random() < 0.75 else colours.accent(rng)
    upper = canvas if kind == "sneakers" else colours.leather(rng)
    if kind == "flats" and rng.random() < 0.4:
        upper = canvas
    pale = rng.random() < 0.75
    rubber = (0.90, 0.90, 0.88) if pale else colours.shade(upper, 0.7)
    bare_leg = bottom.kind in ("shorts", "skirt")
    sock_m = float(
        rng.uniform(0.03, 0.28) if bare_leg and rng.random() < 0.6 else rng.uniform(0, 0.05)
    )
    tone = 0.6 if colours.luma(upper) > 0.4 else 2.2
    return Footwear(
        kind=kind,
        upper=upper,
        sole=rubber if kind == "sneakers" else (0.15, 0.13, 0.12),
        accent=colours.accent(rng) if rng.random() < 0.3 else colours.shade(upper, tone),
        shaft_m={"boots": float(rng.uniform(0.04, 0.22)), "flats": -0.03, "shoes": -0.004}.get(
            kind, 0.01
        ),
        sock=(0.9, 0.9, 0.9) if rng.random() < 0.5 else colours.neutral(rng),
        sock_m=-1.0 if kind in ("barefoot", "flats") else sock_m,
    )
