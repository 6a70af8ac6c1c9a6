"""Changes of colour on a known surface, where they are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import Camera
from gas_rt.kernels import interpolate, rasterize
from reference.evaluate.surface import Changes, changes, matches
from reference.people.surface import Surface

SIDE, FOCAL, DISTANCE_M = 32, 32.0, 4.0
PIXEL_M = DISTANCE_M / FOCAL  # on the wall
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def wall(width_m: float = 10.0, *, x: float = 0.0, z: float = 0.0) -> np.ndarray:
    """[4, 3] a square across the z axis."""
    half = width_m / 2
    return np.array(
        [[x + a, b, z] for a, b in ((-half, -half), (half, -half), (half, half), (-half, half))],
        np.float32,
    )


def camera(x_pixels: float = 0.0, y_pixels: float = 0.0, turn: float = 0.0) -> Camera:
    """Looks at the wall; moved by so many of its pixels to the right and down, and turned."""
    intrinsics = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]], np.float32)
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    eye = np.array([x_pixels * PIXEL_M, y_pixels * PIXEL_M, -DISTANCE_M], np.float32)
    return Camera(intrinsics, rotation, -rotation @ eye, SIDE, SIDE)


def painted(surface: Surface, colours: np.ndarray) -> np.ndarray:
    """[N, H, W, 3]: colours of the vertices, which stay with the surface."""
    frames = zip(surface.vertices, surface.cameras, strict=True)
    rasters = (rasterize(v, surface.faces, c) for v, c in frames)
    return np.stack([interpolate(r, surface.faces, colours) for r in rasters])


def covered(count: int) -> np.ndarray:
    return np.full((count, SIDE, SIDE), 255, np.uint8)


def black(count: int) -> np.ndarray:
    return np.zeros((count, SIDE, SIDE, 3), np.uint8)


COLOURS = np.array([[0.1, 0.2, 0.9], [0.9, 0.2, 0.1], [0.9, 0.8, 0.1], [0.1, 0.8, 0.9]], np.float32)
MOVES = [(3.0, 0.0), (0.3, -0.7), (-5.5, 2.25)]


def rms(found: Changes, name: str = "shown") -> float:
    return float(np.sqrt(getattr(found, name) / found.values))


@pytest.mark.parametrize("move", MOVES)
def test_a_painted_wall_does_not_change_when_the_camera_moves(move) -> None:
    cameras = [camera(), camera(*move)]
    surface = Surface(FACES, (wall(), wall()), tuple(cameras))
    found = changes(surface, black(2), covered(2), painted(surface, COLOURS))
    assert found.values > 3 * 600
    assert rms(found) < 1e-5
    # The pictures themselves do change.
    wrong = Surface(FACES, surface.vertices, (camera(),) * 2)
    still = changes(wrong, black(2), covered(2), painted(surface, COLOURS))
    assert rms(still) > 0.003


@pytest.mark.parametrize("move", MOVES)
def test_a_painted_wall_that_moves_does_not_change_either(move) -> None:
    step = np.array([move[0] * PIXEL_M, move[1] * PIXEL_M, 0], np.float32)
    surface = Surface(FACES, (wall(), wall() + step), (camera(),) * 2)
    found = changes(surface, black(2), covered(2), painted(surface, COLOURS))
    assert rms(found) < 1e-5


def test_what_flickers_is_told_from_what_the_truth_explains() -> None:
    cameras = [camera(k, 0.5 * k) for k in range(5)]
    surface = Surface(FACES, (wall(),) * 5, tuple(cameras))
    drawn = painted(surface, COLOURS)
    dimming = np.array([0, 20, 40, 60, 80])[:, None, None, None]  # light that falls, all at once
    truth = (np.full(drawn.shape, 200) - dimming).astype(np.uint8)
    flicker = 0.03 * np.array([1, -1, 1, -1, 1])[:, None, None, None]
    shown = truth.astype(np.float32) / 255 + flicker.astype(np.float32)
    found = changes(surface, truth, covered(5), shown)
    assert rms(found, "truth") == pytest.approx(20 / 255, rel=1e-5)
    assert rms(found, "unexplained") == pytest.approx(0.06, rel=1e-4)
    steps = np.array([-20 / 255 - 0.06, -20 / 255 + 0.06])
    # The camera moves, so pairs have as many points, and half of the steps are of each kind.
    assert rms(found) == pytest.approx(np.sqrt((steps**2).mean()), rel=0.01)
    exact = changes(surface, truth, covered(5), truth.astype(np.float32) / 255)
    assert (exact.unexplained, exact.shown) == (0, exact.truth)


def test_one_colour_all_over_never_changes() -> None:
    cameras = [camera(turn=t) for t in (0.0, 0.2, 0.4)]
    surface = Surface(FACES, (wall(),) * 3, tuple(cameras))
    grey = np.full((3, SIDE, SIDE, 3), 0.5, np.float32)
    found = changes(surface, black(3), covered(3), grey)
    assert found.values > 0
    assert rms(found) < 1e-7


def test_what_was_hidden_or_outside_is_not_compared() -> None:
    """A square before the wall moves aside: the wall that it hid has no earlier colour."""
    faces = np.concatenate([FACES, FACES + 4])

    def scene(x: float) -> np.ndarray:
        return np.concatenate([wall(), wall(1.0, x=x, z=-1.0)])

    before, after = (rasterize(scene(x), faces, camera()) for x in (0.0, 1.0))
    full = np.ones((SIDE, SIDE), bool)
    found = matches(faces, scene(0.0), camera(), rasters=(before, after), opaque=(full, full))
    later = np.zeros(SIDE * SIDE, bool)
    later[found.later] = True
    later = later.reshape(SIDE, SIDE)
    uncovered = (before.face_id >= 2) & (after.face_id < 2)
    square = after.face_id >= 2
    assert uncovered.sum() > 50
    assert not later[uncovered].any()
    assert later[square][:, None].mean() > 0.6  # all but its edges: it moved, and was seen before
    assert later[~square & ~uncovered].mean() > 0.8
    # Nor is what the earlier camera had outside of its picture.
    moved = rasterize(scene(0.0), faces, camera(10))
    found = matches(faces, scene(0.0), camera(), rasters=(before, moved), opaque=(full, full))
    assert (found.later % SIDE).max() < SIDE - 10


def test_only_opaque_pixels_count() -> None:
    raster = rasterize(wall(), FACES, camera())
    opaque = np.ones((SIDE, SIDE), bool)
    hole = opaque.copy()
    hole[10, 12] = False
    every = {"faces": FACES, "vertices": wall(), "camera": camera(), "rasters": (raster, raster)}
    later = matches(**every, opaque=(opaque, hole))
    assert 10 * SIDE + 12 not in later.later
    earlier = matches(**every, opaque=(hole, opaque))
    assert not (earlier.earlier == 10 * SIDE + 12).any()
    nowhere = matches(**every, opaque=(opaque & False, opaque))
    assert nowhere.later.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12), st.floats(-1.2, 1.2), st.floats(-1, 1))
def test_points_are_carried_to_where_they_were(x, y, turn, shift) -> None:
    """Positions in place of colours: carried points are at the same place of the wall."""
    there = camera(x, y, turn)
    before = wall(3.0)
    after = before + np.array([shift, 0, 0], np.float32)  # metres
    rasters = rasterize(before, FACES, camera()), rasterize(after, FACES, there)
    full = np.full((SIDE, SIDE), True)
    found = matches(FACES, before, camera(), rasters=rasters, opaque=(full, full))
    assert found.weights.shape == found.earlier.shape == (len(found.later), 4)
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-12)
    assert rasters[1].mask.ravel()[found.later].all()
    assert rasters[0].mask.ravel()[found.earlier].all()
    pictures = [interpolate(raster, FACES, before) for raster in rasters]
    # The wall faces the first camera, so positions are linear in its pixels.
    assert np.abs(found.change(*pictures)).max(initial=0) < 1e-3


def test_no_surface_in_the_picture_is_no_change() -> None:
    surface = Surface(FACES, (wall(1.0, x=100.0),) * 2, (camera(),) * 2)
    found = changes(surface, black(2), covered(2), black(2).astype(np.float32))
    assert found == Changes(0, 0.0, 0.0, 0.0)


def test_frames_and_cameras_must_agree() -> None:
    surface = Surface(FACES, (wall(),) * 3, (camera(),) * 2)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        changes(surface, black(3), covered(3), black(3).astype(np.float32))


def test_sums_add_up() -> None:
    one, two = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
    total = Changes.of(one, two) + Changes.of(two, two)
    assert total == Changes(4, 15.0, 20.0, 13.0)
