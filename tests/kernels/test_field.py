"""Evaluation of the hash-grid field against its twin, and the field's files."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from field_cases import HI, LO, SMALL, constant_field, random_field
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import HashField, HashGridConfig, field_density, field_forward, twins

CONFIGS = st.builds(
    HashGridConfig,
    levels=st.integers(1, 9),
    features=st.sampled_from([1, 2, 4, 8]),
    log2_table=st.integers(4, 12),
    base_resolution=st.integers(2, 20),
    per_level_scale=st.floats(1.0, 2.2),
)


def points(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in and around the box, some on its corners; unit directions."""
    rng = np.random.default_rng(seed)
    x = (rng.uniform(-0.1, 1.1, (n, 3)) * (HI - LO) + LO).astype(np.float32)
    x[: n // 8] = np.where(rng.random((n // 8, 3)) < 0.5, LO, HI)
    d = rng.normal(size=(n, 3))
    return x, (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(CONFIGS, st.integers(0, 200), st.integers(1, 3), st.integers(0, 99))
def test_field_agrees_with_its_twin(
    config: HashGridConfig, n: int, threads: int, seed: int
) -> None:
    field = random_field(config, seed=seed)
    x, d = points(n, seed=seed)
    sigma, rgb = field_forward(field, x, d, threads=threads)
    twin_sigma, twin_rgb = twins.field_forward(field, x, d, threads=1)
    # Fine levels multiply a coordinate's rounding by their resolution.
    scale = 1 + np.abs(twin_sigma)
    np.testing.assert_allclose(sigma / scale, twin_sigma / scale, atol=1e-4)
    np.testing.assert_allclose(rgb, twin_rgb, atol=2e-4)
    np.testing.assert_array_equal(field_density(field, x, threads=threads), sigma)


def test_density_does_not_depend_on_the_direction() -> None:
    field = random_field()
    x, d = points(100, seed=0)
    sigma, rgb = field_forward(field, x, d)
    turned, turned_rgb = field_forward(field, x, d[::-1].copy())
    np.testing.assert_array_equal(sigma, turned)
    assert np.abs(rgb - turned_rgb).max() > 1e-3


def test_density_is_finite_and_not_negative_for_extreme_logits() -> None:
    x, d = points(64, seed=0)
    for factor in (1e6, -1e6):
        field = random_field(scale=0.5)
        wild = HashField(SMALL, field.table * factor, field.density_mlp, field.colour_mlp, LO, HI)
        sigma, rgb = field_forward(wild, x, d)
        assert np.isfinite(sigma).all()
        assert (sigma >= 0).all()
        assert ((rgb >= 0) & (rgb <= 1)).all()


def test_threads_and_block_boundaries_do_not_change_a_bit() -> None:
    field = random_field()
    x, d = points(2500, seed=1)
    sigma, rgb = field_forward(field, x, d)
    for threads in (2, 5):
        more = field_forward(field, x, d, threads=threads)
        np.testing.assert_array_equal(sigma, more[0])
        np.testing.assert_array_equal(rgb, more[1])
    shifted = field_forward(field, x[37:], d[37:])
    np.testing.assert_array_equal(sigma[37:], shifted[0])


def test_constant_field_is_what_its_logits_say() -> None:
    x, d = points(10, seed=2)
    sigma, rgb = field_forward(constant_field(30.0, (0.2, 0.5, 0.9)), x, d)
    np.testing.assert_allclose(sigma, 30.0, rtol=1e-5)
    np.testing.assert_allclose(rgb, np.tile([0.2, 0.5, 0.9], (10, 1)), atol=1e-5)


def test_tcnn_parameters_are_read_mlp_first() -> None:
    field = random_field()
    flat = np.concatenate([field.density_mlp, field.table]).astype(np.float16)
    read = HashField.from_tcnn(SMALL, flat, field.colour_mlp.astype(np.float16), lo=LO, hi=HI)
    np.testing.assert_array_equal(read.density_mlp, field.density_mlp.astype(np.float16))
    np.testing.assert_array_equal(read.table, field.table.astype(np.float16))
    np.testing.assert_array_equal(read.tcnn_params(), flat.astype(np.float32))
    with pytest.raises(ShapeError, match="density_and_grid: expected shape"):
        HashField.from_tcnn(SMALL, flat[:-1], field.colour_mlp, lo=LO, hi=HI)


@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_a_table_of_halves_takes_half_the_memory_and_evaluates_alike(features: int) -> None:
    config = HashGridConfig(levels=4, features=features, log2_table=10, base_resolution=6)
    field = random_field(config)
    half = field.halved()
    assert half.table.dtype == np.float16
    assert half.table.nbytes * 2 == field.table.nbytes
    # Widened, it is the same but for fused additions: rounding the table is all that halves cost.
    nets = field.density_mlp, field.colour_mlp
    widened = HashField(config, half.table.astype(np.float32), *nets, LO, HI)
    x, d = points(200, seed=3)
    sigma, rgb = field_forward(half, x, d)
    for got, want in zip((sigma, rgb), field_forward(widened, x, d), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6)
    np.testing.assert_array_equal(field_density(half, x), sigma)
    # Densities go up to a few hundred per metre. A half has 11 bits: 5e-4 of an entry.
    exact_sigma, exact_rgb = field_forward(field, x, d)
    np.testing.assert_allclose(sigma, exact_sigma, atol=1.0)
    np.testing.assert_allclose(rgb, exact_rgb, atol=5e-3)


def test_every_half_is_widened_exactly() -> None:
    """Zeros of both signs, subnormals, the largest: each alone in a constant grid."""
    bits = np.array([0, 0x8000, 1, 0x83FF, 0x0400, 0x3C00, 0xBC01, 0x7BFF, 0xFBFF], np.uint16)
    config = HashGridConfig(levels=1, features=4, log2_table=10, base_resolution=4)
    start = constant_field(30.0, (0.2, 0.5, 0.9))
    x, d = points(8, seed=0)
    for value in bits.view(np.float16):
        table = np.full(config.n_params, value, np.float16)
        nets = start.density_mlp, start.colour_mlp
        scale = np.float32(1 / max(abs(float(value)), 1e-30))
        first = np.concatenate([start.density_mlp[:512] * scale, start.density_mlp[512:]])
        half, single = (
            HashField(config, t, first, nets[1], LO, HI) for t in (table, table.astype(np.float32))
        )
        np.testing.assert_allclose(
            field_forward(half, x, d)[0], field_forward(single, x, d)[0], rtol=1e-6
        )


def test_a_file_holds_the_table_as_it_is() -> None:
    field = random_field()
    for written in (field, field.halved()):
        read = HashField.from_arrays(SMALL, written.arrays())
        assert read.table.dtype == written.table.dtype
        np.testing.assert_array_equal(read.table, written.table)
    wild = HashField(SMALL, field.table * 1e6, field.density_mlp, field.colour_mlp, LO, HI)
    with pytest.raises(InputError, match="exceeds float16"):
        wild.halved()
    arrays = field.arrays()
    with pytest.raises(InputError, match="missing \\['table'\\]"):
        HashField.from_arrays(SMALL, {k: v for k, v in arrays.items() if k != "table"})


def test_bad_fields_and_points_are_refused() -> None:
    field = random_field()
    mlps = field.density_mlp, field.colour_mlp
    with pytest.raises(ShapeError, match=r"HashField\.table: expected shape"):
        HashField(SMALL, field.table[:-1], *mlps, LO, HI)
    with pytest.raises(ShapeError, match=r"1 of .* values are NaN"):
        HashField(SMALL, np.append(field.table[:-1], np.nan), *mlps, LO, HI)
    with pytest.raises(ShapeError, match=r"HashField\.hi: expected 0\.001\.\.10000 m more than lo"):
        HashField(SMALL, field.table, *mlps, LO, LO)
    with pytest.raises(InputError, match="density_scale"):
        HashField(SMALL, field.table, *mlps, LO, HI, density_scale=0.0)
    with pytest.raises(ShapeError, match="x: expected shape"):
        field_forward(field, np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="d: expected shape"):
        field_forward(field, np.zeros((3, 3)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="x: 1 of 9 values are NaN"):
        field_forward(field, np.diag([0, 0, np.nan]), np.zeros((3, 3)))
    with pytest.raises(InputError, match="threads"):
        field_forward(field, np.zeros((3, 3)), np.zeros((3, 3)), threads=0)


PROBE = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from field_cases import random_field
from gas_rt.kernels import field_forward
x = np.random.default_rng(0).uniform(-0.4, 0.4, (300, 3))
sigma, rgb = field_forward(random_field(), x, x)
np.save(sys.argv[2], np.concatenate([sigma[:, None] / 100, rgb], 1))
"""


@pytest.mark.parametrize(("lo", "hi"), [(-3e38, 3e38), (0.0, 1e-40), (0.0, np.nextafter(0, 1))])
def test_boxes_whose_sides_are_lost_to_rounding_are_refused(lo: float, hi: float) -> None:
    """Normalising to them would divide by nothing and address the table with NaN."""
    good = random_field()
    nets = good.density_mlp, good.colour_mlp
    with pytest.raises(ShapeError, match=r"HashField\.hi: expected"):
        HashField(SMALL, good.table, *nets, np.full(3, lo), np.full(3, hi))


def test_every_instruction_set_and_the_twin_give_the_same_picture(tmp_path: object) -> None:
    results = []
    for variable, value in [
        ("GAS_RT_ISA", "base"),
        ("GAS_RT_ISA", ""),
        ("GAS_RT_KERNELS", "numpy"),
    ]:
        path = f"{tmp_path}/{variable}{value}.npy"
        command = [sys.executable, "-c", PROBE, os.path.dirname(__file__), path]
        subprocess.run(command, check=True, env={**os.environ, variable: value})
        results.append(np.load(path))
    np.testing.assert_allclose(results[0], results[1], atol=2e-5)
    np.testing.assert_allclose(results[2], results[1], atol=2e-5)
