"""The clips that people are judged on."""

from __future__ import annotations

import numpy as np

from gas_rt.kernels import rasterize
from reference.evaluate.cases import PERIOD, loop_case, motion_case, view_case
from reference.people import FitNoise

SEED = 950_000


def test_an_orbit_leaves_the_photos_own_view_out(body):
    case = view_case(SEED, body, frames=3)
    assert (case.task, len(case), list(case.counted)) == ("view", 3, [1, 2])
    assert (case.rgb[0] == case.photo.rgb).all()


def test_every_frame_of_a_motion_counts(body):
    case = motion_case(SEED, body, frames=2)
    assert (case.task, list(case.counted)) == ("pose", [0, 1])
    assert not np.array_equal(case.poses[0].rotations, case.poses[1].rotations)


def test_videos_have_the_same_truth_whatever_their_fits(body):
    exact, found = (
        motion_case(SEED, body, frames=2, noise=FitNoise().scaled(level)) for level in (0, 1)
    )
    assert (exact.rgb == found.rgb).all()
    assert not np.array_equal(exact.poses[0].rotations, found.poses[0].rotations)
    assert not np.array_equal(exact.photo.pose.rotations, found.photo.pose.rotations)
    around = view_case(SEED, body, frames=2, noise=FitNoise())
    assert (around.task, list(around.counted)) == ("view", [1])
    assert not np.array_equal(around.cameras[0].rotation, around.cameras[1].rotation)


def test_a_loop_has_the_same_truth_every_round_and_no_seam(body):
    case = loop_case(SEED, body, frames=2 * PERIOD)
    assert (case.rgb[:PERIOD] == case.rgb[PERIOD:]).all()
    assert case.poses[3] is case.poses[PERIOD + 3]
    steps = np.abs(np.diff(case.rgb[: PERIOD + 1].astype(int), axis=0)).mean((1, 2, 3))
    assert steps.min() > 0
    assert steps[-1] < 1.5 * steps[:-1].max()
    assert (case.photo.rgb == view_case(SEED, body, frames=1).photo.rgb).all()
    _is_drawn_from_its_surface(case, (3, PERIOD + 7))


def test_the_surface_is_what_the_truth_was_drawn_from(body):
    for case in (view_case(SEED, body, frames=3), motion_case(SEED, body, frames=3)):
        _is_drawn_from_its_surface(case, range(3))


def _is_drawn_from_its_surface(case, frames):
    assert len(case.surface.vertices) == len(case.cameras)
    for k in frames:
        fine = case.surface.cameras[k].resized(width=256, height=256)
        seen = rasterize(case.surface.vertices[k], case.surface.faces, fine).mask
        coverage = seen.reshape(128, 2, 128, 2).mean((1, 3))
        assert (np.rint(coverage * 255 + 0.01) == case.mask[k]).all()
