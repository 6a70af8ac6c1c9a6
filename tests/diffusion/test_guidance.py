"""Guidance in closed form against the release's hard-coded triangle, and the switcher."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gas_rt.cameras import about_y, framing_camera, orbit
from gas_rt.core import Camera
from gas_rt.diffusion import azimuth_between, guidance_of, switcher
from gas_rt.errors import InputError

BODY = np.array([[-0.5, -1.0, -0.2], [0.5, 0.8, 0.2]])


def camera(azimuth_deg: float = 0.0, elevation_deg: float = 5.0) -> Camera:
    return framing_camera(BODY, side_px=128, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg)


def test_on_the_releases_orbit_it_is_the_releases_triangle() -> None:
    """linspace(1, 2, N/2 + 1), then 9 values of linspace(2, 1, N − N/2 + 1), right for N = 20."""
    count = 20
    rising = np.linspace(1, 2, count // 2 + 1)
    falling = np.linspace(2, 1, count - count // 2 + 1)[1:10]
    triangle = np.concatenate([rising, falling])
    for azimuth in (0.0, 130.0):
        reference = camera(azimuth)
        found = [guidance_of("view", c, reference) for c in orbit(reference, count)]
        np.testing.assert_allclose(found, triangle, atol=2e-6)


def test_pose_is_guided_by_2_from_everywhere() -> None:
    reference = camera()
    assert {guidance_of("pose", c, reference) for c in orbit(reference, 7)} == {2.0}


def test_a_bundle_may_set_both_scales() -> None:
    reference = camera()
    assert guidance_of("pose", camera(90), reference, pose=1.0) == 1.0
    found = [guidance_of("view", camera(a), reference, view_behind=3.0) for a in (0, 90, 180)]
    np.testing.assert_allclose(found, [1, 2, 3], atol=1e-5)
    assert guidance_of("view", camera(170), reference, view_behind=1.0) == 1.0


@pytest.mark.parametrize("degrees", [0.0, 33.0, 90.0, 179.0, 181.0, 270.0])
def test_azimuth_does_not_see_elevation_roll_or_distance(degrees: float) -> None:
    other = camera(degrees, 25.0)
    roll = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rolled = Camera(
        other.intrinsics,
        (roll @ other.rotation).astype(np.float32),
        other.translation * 3,
        other.width,
        other.height,
    )
    expected = math.radians(min(degrees, 360 - degrees))
    assert azimuth_between(rolled, camera()) == pytest.approx(expected, abs=1e-5)
    assert azimuth_between(camera(), rolled) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("elevation_deg", [89.0, 89.999, -89.999])
def test_a_camera_that_looks_straight_down_keeps_its_azimuth(elevation_deg: float) -> None:
    steep = camera(60.0, elevation_deg)
    assert azimuth_between(steep, camera()) == pytest.approx(math.radians(60), abs=1e-3)


def test_azimuth_counts_about_the_vertical() -> None:
    """Turning camera and reference together changes nothing."""
    a, b = camera(20.0), camera(75.0)
    turned = [
        Camera(
            c.intrinsics,
            (c.rotation.astype(np.float64) @ about_y(1.1)).astype(np.float32),
            c.translation,
            c.width,
            c.height,
        )
        for c in (a, b)
    ]
    assert azimuth_between(*turned) == pytest.approx(azimuth_between(a, b), abs=1e-6)


def test_switcher_one_hots() -> None:
    found = switcher(["view", "pose", "view"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0, 1], [1, 0], [0, 1]])
    assert switcher([]).shape == (0, 2)


def test_unknown_task() -> None:
    with pytest.raises(InputError, match=r"'dance': unknown; choose one of view, pose"):
        switcher(["dance"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="'dance'"):
        guidance_of("dance", camera(), camera())  # type: ignore[arg-type]
