"""Many people on one sheet, each from the front, the side and behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel
from reference.people.animate import settle
from reference.people.camera import Lens, framed
from reference.people.person import Person
from reference.people.poses import standing
from reference.people.sampling import shoot
from reference.people.seeds import generator

U8 = NDArray[np.uint8]

__all__ = ["sheet"]

VIEWS_RAD = (0.35, np.pi / 2 + 0.35, np.pi + 0.35)


def sheet(seeds: Sequence[int], body: BodyModel, *, size: int = 192) -> U8:
    """A grid of people, about as wide as high. [H,W,3]."""
    cells = [_cell(seed, body, size) for seed in seeds]
    columns = max(1, round((len(cells) * cells[0].shape[0] / cells[0].shape[1]) ** 0.5))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows)


def _cell(seed: int, body: BodyModel, size: int) -> U8:
    person = Person.from_seed(seed, body)
    state = settle(person, standing(generator(seed, "reference")))
    lens, trim = Lens(2.0, 0.92), size // 6
    pictures = []
    for azimuth in VIEWS_RAD:
        camera = framed([state.vertices], azimuth=azimuth, elevation=0.1, lens=lens, size=size)
        pictures.append(shoot(person, state, camera).rgb[:, trim:-trim])
    return np.concatenate(pictures, 1)
