"""Looks are cheap to draw, so variety is checked over many of them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from reference.people.look import draw_look
from reference.people.shape import draw_betas

PEOPLE = range(400)


def test_every_style_and_garment_occurs() -> None:
    looks = [draw_look(seed) for seed in PEOPLE]
    hair = Counter(look.hair.style for look in looks)
    assert {"bald", "short", "bob", "long", "ponytail", "bun", "curly", "afro"} <= set(hair)
    assert {look.outfit.top.kind for look in looks} >= {"tshirt", "hoodie", "shirt", "dress"}
    assert {look.outfit.bottom.kind for look in looks} >= {"jeans", "shorts", "skirt"}
    loose = [
        look.outfit.bottom.kind == "skirt"
        or (look.outfit.outer is not None and look.outfit.outer.tails_m > 0)
        for look in looks
    ]
    assert 0.15 < np.mean(loose) < 0.5


def test_a_look_is_the_seeds_alone() -> None:
    assert draw_look(11) == draw_look(11)
    assert draw_look(11) != draw_look(12)


def test_shapes_vary_within_the_bodys_limits() -> None:
    betas = np.stack([draw_betas(seed) for seed in PEOPLE])
    assert betas.dtype == np.float32
    assert np.abs(betas).max() < 3
    assert (betas.std(0) > 0.8).all()
