"""Metrics against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from small_people import orbit_camera

from reference.metrics import (
    METRICS,
    azimuth_deg,
    box_and_whole,
    gmsd,
    haarpsi,
    mask_box,
    ms_ssim,
    psnr_db,
    spectral,
    ssim,
)


def pictures(seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.random((40, 48, 3)), (2, 2, 0)).astype(np.float32)
    return np.clip(truth + 0.02 * rng.normal(size=truth.shape), 0, 1).astype(np.float32), truth


def test_psnr_of_a_constant_error():
    truth = np.full((8, 8, 3), 0.5, np.float32)
    assert psnr_db(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    assert psnr_db(truth, truth) == 60.0


def test_ssim_is_the_gaussian_window_formula():
    picture, truth = pictures()

    def blur(x):
        return gaussian_filter(x.astype(np.float64), (1.5, 1.5, 0), truncate=3.5)

    mean_p, mean_t = blur(picture), blur(truth)
    var_p, var_t = blur(picture**2) - mean_p**2, blur(truth**2) - mean_t**2
    both = blur(picture * truth) - mean_p * mean_t
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_p * mean_t + c1) * (2 * both + c2)
    index /= (mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)
    assert ssim(picture, truth) == pytest.approx(index[5:-5, 5:-5].mean(), abs=2e-4)
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_the_box_is_the_mask_and_four_pixels():
    mask = np.zeros((40, 48), np.uint8)
    mask[10:20, 2:30] = 255
    assert mask_box(mask) == (slice(6, 24), slice(0, 34))
    picture, truth = pictures()
    values = box_and_whole(picture, truth, mask)
    box = picture[6:24, 0:34], truth[6:24, 0:34]
    error = ((box[0].astype(np.float64) - box[1]) ** 2).mean()
    assert values["box_psnr_db"] == pytest.approx(-10 * np.log10(error))
    assert values["psnr_db"] == pytest.approx(psnr_db(picture, truth))


def waves(height: int = 48, width: int = 40):
    """A picture that needs no file: colourful, with fine and coarse detail."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = np.stack([np.sin(x / 3 + y / 7), np.cos(x * y / 40), np.sin((x - y) / 5)], 2)
    return ((0.5 + 0.5 * waves) * [1, 0.8, 0.6]).astype(np.float32)


def blurred(picture):
    return gaussian_filter(picture, (1.2, 1.2, 0))


# Computed once with piq 0.8.0, an implementation that shares nothing with ours.
@pytest.mark.parametrize(
    ("change", "size", "expected"),
    [
        (lambda p: 0.7 * p, (48, 40), 0.892839),
        (lambda p: np.roll(p, 2, 1), (48, 40), 0.433875),
        (lambda p: np.repeat(p.mean(2, keepdims=True), 3, 2), (48, 40), 0.175627),
        (lambda p: np.full_like(p, 0.5), (48, 40), 0.032035),
        (lambda p: np.roll(p, 1, 0), (45, 37), 0.661867),
        (lambda p: np.roll(p, 1, 0), (45, 38), 0.652049),
    ],
)
def test_haarpsi_is_that_of_another_implementation(change, size, expected):
    truth = waves(*size)
    assert haarpsi(change(truth), truth) == pytest.approx(expected, abs=1e-4)


# As above. Five scales, four and two; sides that halve evenly, as conventions differ elsewhere.
@pytest.mark.parametrize(
    ("change", "size", "scales", "deviation"),
    [
        (lambda p: 0.7 * p, (192, 176), 0.947974, 0.011576),
        (lambda p: np.roll(p, 2, 1), (192, 176), 0.536533, 0.191294),
        (lambda p: np.repeat(p.mean(2, keepdims=True), 3, 2), (128, 96), 0.391172, 0.083907),
        (lambda p: np.full_like(p, 0.5), (128, 96), 0.110291, 0.272085),
        (lambda p: np.roll(p, 1, 0), (48, 40), 0.940622, 0.122830),
    ],
)
def test_ms_ssim_and_gmsd_are_those_of_another_implementation(change, size, scales, deviation):
    truth = waves(*size)
    assert ms_ssim(change(truth), truth) == pytest.approx(scales, abs=2e-6)
    assert gmsd(change(truth), truth) == pytest.approx(deviation, abs=2e-6)


def test_one_scale_of_ms_ssim_is_ssim():
    truth = waves(20, 24)
    assert ms_ssim(blurred(truth), truth) == pytest.approx(ssim(blurred(truth), truth), abs=1e-5)


def test_an_inverted_picture_is_nowhere_alike():
    truth = waves(64, 64)
    assert ms_ssim(1 - truth, truth) == 0


def test_gmsd_asks_for_edges_not_for_brightness():
    truth = waves(64, 64)
    patched = truth.copy()
    patched[16:40, 16:40] = truth[16:40, 16:40].mean((0, 1))
    brighter = gmsd(truth + 0.1, truth)  # another edge at the border, and nothing else
    assert gmsd(patched, truth) > 5 * brighter
    assert psnr_db(patched, truth) > psnr_db(truth + 0.2, truth)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(11, 60), st.integers(11, 60))
def test_similarities_are_symmetric_bounded_and_best_for_equal_pictures(seed, height, width):
    one, two = np.random.default_rng(seed).random((2, height, width, 3)).astype(np.float32)
    for metric, best in ((ms_ssim, 1.0), (gmsd, 0.0)):
        value = metric(one, two)
        assert 0 <= value <= 1
        assert value == pytest.approx(metric(two, one))
        assert metric(one, one) == pytest.approx(best, abs=1e-9)
        assert abs(value - best) > 1e-3


def test_a_picture_too_small_for_a_window_is_named():
    small = np.zeros((10, 40, 3), np.float32)
    with pytest.raises(ValueError, match=r"at least 11 pixels, found \[10, 40\]"):
        ms_ssim(small, small)


def test_haarpsi_is_symmetric_ends_at_1_and_falls_with_the_error():
    truth = waves()
    noise = np.random.default_rng(0).normal(size=truth.shape)
    noisy = [np.clip(truth + s * noise, 0, 1).astype(np.float32) for s in (0.02, 0.05, 0.1)]
    values = [haarpsi(picture, truth) for picture in noisy]
    assert 1 > values[0] > values[1] > values[2] > 0
    assert haarpsi(truth, noisy[1]) == pytest.approx(values[1])
    assert haarpsi(truth, truth) == pytest.approx(1)
    black = np.zeros_like(truth)
    assert haarpsi(black, black) == pytest.approx(1)


def test_halving_the_amplitude_costs_six_decibels_at_every_frequency():
    truth = np.random.default_rng(0).random((64, 48, 3)).astype(np.float32)
    error, sharpness = spectral(0.5 * truth, truth)
    assert error == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert sharpness == pytest.approx(-20 * np.log10(2), abs=1e-3)


def test_sharpness_tells_blur_from_noise():
    truth = waves()
    noisy = truth + 0.1 * np.random.default_rng(0).normal(size=truth.shape).astype(np.float32)
    blur, noise = spectral(blurred(truth), truth), spectral(noisy, truth)
    assert blur[1] < -3
    assert noise[1] > 3
    assert min(blur[0], noise[0]) > 1
    assert spectral(truth, truth) == (0, 0)


def test_spectral_error_does_not_ask_where_detail_lies():
    truth = waves()
    assert spectral(np.roll(truth, (5, 3), (0, 1)), truth) == pytest.approx((0, 0), abs=1e-6)
    assert psnr_db(np.roll(truth, (5, 3), (0, 1)), truth) < 15


def test_detail_below_8_bit_rounding_is_no_detail():
    flat = np.full((16, 16, 3), 0.5, np.float32)
    faint = flat + 1e-4 * np.random.default_rng(0).normal(size=flat.shape).astype(np.float32)
    assert spectral(faint, flat) == (0, 0)


@pytest.mark.parametrize("shape", [(12, 40), (1, 9), (3, 3)])
def test_spectral_error_of_small_and_narrow_pictures_is_a_number(shape):
    rng = np.random.default_rng(0)
    one, two = rng.random((2, *shape, 3)).astype(np.float32)
    assert np.isfinite(spectral(one, two)).all()


def test_every_metric_is_there_in_the_box_and_on_the_whole():
    picture, truth = pictures()
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 10:30] = 255
    values = box_and_whole(picture, truth, mask)
    assert set(values) == {*METRICS, *(f"box_{name}" for name in METRICS)}
    assert values["haarpsi"] == pytest.approx(haarpsi(picture, truth))
    assert values["box_sharpness_db"] == pytest.approx(
        spectral(picture[6:34, 6:34], truth[6:34, 6:34])[1]
    )


def test_an_empty_mask_means_the_whole_picture():
    assert mask_box(np.zeros((5, 7), np.uint8)) == (slice(0, 5), slice(0, 7))


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.0, 3.0, -2.0])
def test_azimuth_is_the_turn_about_the_vertical(turn):
    angle = azimuth_deg(orbit_camera(0.4), orbit_camera(0.4 + turn))
    assert angle == pytest.approx(np.degrees(abs(turn)), abs=1e-3)
