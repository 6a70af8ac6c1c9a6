"""How wide a person's shell is, against distances found by another way, and what anchors points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from gas_rt.body.person_shell import (
    MOST_M,
    Anchors,
    ShellRange,
    person_radius_m,
    person_shell,
    reach_m,
)
from gas_rt.cameras import framing_camera
from gas_rt.core import Camera, Pose
from gas_rt.engine.bundle import SHELL_MOST_M
from gas_rt.errors import InputError
from gas_rt.kernels import render_normals
from tests.toy_body import toy_body

LIMITS = ShellRange(0.08, 0.25)
BODY = toy_body()
POSED = BODY.pose(np.zeros(10, np.float32), Pose(np.zeros((24, 3), np.float32)))
CAMERA = framing_camera(POSED.vertices, side_px=96, fill=0.8)
BARE = render_normals(POSED.vertices, BODY.faces, CAMERA)[1].astype(np.uint8) * 255


def radius_of(mask: np.ndarray, *, camera: Camera = CAMERA) -> float:
    return person_radius_m(mask, BODY, POSED, camera, limits=LIMITS)


def wrapped(pixels: int) -> np.ndarray:
    """The body's mask with as many pixels of cloth around it."""
    disc = np.hypot(*np.mgrid[-pixels : pixels + 1, -pixels : pixels + 1]) <= pixels
    return np.where(binary_dilation(BARE > 127, disc), 255, 0).astype(np.uint8)


def least_distances(
    mask: np.ndarray, *, vertices: np.ndarray = POSED.vertices, camera: Camera = CAMERA
) -> np.ndarray:
    """Metres between masked pixels' rays, walked in steps of 2 mm, and the nearest vertex.

    Of rays that pass nearest to a vertex of hips, waist or legs.
    """
    rows, columns = np.nonzero(mask)
    k = camera.intrinsics.astype(np.float64)
    ray = np.stack(
        [(columns + 0.5 - k[0, 2]) / k[0, 0], (rows + 0.5 - k[1, 2]) / k[1, 1], np.ones(len(rows))]
    ).T
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    seen = vertices.astype(np.float64) @ camera.rotation.T + camera.translation
    along = np.arange(seen[:, 2].min() - 0.3, seen[:, 2].max() + 0.8, 0.002)
    tree = cKDTree(seen)
    found = [tree.query(r * along[:, None]) for r in ray]
    nearest = np.array([ids[far.argmin()] for far, ids in found])
    return np.array([far.min() for far, _ in found])[np.isin(nearest, BODY.loose_vertices)]


@pytest.mark.parametrize("pixels", [6, 8])
def test_the_radius_is_what_the_mask_reaches_with_room_to_swing(pixels: int) -> None:
    mask = wrapped(pixels)
    distances = np.sort(least_distances(mask))
    spared = distances[len(distances) - 1 - int(0.002 * np.count_nonzero(mask))]
    expected = math.ceil(1.25 * spared * 100) / 100
    assert LIMITS.least_m < expected < LIMITS.most_m
    assert radius_of(mask) == pytest.approx(expected)


def test_a_body_in_tight_clothes_keeps_the_least_radius() -> None:
    assert radius_of(BARE) == LIMITS.least_m
    assert radius_of(wrapped(2)) == LIMITS.least_m
    assert radius_of(np.zeros_like(BARE)) == LIMITS.least_m


def test_a_few_wrong_pixels_do_not_widen_it_and_a_wrong_mask_does_so_within_bounds() -> None:
    speckled = BARE.copy()
    speckled[0, 0] = 255
    assert int(0.002 * np.count_nonzero(speckled)) == 1
    assert radius_of(speckled) == LIMITS.least_m
    assert radius_of(np.full_like(BARE, 255)) == LIMITS.most_m


def test_more_cloth_never_narrows_it() -> None:
    radii = [radius_of(wrapped(pixels)) for pixels in range(12)]
    assert radii == sorted(radii)
    assert (radii[0], radii[-1]) == (LIMITS.least_m, LIMITS.most_m)
    assert len(set(radii)) > 5


def test_a_long_lens_from_the_side_sees_as_far() -> None:
    """The same cloth, 40 m away, where float32 would be off by millimetres."""
    for turn in (0, -np.pi / 2):
        rotations = np.zeros((24, 3), np.float32)
        rotations[0, 1] = turn
        turned = BODY.pose(np.zeros(10, np.float32), Pose(rotations))
        posed = turned.vertices
        k = CAMERA.intrinsics.copy()
        k[:2, :2] *= 12
        centre = CAMERA.rotation @ (posed.min(0) + posed.max(0)) / 2 + CAMERA.translation
        far = Camera(k, CAMERA.rotation, CAMERA.translation + 11 * centre, 96, 96)
        bare = render_normals(posed, BODY.faces, far)[1]
        disc = np.hypot(*np.mgrid[-6:7, -6:7]) <= 6
        mask = np.where(binary_dilation(bare, disc), 255, 0).astype(np.uint8)
        found = person_radius_m(mask, BODY, turned, far, limits=LIMITS)
        expected = least_distances(mask, vertices=posed, camera=far)
        spared = np.sort(expected)[len(expected) - 1 - int(0.002 * np.count_nonzero(mask))]
        assert found == pytest.approx(math.ceil(1.25 * spared * 100) / 100)


def test_hands_before_a_skirt_do_not_hide_it() -> None:
    rotations = np.zeros((24, 3), np.float32)
    rotations[16, 2], rotations[17, 2] = -1.3, 1.3
    hanging = BODY.pose(np.zeros(10, np.float32), Pose(rotations))
    bare = render_normals(hanging.vertices, BODY.faces, CAMERA)[1]
    rows = np.flatnonzero(bare.any(1))
    waist, knee = (int(rows[0] + share * np.ptp(rows)) for share in (0.45, 0.75))
    middle = int(np.flatnonzero(bare.any(0)).mean())
    radii = []
    for half_width in range(4, 20, 2):
        mask = np.where(bare, 255, 0).astype(np.uint8)
        mask[waist:knee, middle - half_width : middle + half_width] = 255
        radii.append(person_radius_m(mask, BODY, hanging, CAMERA, limits=LIMITS))
    assert radii == sorted(radii)
    assert radii[-1] > radii[0]


def test_wide_sleeves_and_hats_do_not_widen_it() -> None:
    above = CAMERA.rotation @ POSED.vertices[BODY.loose_vertices].mean(0) + CAMERA.translation
    waist = int(CAMERA.intrinsics[1, 1] * above[1] / above[2] + CAMERA.intrinsics[1, 2]) - 24
    mask = BARE.copy()
    mask[:waist] = wrapped(7)[:waist]
    assert np.count_nonzero(mask) > 1.3 * np.count_nonzero(BARE)
    assert radius_of(mask) == LIMITS.least_m


def test_only_hips_waist_and_legs_reach_far() -> None:
    reach = reach_m(BODY, 0.2, limits=LIMITS)
    assert set(reach.tolist()) == {np.float32(0.08), np.float32(0.2)}
    shell = person_shell(BODY, POSED, 0.2, limits=LIMITS)
    heads = POSED.vertices[[POSED.vertices[:, 1].argmax(), POSED.vertices[:, 0].argmax()]]
    feet = POSED.vertices[[POSED.vertices[:, 1].argmin()]]
    for vertices, along in ((heads, [[0, 1, 0], [1, 0, 0]]), (feet, [[0, -1, 0]])):
        direction = np.array(along, np.float32)
        for distance_m in (0.07, 0.09, 0.19, 0.21):
            reached = distance_m < (0.2 if vertices is feet else 0.08)
            assert ((shell.query(vertices + distance_m * direction)[0] >= 0) == reached).all()
    tight = person_shell(BODY, POSED, LIMITS.least_m, limits=LIMITS)
    np.testing.assert_array_equal(tight.lo, POSED.vertices.min(0) - np.float32(0.08))


def test_of_a_huge_mask_some_pixels_are_enough() -> None:
    big = CAMERA.resized(width=960, height=960)
    mask = wrapped(7).repeat(10, 0).repeat(10, 1)
    assert radius_of(mask, camera=big) == pytest.approx(radius_of(wrapped(7)), abs=0.011)


def test_limits_that_are_none() -> None:
    for least, most in ((0.0, 0.1), (0.2, 0.1), (float("nan"), 0.1), (0.1, 0.26)):
        with pytest.raises(InputError, match=r"expected 0 < least ≤ most ≤ 0\.25"):
            ShellRange(least, most)
    assert MOST_M == SHELL_MOST_M  # bundles are held to the same


def test_anchors_reach_twice_the_radius_and_are_built_once() -> None:
    canonical = BODY.canonical().vertices
    anchors = Anchors(canonical)
    around = anchors.around(0.1)
    assert anchors.around(0.1) is around
    assert anchors.around(0.2) is not around
    top = canonical[canonical[:, 1].argmax()]
    above = top + np.array([[0, 0.19, 0], [0, 0.21, 0]], np.float32)
    nearest, _ = around.query(above.astype(np.float32))
    assert nearest[0] == canonical[:, 1].argmax()
    assert nearest[1] == -1
    assert anchors.around(0.25).radius_m == 0.5
    assert anchors.around(0.3).radius_m == 0.5  # the most that a shell can have


def test_a_mask_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="mask: expected uint8"):
        radius_of(BARE[:50])
    with pytest.raises(InputError, match="mask: expected uint8"):
        radius_of(BARE > 0)
