"""Flat parameters of tiny-cuda-nn, read by the loader and by a second implementation."""

from __future__ import annotations

import numpy as np
import pytest
import tcnn_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.errors import ShapeError
from gas_rt.kernels import HashField, HashGridConfig, field_forward
from gas_rt.kernels.hash_field import COLOUR_MLP_SIZE, density_mlp_size

# Dense and hashed levels; resolutions that are no power of two.
GRID = HashGridConfig(
    levels=5, features=2, log2_table=10, base_resolution=7, per_level_scale=1.5
)  # fmt: skip
LO, HI = np.zeros(3, np.float32), np.ones(3, np.float32)


def by_hand(config: HashGridConfig) -> tcnn_by_hand.Grid:
    return tcnn_by_hand.Grid(
        config.levels,
        config.features,
        config.log2_table,
        config.base_resolution,
        config.per_level_scale,
    )


def numbers(count: int, *, seed: int) -> np.ndarray:
    """Numbers in [-0.5, 0.5) that any language can make again."""
    i = np.arange(count, dtype=np.uint64) + np.uint64(seed)
    return ((i * np.uint64(2654435761) % np.uint64(2**32)) / 2**32 - 0.5).astype(np.float32)


def flat_params(config: HashGridConfig) -> tuple[np.ndarray, np.ndarray]:
    size = density_mlp_size(config) + config.n_params
    return numbers(size, seed=1), numbers(COLOUR_MLP_SIZE, seed=7)


@settings(max_examples=60)
@given(
    st.builds(
        HashGridConfig,
        levels=st.integers(1, 16),
        features=st.sampled_from([1, 2, 4, 8]),
        log2_table=st.integers(3, 20),
        base_resolution=st.integers(2, 64),
        per_level_scale=st.floats(1.0, 2.0),
    )
)
def test_levels_lie_where_the_second_implementation_has_them(config: HashGridConfig) -> None:
    levels = tcnn_by_hand.level_layout(by_hand(config))
    assert config.scales.tolist() == [scale for scale, *_ in levels]
    assert config.resolutions.tolist() == [resolution for _, resolution, *_ in levels]
    assert config.sizes.tolist() == [entries for _, _, entries, _ in levels]
    assert config.offsets.tolist()[:-1] == [first for *_, first in levels]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "config",
    [
        GRID,
        HashGridConfig(levels=3, features=4, log2_table=8),
        HashGridConfig(levels=2, features=8),
    ],
)
def test_a_loaded_field_is_what_the_second_implementation_says(
    config: HashGridConfig, dtype: type
) -> None:
    density_and_grid, colour = (p.astype(dtype) for p in flat_params(config))
    field = HashField.from_tcnn(config, density_and_grid, colour, lo=LO, hi=HI, density_scale=3.0)
    assert field.table.dtype == dtype
    rng = np.random.default_rng(0)
    x = rng.random((12, 3)).astype(np.float32)
    x[:3] = [[0, 0, 0], [1, 1, 1], [1, 0, 0.5]]
    d = rng.normal(size=(12, 3)).astype(np.float32)
    sigma, rgb = field_forward(field, x, d)
    for at in range(12):
        want_sigma, want_rgb = tcnn_by_hand.field(
            by_hand(config),
            density_and_grid,
            colour,
            u=x[at].tolist(),
            direction=d[at].tolist(),
            density_scale=3.0,
        )
        assert sigma[at] == pytest.approx(want_sigma, rel=1e-4)
        np.testing.assert_allclose(rgb[at], want_rgb, atol=1e-4)


def test_golden_values() -> None:
    """Of the second implementation, written down: both could not drift together unseen."""
    x = [[0, 0, 0], [0.25, 0.5, 0.75], [1, 1, 1], [0.9, 0.1, 0.37]]
    field = HashField.from_tcnn(GRID, *flat_params(GRID), lo=LO, hi=HI, density_scale=3.0)
    sigma, rgb = field_forward(field, np.array(x), np.array([[0, 0.6, 0.8]] * 4))
    np.testing.assert_allclose(sigma, [2.033075, 2.343439, 1.985149, 1.933005], rtol=1e-5)
    want = [
        [0.5365839, 0.4993710, 0.4086252],
        [0.5573868, 0.4876022, 0.4295041],
        [0.5451073, 0.4935402, 0.4203681],
        [0.5417383, 0.5007500, 0.4210397],
    ]
    np.testing.assert_allclose(rgb, want, rtol=1e-5)
    entries = [(9, 1024), (20, 1024), (9, 736)]  # dense, hashed, dense
    found = [tcnn_by_hand.entry((3, 5, 7), *level) for level in entries]
    assert found == [3 + 9 * 5 + 81 * 7, 357, 3 + 9 * 5 + 81 * 7]


def test_vectors_of_another_grid_are_refused() -> None:
    density_and_grid, colour = flat_params(GRID)
    for bad in (density_and_grid[:-1], np.append(density_and_grid, 0), density_and_grid[None]):
        with pytest.raises(ShapeError, match=r"density_and_grid: expected shape \[\d+\], got"):
            HashField.from_tcnn(GRID, bad, colour, lo=LO, hi=HI)
    with pytest.raises(ShapeError, match=r"colour: expected shape \[1536\], got \[1535\]"):
        HashField.from_tcnn(GRID, density_and_grid, colour[:-1], lo=LO, hi=HI)
