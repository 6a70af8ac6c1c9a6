"""Rendering at half resolution: the upsampling, where its pixels lie, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from field_cases import SPHERE_M, camera, identity_shell, psnr, random_shell, sphere_field
from hypothesis import given
from hypothesis import strategies as st

from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import march, twins, upsample


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(1, 3))
def test_upsampling_agrees_with_its_twin(
    height: int, width: int, channels: int, threads: int
) -> None:
    rng = np.random.default_rng(height * 41 + width)
    half = ((height + 1) // 2, (width + 1) // 2, channels)
    picture = rng.normal(size=half).astype(np.float32)
    got = upsample(picture, height=height, width=width, threads=threads)
    np.testing.assert_allclose(got, twins.upsample(picture, height=height, width=width), atol=1e-6)


@pytest.mark.parametrize("kernels", ["native", "numpy"])
def test_a_ramp_keeps_its_place_and_edges_are_held(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAS_RT_KERNELS", kernels)
    # The value at a coarse pixel is the position of its centre, in fine pixels.
    ramp = np.tile(np.arange(5, dtype=np.float32) * 2 + 1, (3, 1))
    fine = upsample(ramp, height=6, width=10)
    assert fine.shape == (6, 10)
    np.testing.assert_allclose(fine[:, 1:-1], np.tile(np.arange(1, 9) + 0.5, (6, 1)), atol=1e-6)
    np.testing.assert_array_equal(fine[:, [0, -1]], np.tile([1, 9], (6, 1)))
    np.testing.assert_allclose(upsample(ramp.T, height=10, width=6), fine.T, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (63, 61)])
def test_half_resolution_shows_the_same_picture_softer(size: tuple[int, int]) -> None:
    surface = np.random.default_rng(0).normal(size=(400, 3))
    surface *= SPHERE_M / np.linalg.norm(surface, axis=1, keepdims=True)
    shell, field = identity_shell(surface, radius_m=0.05), sphere_field(steps=60)
    view = camera(*size)
    rgb, alpha = march(shell, field, view)
    half_rgb, half_alpha = march(shell, field, view, half_resolution=True)
    assert half_rgb.shape == rgb.shape
    assert half_alpha.shape == alpha.shape
    assert (half_rgb <= half_alpha[..., None] + 1e-6).all()  # still premultiplied
    assert psnr(rgb, half_rgb) > 30
    moved = np.roll(half_rgb, 1, axis=1), np.roll(half_rgb, -1, axis=0)
    assert all(psnr(rgb, m) < psnr(rgb, half_rgb) - 2 for m in moved)  # no shift by a pixel
    many = march(shell, field, view, half_resolution=True, threads=3)
    np.testing.assert_array_equal(many[0], half_rgb)


def test_bad_pictures_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"picture: expected shape \[2, 3\], got \[2, 2\]"):
        upsample(np.zeros((2, 2)), height=4, width=5)
    with pytest.raises(ShapeError, match=r"picture: 1 of 6 values are NaN"):
        upsample(np.array([[1, 2, 3], [4, 5, np.nan]]), height=4, width=5)
    with pytest.raises(InputError, match=r"height: expected 1\.\.16384 pixels, got 0"):
        upsample(np.zeros((0, 3)), height=0, width=5)
    with pytest.raises(InputError, match="samples"):
        march(random_shell(), sphere_field(steps=1), camera(8, 8), samples=1, half_resolution=True)
