"""Avatars of people are made once; fields are shown frame by frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from reference.data import Picture
from reference.evaluate import fields
from reference.evaluate.cases import Case


@pytest.fixture
def case(person) -> Case:
    """The toy person in the photo's pose."""
    fit, frames = person.fit, 3
    photo = Picture(person.rgb, person.mask, fit.pose, fit.camera)
    return Case(
        seed=950_000,
        task="pose",
        betas=fit.betas,
        photo=photo,
        poses=(fit.pose,) * frames,
        cameras=(fit.camera,) * frames,
        rgb=np.stack([person.rgb] * frames),
        mask=np.stack([person.mask] * frames),
        counted=range(frames),
    )


@pytest.fixture
def enrolled(toy_model, avatar):
    """The model, with enrolment counted in place of done again."""
    calls: list[object] = []
    model = SimpleNamespace(
        parts=toy_model.parts,
        enroll=lambda *photo: (calls.append(photo), avatar)[1],
        open_avatar=toy_model.open_avatar,
        performer=toy_model.performer,
    )
    return model, calls


def test_a_person_is_enrolled_once(enrolled, case):
    model, calls = enrolled
    avatars = fields.Avatars(model)
    assert avatars.of(case) is avatars.of(case)
    assert len(calls) == 1


def test_a_folder_keeps_avatars_between_runs(enrolled, case, tmp_path):
    model, calls = enrolled
    first = fields.Avatars(model, tmp_path / "people").of(case)
    second = fields.Avatars(model, tmp_path / "people").of(case)
    assert len(calls) == 1
    assert np.array_equal(first.betas, second.betas)
    (kept,) = (tmp_path / "people").iterdir()
    assert kept.name == f"950000-{model.parts.bundle.fingerprint[:12]}.avatar"


def test_the_runtimes_field_is_what_a_performer_shows(enrolled, case):
    model, _ = enrolled
    avatars = fields.Avatars(model)
    shown = fields.shown_by(fields.runtime(avatars, "fast"))(case)
    picture = model.performer(avatars.of(case), mode="fast").picture(case.poses[0], case.cameras[0])
    assert shown.pictures.shape == case.rgb.shape
    assert np.array_equal(shown.pictures[1], picture.rgb.astype(np.float32) / 255)
    assert (shown.first_frame_poses, shown.renders) == (1, None)
    assert 0 < shown.first_frame_s <= shown.seconds
