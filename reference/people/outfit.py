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
    "solid": 4.0, "stripes": 2.2, "pinstripes": 0.8, "check": 1.0, "plaid": 1.0, "dots": 0.8,
    "gradient": 0.9, "block": 1.2, "camo": 0.5, "diagonal": 0.6, "halves": 0.4, "zigzag": 0.4,
    "flowers": 0.6,
}  # fmt: skip


def fabric(rng: np.random.Generator, patterns: dict[str, float], base: RGB | None = None) -> Fabric:
    """A fabric in one of `patterns`."""
    base = base or colours.cloth(rng)
    second = colours.contrasting(rng, base)
    third = colours.contrasting(rng, second)
    return Fabric(
        base=base,
        second=second,
        third=third,
        pattern=pick(rng, patterns),
        scale_m=float(np.exp(rng.uniform(np.log(0.03), np.log(0.11)))),
        phase=float(rng.random()),
        wrinkles=float(rng.uniform(0.4, 1.0)),
    )


def _print(rng: np.random.Generator, base: RGB, back: bool) -> Print:
    motifs = {"number": 4.0 if back else 1.5, "circle": 1, "star": 1, "heart": 0.8, "triangle": 0.8,
              "band": 1.0, "letters": 1.6, "blob": 1.0, "smiley": 0.6, "cross": 0.6, "bolt": 0.8,
              "rings": 0.6}  # fmt: skip
    colour = colours.contrasting(rng, base)
    small = not back and rng.random() < 0.2
    return Print(
        motif=pick(rng, motifs),
        digits=str(rng.integers(1, 100)),
        colour=colour,
        border=colours.contrasting(rng, colour),
        width_m=float(rng.uniform(0.07, 0.09) if small else rng.uniform(0.15, 0.27)),
        dx_m=float(rng.choice([-1, 1]) * 0.075) if small else 0.0,
        dy_m=float(0.05 if small else rng.uniform(-0.04, 0.02)),
    )


def draw_outfit(rng: np.random.Generator, feminine: bool) -> Outfit:
    """One outfit; skirts and dresses are for one presentation, all else for both."""
    kinds = {"tshirt": 3.2, "longsleeve": 1.8, "shirt": 1.2, "hoodie": 1.4, "sweater": 1.0,
             "tank": 0.7, "dress": 2.4 if feminine else 0.0}  # fmt: skip
    top = _top(rng, pick(rng, kinds), feminine)
    outer = _outer(rng) if top.kind not in ("hoodie", "tank") and rng.random() < 0.27 else None
    bottom = _bottom(rng, feminine, top)
    return Outfit(top, outer, bottom, _footwear(rng, bottom))


def _top(rng: np.random.Generator, kind: str, feminine: bool) -> Top:
    # A dress continues on its skirt, where patterns fixed to the trunk would break.
    split = ("gradient", "block", "halves", "diagonal")
    patterns = {k: v for k, v in PATTERNS.items() if kind != "dress" or k not in split}
    cloth = fabric(rng, patterns)
    sleeves = {
        "tshirt": rng.uniform(0.22, 0.45), "longsleeve": rng.uniform(0.9, 1.0), "tank": -0.04,
        "shirt": 1.0 if rng.random() < 0.6 else 0.4, "hoodie": 1.0, "sweater": 0.98,
        "dress": rng.choice([-0.04, 0.18, 0.35, 0.98]),
    }  # fmt: skip
    thicknesses = {
        "tshirt": (0.006, 0.012), "longsleeve": (0.005, 0.010), "shirt": (0.008, 0.014),
        "hoodie": (0.018, 0.026), "sweater": (0.012, 0.020), "tank": (0.004, 0.007),
        "dress": (0.004, 0.008),
    }  # fmt: skip
    raglan = kind in ("tshirt", "longsleeve", "hoodie") and rng.random() < 0.25
    sleeve_cloth = fabric(rng, {"solid": 2, "stripes": 1}) if raglan else cloth
    printed = kind in ("tshirt", "longsleeve", "hoodie", "sweater", "tank", "dress")
    quiet = cloth.pattern in ("solid", "gradient", "block", "halves", "stripes", "diagonal")
    logo = printed and quiet and rng.random() < 0.75
    back = printed and quiet and rng.random() < 0.5
    plunging = feminine and kind != "hoodie"
    necklines = {"crew": 3.0, "v": 1.2, "scoop": 1.6 if plunging else 0.4}
    neckline = "crew" if kind in ("hoodie", "sweater") else pick(rng, necklines)
    if kind == "shirt":
        neckline = "v"
    return Top(
        kind=kind,
        fabric=cloth,
        sleeve_fabric=sleeve_cloth,
        sleeve=float(sleeves[kind]),
        neckline=neckline,
        neck_depth_m=float(rng.uniform(0.03, 0.10)),
        thickness_m=float(rng.uniform(*thicknesses[kind])),
        hem=float(rng.uniform(0.15, 0.6) if rng.random() < 0.88 else rng.uniform(-0.25, 0.1)),
        tucked=bool(kind in ("shirt", "tank", "longsleeve") and rng.random() < 0.45),
        trim=colours.contrasting(rng, cloth.base) if rng.random() < 0.5 else cloth.second,
        collar=bool(kind == "shirt" or (kind == "tshirt" and rng.random() < 0.15)),
        front=_print(rng, cloth.base, False) if logo else None,
        back=_print(rng, cloth.base, True) if back else None,
    )


def _outer(rng: np.random.Generator) -> Outer:
    coat = rng.random() < 0.45
    cloth = fabric(rng, {"solid": 6, "plaid": 1.2, "check": 0.6, "block": 1 - coat, "camo": 0.5})
    contrast = rng.random() < 0.3
    return Outer(
        fabric=cloth,
        sleeve_fabric=fabric(rng, {"solid": 1}) if contrast else cloth,
        opening_m=float(rng.uniform(0.045, 0.09)),
        sleeve=1.0 if rng.random() < 0.85 else -0.02,
        thickness_m=float(rng.uniform(0.016, 0.026)),
        tails_m=float(rng.uniform(0.30, 0.62)) if coat else 0.0,
        hood=bool(rng.random() < 0.3),
        trim=colours.contrasting(rng, cloth.base),
        back=_print(rng, cloth.base, True) if not coat and rng.random() < 0.5 else None,
    )


def _bottom(rng: np.random.Generator, feminine: bool, top: Top) -> Bottom:
    kinds = {"jeans": 3.2, "trousers": 2.4, "joggers": 1.4, "shorts": 2.0,
             "leggings": 1.4 if feminine else 0.2, "skirt": 2.8 if feminine else 0.0}  # fmt: skip
    kind = "skirt" if top.kind == "dress" else pick(rng, kinds)
    solid = {"solid": 8, "plaid": 0.6, "camo": 0.8, "pinstripes": 0.8, "gradient": 0.5}
    lively = {"solid": 4, "plaid": 1.4, "dots": 1, "stripes": 1, "flowers": 1, "gradient": 1,
              "check": 1, "pinstripes": 1}  # fmt: skip
    base = (
        colours.denim(rng) if kind == "jeans" else colours.contrasting(rng, top.fabric.base, 0.12)
    )
    cloth = fabric(rng, lively if kind in ("skirt", "leggings") else solid, base)
    if kind == "jeans":
        cloth = Fabric(base, cloth.second, cloth.third, "denim", cloth.scale_m, cloth.phase, 1.0)
    if top.kind == "dress":
        cloth = top.fabric
    hems = {"shorts": (0.3, 0.52), "skirt": (0.28, 0.85), "joggers": (0.95, 0.99)}
    thick = {"leggings": (0.002, 0.004), "jeans": (0.005, 0.010), "shorts": (0.010, 0.018)}
    belted = kind in ("jeans", "trousers") and rng.random() < 0.5
    return Bottom(
        kind=kind,
        fabric=cloth,
        hem=float(rng.uniform(*hems.get(kind, (0.9, 1.02)))),
        thickness_m=float(rng.uniform(*thick.get(kind, (0.008, 0.016)))),
        flare_m=float(rng.uniform(0.0, 0.028)) if kind in ("jeans", "trousers") else 0.008,
        side_stripe=colours.contrasting(rng, base) if rng.random() < 0.22 else None,
        seams=(0.78, 0.6, 0.35) if kind == "jeans" else colours.contrasting(rng, base),
        belt=colours.contrasting(rng, base)
        if belted or (kind == "skirt" and rng.random() < 0.4)
        else None,
        knee_patches=colours.contrasting(rng, base) if rng.random() < 0.08 else None,
    )


def _footwear(rng: np.random.Generator, bottom: Bottom) -> Footwear:
    kind = pick(rng, {"sneakers": 5.5, "boots": 2, "flats": 1.0, "barefoot": 0.4})
    upper = colours.cloth(rng)
    soles = {"sneakers": (0.92, 0.92, 0.90) if rng.random() < 0.6 else colours.cloth(rng)}
    bare_leg = bottom.kind in ("shorts", "skirt")
    sock_m = float(
        rng.uniform(0.03, 0.30) if bare_leg and rng.random() < 0.7 else rng.uniform(0, 0.06)
    )
    return Footwear(
        kind=kind,
        upper=upper,
        sole=soles.get(kind, (0.16, 0.13, 0.12)),
        accent=colours.contrasting(rng, upper),
        shaft_m={"boots": float(rng.uniform(0.04, 0.24)), "flats": -0.03}.get(kind, 0.01),
        sock=(0.9, 0.9, 0.9) if rng.random() < 0.4 else colours.cloth(rng),
        sock_m=-1.0 if kind in ("barefoot", "flats") else sock_m,
    )
