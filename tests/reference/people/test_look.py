"""Looks are cheap to draw, so variety is checked over many of them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from reference.people import colours
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


def test_most_people_wear_at_most_one_loud_garment() -> None:
    loud, plain, luma = [], [], []
    for seed in PEOPLE:
        outfit = draw_look(seed).outfit
        worn = {outfit.top.fabric, outfit.bottom.fabric} | (
            {outfit.outer.fabric} if outfit.outer else set()
        )
        loud.append(sum(colours.saturation(cloth.base) > 0.45 for cloth in worn))
        plain.append(
            {cloth.pattern for cloth in worn} <= {"solid", "denim"} and outfit.top.front is None
        )
        luma += [colours.luma(cloth.base) for cloth in worn]
    assert np.mean(np.array(loud) > 1) < 0.05
    assert 0.1 < np.mean(np.array(loud) == 1) < 0.5  # and yet people are not grey
    assert 0.3 < np.mean(plain) < 0.7
    assert min(luma) > 0.1  # or they would melt into the background


def test_hair_goes_with_skin() -> None:
    dark = [look for look in map(draw_look, PEOPLE) if colours.luma(look.face.skin) < 0.5]
    fair = np.mean([colours.luma(look.hair.colour) > 0.45 for look in dark])
    assert 0 < fair < 0.2  # grey and dyed


def test_shapes_vary_within_the_bodys_limits() -> None:
    betas = np.stack([draw_betas(seed) for seed in PEOPLE])
    assert betas.dtype == np.float32
    assert np.abs(betas).max() < 3
    assert (betas.std(0) > 0.8).all()
