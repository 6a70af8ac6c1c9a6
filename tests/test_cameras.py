"""Cameras: the release's orbit, framing, following, trained ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gas_rt.cameras import about_y, camera_problems, framing_camera, moved_with, orbit
from gas_rt.core import Camera, Pose
from gas_rt.errors import InputError


def projected(camera: Camera, points: np.ndarray) -> np.ndarray:
    seen = points @ camera.rotation.T + camera.translation
    pixels = seen @ camera.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def start() -> Camera:
    k = np.array([[10_000, 0, 256], [0, 10_000, 256], [0, 0, 1]], np.float32)
    return Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0.3, 35], np.float32), 512, 512)


def test_orbit_is_the_releases() -> None:
    cameras = orbit(start(), 20)
    for i, camera in enumerate(cameras):
        expected = about_y(2 * math.pi * i / 20).T
        np.testing.assert_allclose(camera.rotation, expected, atol=1e-6)
        np.testing.assert_array_equal(camera.translation, start().translation)


def test_orbit_keeps_its_centre_in_place() -> None:
    centre = np.array([0.4, -0.2, 0.7], np.float32)
    places = [projected(c, centre[None])[0] for c in orbit(start(), 8, centre=centre)]
    np.testing.assert_allclose(places, np.tile(places[0], (8, 1)), atol=0.05)
    assert orbit(start(), 1, centre=centre)[0].rotation.tolist() == start().rotation.tolist()


def test_orbit_of_no_frames() -> None:
    with pytest.raises(InputError, match="at least one frame, got 0"):
        orbit(start(), 0)


@pytest.mark.parametrize("azimuth", [0, 70, 180, -110])
@pytest.mark.parametrize("elevation", [-15, 0, 30])
@pytest.mark.parametrize("focal", [0.9, 2.0, 20.0])
def test_framing_fills_the_picture(azimuth: float, elevation: float, focal: float) -> None:
    rng = np.random.default_rng(1)
    points = (rng.uniform(-1, 1, (200, 3)) * [0.4, 0.9, 0.3] + [2, 1, -1]).astype(np.float32)
    camera = framing_camera(
        points,
        side_px=256,
        azimuth_deg=azimuth,
        elevation_deg=elevation,
        focal_over_side=focal,
        fill=0.8,
    )
    pixels = projected(camera, points)
    extent = np.ptp(pixels, axis=0).max() / 256
    assert abs(extent - 0.8) < 0.01
    np.testing.assert_allclose((pixels.min(0) + pixels.max(0)) / 2, [128, 128], atol=1.5)
    eye = -camera.rotation.T @ camera.translation - points.mean(0)
    found = math.degrees(math.atan2(eye[0], eye[2]))
    assert abs((found - azimuth + 180) % 360 - 180) < 12
    assert np.sign(round(eye[1], 1)) == np.sign(elevation) or elevation == 0


def test_upright_world_is_upright_in_the_picture() -> None:
    points = np.array([[0, 0, 0], [0, 1, 0], [0.3, 0.5, 0]], np.float32)
    pixels = projected(framing_camera(points, side_px=100), points)
    assert pixels[1, 1] < pixels[0, 1]  # the head is above the feet
    assert pixels[2, 0] > pixels[0, 0]  # the subject's left is at the picture's right


def test_moved_with_follows() -> None:
    offset = np.array([1, 0, -2], np.float32)
    points = np.array([[0, 0, 0], [0.1, 0.5, 0]], np.float32)
    np.testing.assert_allclose(
        projected(moved_with(start(), offset), points + offset),
        projected(start(), points),
        atol=0.1,
    )


def test_camera_problems_name_what_is_outside() -> None:
    ranges = {"focal_over_side": (1.0, 4.0), "elevation_deg": (-20.0, 40.0), "fill": (0.5, 1.0)}
    body = np.stack(np.meshgrid([-0.5, 0.5], [-1, 0.7], [-0.2, 0.2]), -1).reshape(-1, 3)

    def problems(**change: float) -> list[str]:
        camera = framing_camera(body, side_px=128, **change)
        return camera_problems(camera, np.zeros(3), ranges=ranges, height_m=1.7)

    assert problems() == []
    assert problems(focal_over_side=10)[0].startswith("focal_over_side of the camera is 10.00")
    assert problems(elevation_deg=70)[0].startswith("elevation_deg")
    assert problems(fill=0.2)[0].startswith("fill")


def test_a_camera_behind_the_body_is_a_problem_not_an_error() -> None:
    behind = Camera(
        start().intrinsics, start().rotation, np.array([0, 0, -3], np.float32), 512, 512
    )
    found = camera_problems(
        behind, Pose.rest().translation, ranges={"fill": (0.5, 1.0)}, height_m=1.7
    )
    assert found[0].startswith("fill of the camera is inf")
