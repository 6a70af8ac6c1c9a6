"""A small random body in SMPL's layout, and the bundled one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gas_rt.body import PARENTS, BodyModel

BUNDLED = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"


def random_arrays(
    seed: int = 0, *, vertices: int = 60, shapes: int = 10
) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    weights = np.zeros((vertices, 24))
    for row in weights:
        row[rng.choice(24, 4, replace=False)] = rng.dirichlet(np.ones(4))
    regressor = rng.random((24, vertices))
    return {
        "v_template": rng.normal(0, 0.4, (vertices, 3)),
        "shapedirs": rng.normal(0, 0.02, (vertices, 3, shapes)),
        "posedirs": rng.normal(0, 0.005, (vertices, 3, 207)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(24)], np.uint32),
        "f": rng.integers(0, vertices, (90, 3)).astype(np.uint32),
    }


@pytest.fixture
def arrays() -> dict[str, NDArray[Any]]:
    return random_arrays()


@pytest.fixture(scope="session")
def bundled() -> BodyModel:
    return BodyModel.open(BUNDLED)
