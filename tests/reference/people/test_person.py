from __future__ import annotations

import numpy as np
from known_people import LONG_HAIR, PLAIN, SKIRT

from gas_rt.core import Pose
from reference.people import Person, animate, settle
from reference.people.poses import standing
from reference.people.seeds import generator


def test_the_same_seed_makes_the_same_person(body, person) -> None:
    first, again = person(LONG_HAIR), Person.from_seed(LONG_HAIR, body)
    assert np.array_equal(first.texture, again.texture)
    assert np.array_equal(first.clothed.vertices, again.clothed.vertices)
    assert np.array_equal(first.betas, again.betas)


def test_cloth_and_hair_stand_off_the_body_but_not_far(body, person) -> None:
    someone = person(LONG_HAIR)
    skin = body.shape(someone.betas).vertices
    gap = np.linalg.norm(someone.clothed.vertices - skin, axis=1)
    assert np.percentile(gap, 60) > 0.003
    assert gap.max() < 0.14


def test_texture_and_mesh_are_well_formed(person) -> None:
    for seed in (SKIRT, LONG_HAIR, PLAIN):
        mesh, texture = person(seed).mesh, person(seed).texture
        assert len(mesh.faces) == len(mesh.uv_faces)
        assert mesh.uv.min() >= 0
        assert mesh.uv.max() <= 1
        assert texture.dtype == np.float32
        assert texture.min() >= 0
        assert texture.max() <= 1


def stride() -> list[Pose]:
    """A leg kicked forward within a few frames, then held."""
    poses = []
    for lift in (0, 0, 0.3, 0.6, 0.9, 0.9, 0.9, 0.9):
        rotations = np.zeros((24, 3), np.float32)
        rotations[1, 0] = -lift
        poses.append(Pose(rotations))
    return poses


def test_a_skirt_moves_in_ways_skinning_does_not(person) -> None:
    someone = person(SKIRT)
    poses = stride()
    moved = animate(someone, poses, 25.0)
    body_vertices = len(someone.clothed.vertices)
    lag = [
        np.abs(state.vertices[body_vertices:] - np.concatenate(someone.skinned(pose).sheets)).max()
        for state, pose in zip(moved, poses, strict=True)
    ]
    assert max(lag) > 0.02
    assert max(lag) < 0.6


def test_a_motion_starts_settled_and_repeats(person) -> None:
    someone = person(SKIRT)
    pose = standing(generator(1, "a test"))
    still = animate(someone, [pose] * 6, 25.0)
    drift = np.abs(still[-1].vertices - still[0].vertices).max()
    assert drift < 0.01
    assert np.array_equal(settle(someone, pose).vertices, still[0].vertices)


def test_without_loose_parts_the_state_is_the_skinned_body(person) -> None:
    someone = person(PLAIN)
    pose = standing(generator(2, "a test"))
    assert not someone.loose
    assert np.array_equal(settle(someone, pose).vertices, someone.skinned(pose).vertices)
