"""Metrics against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from small_people import orbit_camera

from reference.metrics import azimuth_deg, box_and_whole, mask_box, psnr_db, ssim


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


def test_an_empty_mask_means_the_whole_picture():
    assert mask_box(np.zeros((5, 7), np.uint8)) == (slice(0, 5), slice(0, 7))


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.0, 3.0, -2.0])
def test_azimuth_is_the_turn_about_the_vertical(turn):
    angle = azimuth_deg(orbit_camera(0.4), orbit_camera(0.4 + turn))
    assert angle == pytest.approx(np.degrees(abs(turn)), abs=1e-3)
