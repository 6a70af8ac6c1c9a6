"""Body shape of an identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.seeds import generator

F32 = NDArray[np.float32]

__all__ = ["draw_betas"]

SPREAD = 1.2
LIMIT = 2.6
"""Beyond about 3 the body file's directions stop looking human."""


def draw_betas(seed: int) -> F32:
    """Shape coefficients [10], clipped normal."""
    draw = generator(seed, "shape").normal(0, SPREAD, 10)
    return np.clip(draw, -LIMIT, LIMIT).astype(np.float32)
