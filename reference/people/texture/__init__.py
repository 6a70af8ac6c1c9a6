"""Painting a person onto the atlas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.canvas import Canvas
from reference.people.folds import Folds
from reference.people.look import Look
from reference.people.seeds import generator
from reference.people.texture.blend import shade
from reference.people.texture.cloth import paint_outfit
from reference.people.texture.face import paint_beard, paint_face, paint_glasses
from reference.people.texture.hair import paint_hair
from reference.people.texture.skin import paint_skin

F32 = NDArray[np.float32]

__all__ = ["paint_body"]

OCCLUSION_FLOOR = 0.62
"""Brightness in the deepest crease of the rest pose. What limbs hide from the light in a pose is
computed per pose; this is for what is finer than that."""


def paint_body(look: Look, canvas: Canvas, seed: int) -> F32:
    """Linear colours [N,3] of the atlas's covered texels."""
    rng = generator(seed, "paint")
    fields = canvas.texels
    colours = paint_skin(look.face, fields, canvas.noise, rng)
    paint_face(colours, look.face, look.hair, fields)
    paint_beard(colours, look.face, look.hair, fields, canvas.noise.draw("grain", rng))
    folds = Folds(look.outfit, fields, canvas.noise, generator(seed, "folds"))
    paint_outfit(colours, look.outfit, canvas, rng, folds)
    paint_hair(colours, look.hair, look.face.skin, canvas, rng)
    paint_glasses(colours, look.face, fields)
    occlusion = OCCLUSION_FLOOR + (1 - OCCLUSION_FLOOR) * canvas.texel_occlusion**0.8
    if look.outfit.footwear.kind != "barefoot":
        # The bake knows toes, which the shoe hides.
        occlusion = np.where(fields.foot > 0.6, np.maximum(occlusion, 0.88), occlusion)
    # Eyes sit in deep sockets that the bake would blacken.
    colours = np.clip(colours, 0, 1) ** 2
    shade(colours, np.where(fields.head > 0.5, 0.5 + 0.5 * occlusion, occlusion).astype(np.float32))
    return colours
