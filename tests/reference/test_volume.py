"""Differentiable compositing against the plain twin and against the formula."""

from __future__ import annotations

import numpy as np
import torch

from gas_rt import kernels
from reference.nerf.volume import composite


def random_samples(rays: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 9, rays)
    count[[0, rays - 1]] = 0  # rays that miss, at both ends too
    ray = np.repeat(np.arange(rays), count)
    size = len(ray)
    delta = rng.uniform(0.005, 0.02, size).astype(np.float32)
    sigma = (rng.random(size) * 300).astype(np.float32)
    return ray, delta, sigma, rng.random((size, 3)).astype(np.float32)


def by_hand(ray, delta, sigma, rgb, rays):
    """Front to back, one sample at a time, in double precision."""
    colour, alpha, through = np.zeros((rays, 3)), np.zeros(rays), np.ones(rays)
    for k, r in enumerate(ray):
        opacity = 1 - np.exp(-float(sigma[k]) * float(delta[k]))
        colour[r] += through[r] * opacity * rgb[k]
        alpha[r] += through[r] * opacity
        through[r] *= 1 - opacity
    return colour, alpha


def test_composite_equals_the_sum_written_out():
    samples = random_samples(40)
    colour, alpha = composite(*map(torch.from_numpy, samples), rays=40)
    expected_colour, expected_alpha = by_hand(*samples, 40)
    np.testing.assert_allclose(colour, expected_colour, atol=2e-6)
    np.testing.assert_allclose(alpha, expected_alpha, atol=2e-6)


def test_composite_agrees_with_the_kernel():
    ray, delta, sigma, rgb = random_samples(64, seed=3)
    offsets = np.searchsorted(ray, np.arange(65)).astype(np.int64)
    still = np.zeros_like(rgb)
    packed = kernels.PackedSamples(
        (8, 8), offsets, ray.astype(np.int32), delta, still, still, ray.astype(np.int32)
    )
    expected_colour, expected_alpha = kernels.composite(packed, sigma, rgb)
    colour, alpha = composite(*map(torch.from_numpy, (ray, delta, sigma, rgb)), rays=64)
    np.testing.assert_allclose(colour.reshape(8, 8, 3), expected_colour, atol=2e-6)
    np.testing.assert_allclose(alpha.reshape(8, 8), expected_alpha, atol=2e-6)


def test_no_samples_at_all_is_black():
    empty = torch.zeros(0)
    colour, alpha = composite(empty.long(), empty, empty, torch.zeros(0, 3), rays=5)
    assert colour.shape == (5, 3)
    assert not colour.any()
    assert not alpha.any()


def test_gradients_are_those_of_the_sum():
    ray, delta, sigma, rgb = (torch.from_numpy(a) for a in random_samples(6, seed=1))
    ray, delta = ray, delta.double()
    inputs = (sigma.double() / 10).requires_grad_(), rgb.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, c: composite(ray, delta, s, c, rays=6), inputs, atol=1e-6
    )
