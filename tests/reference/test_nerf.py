"""Shapes, symmetries and constants of the stage-1 model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from reference.data import Geometry, Shards
from reference.nerf import PRESETS, HumanNerf
from reference.nerf.checkpoint import mesh_of
from reference.nerf.planes import plane_box, plane_gather
from reference.nerf.render import FilledSpace, encode_photo, filled_space, render_view

FIELD, TRAIN = PRESETS["tiny"]


@pytest.fixture(scope="module")
def model(body):
    torch.manual_seed(0)
    return HumanNerf(FIELD, mesh_of(body)).eval().requires_grad_(False)


def photo_inputs(model, people=2):
    generator = torch.Generator().manual_seed(1)
    count, side = len(model.place), FIELD.resolution
    return (
        torch.rand(people, 4, side, side, generator=generator),
        torch.rand(people, count, 2, generator=generator) * 2 - 1,
        (torch.rand(people, count, 1, generator=generator) > 0.5).float(),
    )


def test_features_have_the_documented_shapes(model):
    features = model.encode(*photo_inputs(model))
    side, count = FIELD.plane_side, len(model.place)
    assert features.planes.shape == (2, 2, FIELD.plane_channels, side, side)
    assert features.image.shape == (2, 4 + FIELD.image_channels, 32, 32)
    assert features.vertex.shape == (2, count, FIELD.vertex_channels)


def test_people_of_a_batch_do_not_mix(model):
    inputs = photo_inputs(model)
    together = model.encode(*inputs)
    alone = model.encode(*(value[1:] for value in inputs))
    for name in together._fields:
        torch.testing.assert_close(getattr(together, name)[1:], getattr(alone, name))


def test_photo_and_visibility_pass_through(model):
    image, uv, visible = photo_inputs(model)
    features = model.encode(image, uv, visible)
    assert torch.equal(features.image[:, :4], image)
    assert torch.equal(features.vertex[..., :1], visible)


def test_the_untrained_field_is_the_body(model):
    """The distance prior makes the first render a body, dense inside and empty outside."""
    features = model.encode(*photo_inputs(model, people=1))
    vertices, normals = model.field.table[:, :3], model.field.table[:, 3:6]
    ids = torch.arange(0, len(vertices), 50)
    uv = torch.zeros(len(ids), 2)
    args = (features.planes[0], features.image, features.vertex[0])
    inside, rgb = model.field(vertices[ids] - 0.01 * normals[ids], normals[ids], uv, ids, *args)
    outside, _ = model.field(vertices[ids] + 0.07 * normals[ids], normals[ids], uv, ids, *args)
    edge, far = (
        model.field(vertices[ids] + d * normals[ids], normals[ids], uv, ids, *args)[0]
        for d in (FIELD.shell_radius_m, FIELD.shell_radius_max_m)
    )
    assert inside.min() > 100
    assert outside.max() < 10
    # What a wide skirt must learn against is no stronger the farther off the body it is.
    torch.testing.assert_close(far, edge)
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_the_mirror_finds_the_other_side(body):
    mesh = mesh_of(body)
    reflected = mesh.vertices[mesh.mirror] * np.array([-1, 1, 1])
    assert np.linalg.norm(reflected - mesh.vertices, axis=1).max() < 0.02


def test_map_pixels_gather_what_is_under_them(body):
    mesh = mesh_of(body)
    ids, weights, distance = plane_gather(mesh.vertices, mesh.normals, side=16)
    assert ids.shape == weights.shape == (2, 256, 4)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert (mesh.normals[ids[0], 2] > 0).all()
    assert (mesh.normals[ids[1], 2] < 0).all()
    centre, half = plane_box(mesh.vertices)
    # The pixel nearest to a front vertex finds something as near as that vertex.
    vertex = int(np.argmax(mesh.vertices[:, 2]))
    column, row = np.floor(((mesh.vertices[vertex, :2] - centre) / half + 1) / 2 * 16).astype(int)
    assert distance[0, row * 16 + column] <= half[0] / 16 * np.sqrt(2)


def test_render_view_of_a_shard_person(model, body, shards):
    person = Shards(shards, split="val")[0]
    geometry = Geometry(body, FIELD)
    photo = geometry.photo(person.betas, person.photo)
    features = encode_photo(model, photo)
    target = person.targets[0]
    shell = geometry.shell(person.betas, target.pose, radius_m=photo.radius_m)
    rgb, alpha = render_view(model, features, geometry, photo, shell, target.camera)
    assert rgb.shape == (32, 32, 3)
    assert alpha[target.mask > 0].mean() > 0.8
    assert alpha.max() <= 1 + 1e-5
    opaque, _ = render_view(model, features, geometry, photo, shell, target.camera, early_stop=1e-3)
    assert 0 < np.abs(opaque - rgb).max() < 1e-3  # samples were left out, and none that shows
    away = render_view(
        model, features, geometry, photo, shell, target.camera.resized(width=8, height=4)
    )
    assert away[0].shape == (4, 8, 3)


def test_empty_cells_are_not_looked_at(model, body, shards):
    thin = copy.deepcopy(model)  # whose cloth ends where its skin does, as a trained one's may
    thin.field.density.bias.fill_(-6.0)
    person = Shards(shards, split="val")[0]
    geometry = Geometry(body, FIELD)
    photo = geometry.photo(person.betas, person.photo)
    features = encode_photo(thin, photo)
    shell = geometry.shell(person.betas, person.photo.pose, radius_m=photo.radius_m)
    camera = person.targets[0].camera
    filled = filled_space(thin, features, geometry, photo)
    kept = filled.holds(geometry.samples(shell, camera, photo).x_can).float().mean()
    assert 0.1 < kept < 0.95
    everything, _ = render_view(thin, features, geometry, photo, shell, camera)
    quick, _ = render_view(thin, features, geometry, photo, shell, camera, filled=filled)
    assert everything.max() > 0.3
    assert np.abs(quick - everything).max() < 0.01


def test_cells_are_filled_by_what_is_near_and_nothing_outside_is_known():
    cells = torch.zeros(4, 4, 4, dtype=torch.bool)
    cells[1, 2, 3] = True
    filled = FilledSpace(torch.tensor([0.3, 0.0, 0.0]), cells)
    points = torch.tensor([[1.5, 2.5, 3.5], [1.5, 2.5, 2.5], [-0.5, 2.0, 2.0], [1.5, 2.5, 4.5]])
    points = 0.03 * points + filled.lo
    assert filled.holds(points).tolist() == [True, False, True, True]
