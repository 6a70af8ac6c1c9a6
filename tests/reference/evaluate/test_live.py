"""The runtime's sessions as a way to show cases, with the field and without."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gas_rt.core import Request
from reference.data import Picture
from reference.evaluate.cases import Case
from reference.evaluate.live import Streamed

FRAMES = 5


@pytest.fixture(scope="module")
def case(person) -> Case:
    """The toy person, who moves."""
    requests = person.requests(FRAMES)
    side = requests[0].camera.width
    return Case(
        seed=950_000,
        task="pose",
        betas=person.fit.betas,
        photo=Picture(person.rgb, person.mask, person.fit.pose, person.fit.camera),
        poses=tuple(r.pose for r in requests),
        cameras=tuple(r.camera for r in requests),
        rgb=np.zeros((FRAMES, side, side, 3), np.uint8),
        mask=np.zeros((FRAMES, side, side), np.uint8),
        counted=range(FRAMES),
    )


@pytest.fixture(scope="module")
def avatars(diffusion_model, diffusion_avatar):
    return SimpleNamespace(model=diffusion_model, of=lambda _: diffusion_avatar)


@pytest.mark.parametrize(("policy", "steps"), [("field", 0), ("diagonal", 3), ("parity", 2)])
def test_frames_are_those_of_a_stream(avatars, case, policy, steps):
    shown = Streamed(avatars, policy, steps, seed=7)(case)
    requests = [Request(p, c, task="pose") for p, c in zip(case.poses, case.cameras, strict=True)]
    stream = avatars.model.stream(
        avatars.of(case), requests, policy=policy, steps=steps or None, seed=7
    )
    with stream:
        frames = [frame.rgb.astype(np.float32) / 255 for frame in stream]
    assert np.array_equal(shown.pictures, np.stack(frames))
    assert sum(shown.levels.values()) == FRAMES
    assert 1 <= shown.first_frame_poses <= FRAMES
    assert 0 < shown.first_frame_s <= shown.seconds


@pytest.mark.parametrize("policy", ["diagonal", "sequential", "parity"])
def test_without_the_field_the_photo_and_the_body_are_all_it_has(avatars, case, policy):
    with_it = Streamed(avatars, policy, 3)(case)
    without = Streamed(avatars, policy, 3, nerf=False)(case)
    assert without.pictures.shape == with_it.pictures.shape
    assert not np.array_equal(without.pictures, with_it.pictures)
    assert without.levels.get("full", 0) + without.levels.get("field", 0) == FRAMES


def test_what_saves_time_is_asked_of_the_session(avatars, case):
    plain = Streamed(avatars, "diagonal", 3)(case).pictures
    half = Streamed(avatars, "diagonal", 3, half_field=True)(case).pictures
    assert not np.array_equal(half, plain)
    assert np.abs(half - plain).mean() < 0.05
    still = Streamed(avatars, "diagonal", 3, skip_below_rad=3.0)(case).pictures
    assert np.array_equal(still, plain)  # only the camera moves here
