"""Painting the garments onto the atlas: fabric, prints, seams, hems, folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.fields import Fields, ramp
from reference.people.folds import Folds
from reference.people.garments import Layer, layers, waistband_y
from reference.people.outfit import Fabric, Outfit, Print
from reference.people.texture.blend import over, shade
from reference.people.texture.patterns import weave
from reference.people.texture.prints import stamp

F32 = NDArray[np.float32]

__all__ = ["paint_outfit"]

HEM_EDGE_M = 0.005
SHADOW_M = 0.014
FOLD_CONTRAST = 0.16


def paint_outfit(
    colours: F32, outfit: Outfit, canvas: Canvas, rng: np.random.Generator, folds: Folds
) -> None:
    """All garments, in place on the texels' colours [N,3]."""
    fields = canvas.texels
    medium = canvas.noise.draw("medium", rng)
    for layer in layers(outfit, fields):
        # A garment throws a soft shadow on whatever lies just beyond its edge.
        outside = np.maximum(-layer.distance, 0)
        shadow = np.exp(-outside / SHADOW_M) * (layer.distance < 0)
        strength = 0.45 if float(layer.thickness_m.max()) > 0.012 else 0.28
        shade(colours, (1 - strength * shadow).astype(np.float32))
        alpha = ramp(layer.distance, HEM_EDGE_M)
        where = np.flatnonzero(alpha > 1e-3)
        if len(where) == 0:
            continue
        paint = _Painter(outfit, fields, layer, where, medium[where]).colours()
        # Less light reaches the valley of a fold than its ridge.
        height = np.clip(folds.of(layer.name)[where, None], -1, 1)
        paint *= (1 + FOLD_CONTRAST * height).astype(np.float32)
        full = np.zeros_like(colours)
        full[where] = np.clip(paint, 0, 1)
        over(colours, full, alpha)


class _Painter:
    """One layer's colours at its covered texels; everything is cut down to them once."""

    def __init__(
        self, outfit: Outfit, fields: Fields, layer: Layer, where: NDArray[np.int64], noise: F32
    ) -> None:
        self.outfit = outfit
        self.layer = layer
        self.anatomy = fields.anatomy
        self.distance = layer.distance[where]
        self.noise = noise
        self.u = fields.cloth_u[where]
        self.v = fields.cloth_v[where]
        self.x = fields.x[where]
        self.y = fields.y[where]
        self.z = fields.z[where]
        self.side_x = fields.side_x[where]
        self.front = fields.is_front[where]
        self.sleeve = fields.sleeve[where]
        self.neckline = fields.neckline[where]
        self.leg_angle = fields.leg_angle[where]

    def colours(self) -> F32:
        """[n,3]."""
        return {
            "sock": self._sock,
            "shoe": self._shoe,
            "bottom": self._bottom,
            "top": self._top,
            "belt": self._belt,
            "collar": self._collar,
            "outer": self._outer,
            "outer_collar": self._outer_collar,
        }[self.layer.name]()

    def _solid(self, colour: tuple[float, float, float]) -> F32:
        paint = np.empty((len(self.x), 3), np.float32)
        paint[:] = colour
        return paint

    def _weave(self, fabric: Fabric, sleeve: Fabric) -> F32:
        paint = weave(fabric, self.u, self.v, self.noise)
        on_arm = self.sleeve > 0
        if sleeve is not fabric and on_arm.any():
            paint[on_arm] = weave(sleeve, self.u[on_arm], self.v[on_arm], self.noise[on_arm])
        return paint

    def _line(self, paint: F32, distance: F32, width_m: float, strength: float) -> None:
        """Darken a seam of half width `width_m` around distance 0."""
        shade(paint, 1 - strength * ramp(np.float32(width_m) - np.abs(distance), 0.003))

    def _print(self, paint: F32, motif: Print | None, front: bool) -> None:
        if motif is None:
            return
        side = 1.0 if front else -1.0
        x = self.x * side - motif.dx_m
        y = self.y - (self.anatomy.chest_y - 0.02 + motif.dy_m)
        inner, outer = stamp(motif, x, y)
        here = (self.front == front) & (self.sleeve < 0.02)
        if motif.border != motif.colour:
            over(paint, motif.border, outer * here)
        over(paint, motif.colour, inner * here)

    def _sock(self) -> F32:
        footwear = self.outfit.footwear
        paint = self._solid(footwear.sock)
        if footwear.sock_m > 0.12:
            cuff = ramp(np.float32(0.008) - np.abs(self.distance - 0.035), 0.004)
            over(paint, footwear.accent, cuff)
        return paint

    def _shoe(self) -> F32:
        footwear, anatomy = self.outfit.footwear, self.anatomy
        paint = self._solid(footwear.upper)
        lift = self.y - np.float32(anatomy.floor_y)
        if footwear.kind == "sneakers":
            if footwear.shaft_m > 0.005 and sum(footwear.accent) > 1.3:
                toe = ramp(self.z - (anatomy.leg_z + 0.145), 0.006)
                over(paint, footwear.sole, 0.8 * toe)
            stripe = ramp(0.012 - np.abs(self.z - anatomy.leg_z - 0.03 + lift - 0.05), 0.005)
            over(paint, footwear.accent, stripe * (lift < 0.085))
            laces = ramp(0.016 - np.abs(self.side_x - anatomy.leg_x), 0.004)
            laces = laces * (np.sin(self.z * 380) > 0.1) * ramp(lift - 0.055, 0.01)
            over(paint, footwear.sole, 0.8 * laces * (self.z > anatomy.leg_z + 0.04))
        if footwear.shaft_m > 0.02:
            self._line(paint, self.distance - 0.012, 0.002, 0.3)
        over(paint, footwear.sole, ramp(np.float32(0.026) - lift, 0.006))
        return paint

    def _bottom(self) -> F32:
        bottom, anatomy = self.outfit.bottom, self.anatomy
        paint = weave(bottom.fabric, self.u, self.v, self.noise)
        if bottom.kind == "skirt":
            return np.asarray(paint * 0.6, np.float32)
        outward = np.abs(self.leg_angle)
        if bottom.side_stripe is not None:
            over(paint, bottom.side_stripe, ramp(0.22 - outward, 0.06))
        else:
            shade(paint, 1 - 0.22 * ramp(0.05 - outward, 0.05))
        if bottom.knee_patches is not None:
            knee = np.maximum(
                np.abs(self.y - anatomy.knee_y) - 0.06, np.abs(outward - 1.57) / 8 - 0.1
            )
            over(paint, bottom.knee_patches, ramp(-knee, 0.005) * self.front)
        if bottom.kind in ("jeans", "trousers"):
            fly = np.maximum(self.side_x - 0.002, anatomy.crotch_y - self.y)
            shade(paint, 1 - 0.35 * ramp(0.002 - fly, 0.003))
            pocket = self.side_x * 0.6 + (self.y - waistband_y(anatomy)) - 0.015
            self._line(paint, np.where(self.front & (self.side_x > 0.05), pocket, 1), 0.002, 0.3)
            self._back_pockets(paint)
            over(paint, bottom.seams, 0.5 * ramp(0.0015 - np.abs(self.distance - 0.012), 0.003))
        band = ramp(np.float32(0.017) - np.abs(waistband_y(anatomy) - 0.017 - self.y), 0.003)
        shade(paint, 1 - 0.18 * band)
        if bottom.belt is not None:
            over(paint, bottom.belt, band)
            buckle = band * (self.front & (self.side_x < 0.02))
            over(paint, (0.82, 0.75, 0.5), buckle.astype(np.float32))
        if bottom.kind == "joggers":
            over(
                paint,
                bottom.seams,
                0.8 * ramp(0.025 - self.distance, 0.004) * (self.y < anatomy.knee_y),
            )
        return paint

    def _back_pockets(self, paint: F32) -> None:
        anatomy = self.anatomy
        x = np.abs(self.side_x - 0.085) - 0.05
        y = np.abs(self.y - anatomy.hip_y - 0.015) - 0.055
        edge = np.abs(np.maximum(x, y))
        back = np.where(self.front, np.float32(1), edge).astype(np.float32)
        over(paint, self.outfit.bottom.seams, 0.55 * ramp(0.0025 - back, 0.003))

    def _top(self) -> F32:
        top, anatomy = self.outfit.top, self.anatomy
        paint = self._weave(top.fabric, top.sleeve_fabric)
        self._line(paint, self.sleeve, 0.0018, 0.25)
        if top.kind in ("tshirt", "sweater", "longsleeve", "dress", "tank"):
            rib = self.neckline - (0.004 if top.neckline == "crew" else 100.0)
            over(paint, top.trim, ramp(0.016 - rib, 0.004) * ramp(rib + 0.004, 0.004))
            edge = ramp(0.010 - self.distance, 0.004)
            shade(paint, 1 - 0.16 * edge)
        if top.kind in ("sweater", "hoodie"):
            over(paint, top.trim, 0.7 * ramp(0.035 - self.distance, 0.005) * (self.sleeve > 0.2))
            hem = self.y - (anatomy.hip_y - 0.01)
            over(paint, top.trim, 0.7 * ramp(0.04 - hem, 0.005) * (self.sleeve < 0))
        self._print(paint, top.front, front=True)
        self._print(paint, top.back, front=False)
        if top.kind == "shirt":
            self._placket(paint, top.trim)
        if top.kind == "hoodie":
            self._pouch(paint, top.trim)
        return paint

    def _placket(self, paint: F32, buttons: tuple[float, float, float]) -> None:
        strip = ramp(0.016 - self.side_x, 0.003) * self.front
        shade(paint, 1 - 0.14 * strip)
        spot = np.abs((self.y / 0.075) % 1.0 - 0.5) * 0.075
        button = ramp(0.007 - np.sqrt(spot**2 + self.x**2), 0.003) * self.front
        over(paint, buttons, button)

    def _pouch(self, paint: F32, strings: tuple[float, float, float]) -> None:
        anatomy = self.anatomy
        middle = 0.5 * (anatomy.waist_y + anatomy.hip_y) + 0.03
        slope = 0.13 - 0.5 * np.clip(self.y - middle, 0, 0.1)
        edge = np.maximum(self.side_x - slope, np.abs(self.y - middle) - 0.075)
        self._line(paint, np.where(self.front, edge, 1).astype(np.float32), 0.003, 0.4)
        cord = np.maximum(np.abs(self.side_x - 0.032) - 0.004, np.abs(self.neckline - 0.07) - 0.065)
        over(paint, strings, ramp(-cord, 0.003) * self.front)
        hood = np.exp(-((self.neckline / 0.03) ** 2))
        shade(paint, (1 - 0.3 * hood).astype(np.float32))

    def _belt(self) -> F32:
        belt = self.outfit.bottom.belt
        assert belt is not None, "a belt layer without a belt"
        paint = self._solid(belt)
        over(paint, (0.85, 0.78, 0.5), (self.front & (self.side_x < 0.022)).astype(np.float32))
        return paint

    def _collar(self) -> F32:
        top = self.outfit.top
        colour = top.trim if top.kind == "tshirt" else top.fabric.base
        paint = self._solid(colour)
        shade(paint, 1.06 - 0.3 * ramp(0.006 - self.distance, 0.004))
        return np.clip(paint, 0, 1)

    def _outer(self) -> F32:
        outer = self.outfit.outer
        assert outer is not None, "an outer layer without an outer garment"
        paint = self._weave(outer.fabric, outer.sleeve_fabric)
        self._line(paint, self.sleeve, 0.002, 0.25)
        over(paint, outer.trim, 0.85 * ramp(0.012 - self.distance, 0.004))
        self._print(paint, outer.back, front=False)
        pocket = np.maximum(
            np.abs(self.side_x - 0.115) - 0.04, np.abs(self.y - self.anatomy.waist_y) - 0.006
        )
        self._line(paint, np.where(self.front, pocket, 1).astype(np.float32), 0.003, 0.4)
        return paint

    def _outer_collar(self) -> F32:
        outer = self.outfit.outer
        assert outer is not None, "an outer collar without an outer garment"
        paint = self._solid(outer.fabric.base)
        shade(paint, 0.92 - 0.2 * ramp(0.006 - self.distance, 0.004))
        return paint
