"""The hash grid's layout is tiny-cuda-nn's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gas_rt.errors import InputError
from gas_rt.kernels import HashGridConfig
from gas_rt.kernels.twins.field import corners


@pytest.mark.parametrize(
    ("config", "n_params"),
    [
        # tiny-cuda-nn's own test of the grid
        (HashGridConfig(20, 2, 16, 32, 1.5), 2_555_904),
        # 16 to 2048 over 16 levels of 2^19, the size that checkpoints in the wild have
        (HashGridConfig(16, 2, 19, 16, math.exp(math.log(2048 / 16) / 15)), 12_196_240),
        # all dense: 4^3 and 8^3 entries of 2
        (HashGridConfig(2, 2, 12, 4, 2.0), 2 * (64 + 512)),
        # 3^3 vertices are stored as 32 entries
        (HashGridConfig(1, 1, 12, 3, 1.0), 32),
    ],
)
def test_sizes_are_the_published_ones(config: HashGridConfig, n_params: int) -> None:
    assert config.n_params == n_params


def test_levels_of_the_default_grid() -> None:
    config = HashGridConfig()
    assert config.resolutions.tolist() == [16, 26, 41, 66, 105, 168, 269, 430]
    assert config.hashed.tolist() == [False, False] + [True] * 6
    assert config.offsets.tolist()[:4] == [0, 4096, 4096 + 17576, 4096 + 17576 + 32768]
    assert (config.n_features, config.n_padded) == (32, 32)
    assert HashGridConfig(**config.as_dict()) == config


def test_entries_are_addressed_as_published() -> None:
    config = HashGridConfig(levels=3, features=2, log2_table=9, base_resolution=5)
    u = np.float32([[0.31, 0.77, 0.12]])
    for level in range(3):
        index, weight = corners(config, level, u)
        resolution, size = int(config.resolutions[level]), int(config.sizes[level])
        position = [float(v) * float(config.scales[level]) + 0.5 for v in u[0]]
        for corner in range(8):
            x, y, z = (int(p) + (corner >> d & 1) for d, p in enumerate(position))
            if resolution**3 <= size:
                expected = (x + y * resolution + z * resolution**2) % size
            else:
                expected = (x ^ y * 2654435761 ^ z * 805459861) % 2**32 % size
            assert index[0, corner] == expected
            sides = [p % 1 if corner >> d & 1 else 1 - p % 1 for d, p in enumerate(position)]
            assert weight[0, corner] == pytest.approx(math.prod(sides), abs=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"levels": 0},
        {"levels": 33},
        {"features": 3},
        {"log2_table": 30},
        {"base_resolution": 1},
        {"per_level_scale": 0.5},
        {"per_level_scale": float("nan")},
        {"levels": 30, "per_level_scale": 4.0},
    ],
)
def test_impossible_grids_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="HashGridConfig"):
        HashGridConfig(**bad)  # type: ignore[arg-type]
