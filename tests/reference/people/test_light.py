"""Light and relief: what hides what, folds, hands."""

from __future__ import annotations

import numpy as np
import pytest
from known_people import PLAIN

from gas_rt.core import Pose
from gas_rt.kernels import vertex_normals
from reference.people import settle
from reference.people.canvas import canvas_for
from reference.people.folds import Folds
from reference.people.hands import hand_offsets
from reference.people.light import Light
from reference.people.look import draw_look
from reference.people.occlusion import sphere, visibility
from reference.people.render import _irradiance
from reference.people.seeds import generator

OVERHEAD = Light((0.0, 1.0, 1e-6), 0.8, 0.5, 0.3, 0.0)


def plate(y: float, half: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """A square in the plane y, facing up: vertices, faces."""
    line = np.linspace(-half, half, cells + 1)
    x, z = np.meshgrid(line, line, indexing="ij")
    vertices = np.stack([x, np.full_like(x, y), z], -1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    a, b, c, d = corner, corner + 1, corner + cells + 1, corner + cells + 2
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def test_a_roof_shades_what_is_below_it_and_only_that() -> None:
    floor, faces = plate(0.0, 1.0, 40)
    roof, more = plate(0.4, 0.3, 8)
    vertices = np.concatenate([floor, roof])
    faces = np.concatenate([faces, more + len(floor)]).astype(np.int32)
    normals = np.tile(np.float32([0, 1, 0]), (len(vertices), 1))
    up = np.float32([[0, 1, 0]])
    lit = visibility(vertices, faces, normals, up, picture=112, offset_m=0.02)[0][: len(floor)]
    far = np.abs(floor[:, ::2]).max(1)
    assert lit[far < 0.25].max() < 0.05
    assert lit[far > 0.4].min() > 0.95
    edge = lit[(far > 0.25) & (far < 0.35)]
    assert 0.05 < edge.mean() < 0.95


def test_an_arm_takes_the_light_of_the_trunk_beside_it(person) -> None:
    someone = person(PLAIN)
    spread, hanging = np.zeros((24, 3), np.float32), np.zeros((24, 3), np.float32)
    for side, shoulder in ((1, 16), (-1, 17)):
        hanging[shoulder] = (0, 0, -side * 1.35)
    fields = canvas_for(someone.body, 512).vertices
    anatomy = fields.anatomy
    flank = np.flatnonzero(
        (fields.arm < 0.1)
        & (fields.normal[:, 0] > 0.8)
        & (fields.y > anatomy.waist_y)
        & (fields.y < anatomy.chest_y - 0.04)
    )
    from_left = Light((1.0, 0.0, 0.0), 0.8, 0.5, 0.3, 0.0)
    lit, shaded = (
        _irradiance(someone, settle(someone, Pose(pose)), from_left)[flank].mean()
        for pose in (spread, hanging)
    )
    assert shaded < 0.7 * lit


def test_light_from_above_is_strongest_on_top_and_warm_light_is_orange() -> None:
    normals = np.float32([[0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 0, -1]])
    everything = np.ones(4, np.float32)
    top, side, bottom, back = OVERHEAD.irradiance(normals, everything, everything)
    assert (top > side).all()
    assert (side > bottom).all()
    assert top == pytest.approx(0.8 + 0.5, abs=1e-5)
    hidden = OVERHEAD.irradiance(normals, 0 * everything, 0 * everything)
    assert (hidden < [top, side, bottom, back]).all()
    assert (hidden > 0).all()  # some light is bounced everywhere
    warm = Light((0.0, 0.0, 1.0), 0.8, 0.5, 0.3, 0.3).irradiance(normals, everything, everything)
    assert warm[1, 0] > warm[1, 2]  # lit by the key light
    assert warm[3, 0] < warm[3, 2]  # by the sky alone
    assert np.allclose(np.linalg.norm(OVERHEAD.lamp(5), axis=1), 1, atol=1e-6)


def test_the_proxys_light_is_near_the_meshs(person) -> None:
    someone = person(PLAIN)
    state = settle(someone, Pose(np.zeros((24, 3), np.float32)))
    proxy, directions = someone.mesh.proxy, sphere(6)
    assert len(proxy.ids) < 0.5 * len(state.vertices)
    settings = {"picture": 112, "offset_m": 0.018}
    fine = visibility(state.vertices, someone.mesh.faces, state.normals, directions, **settings)
    few = visibility(
        state.vertices[proxy.ids], proxy.faces, state.normals[proxy.ids], directions, **settings
    )
    cosine = np.maximum(directions @ state.normals.T, 0)
    full = (fine * cosine).sum(0) / (cosine.sum(0) + 1e-6)
    coarse_cosine = cosine[:, proxy.ids]
    coarse = proxy.spread((few * coarse_cosine).sum(0) / (coarse_cosine.sum(0) + 1e-6))
    assert np.abs(full - coarse).mean() < 0.08


def test_folds_agree_between_cloth_and_paint_and_are_where_cloth_is_bent(body) -> None:
    canvas, outfit = canvas_for(body, 512), draw_look(PLAIN).outfit
    at_vertices = Folds(outfit, canvas.vertices, canvas.vertex_noise, generator(1, "folds"))
    at_texels = Folds(outfit, canvas.texels, canvas.noise, generator(1, "folds"))
    heights, painted = at_vertices.of("bottom"), at_texels.of("bottom")
    legs = np.flatnonzero(canvas.vertices.leg > 0.5)
    texels = np.flatnonzero(canvas.texels.leg > 0.5)
    places = canvas.texels.position[texels]
    nearest = [texels[((places - p) ** 2).sum(1).argmin()] for p in canvas.vertices.position[legs]]
    assert np.corrcoef(heights[legs], painted[nearest])[0, 1] > 0.9
    y, anatomy = canvas.vertices.y, canvas.anatomy
    knee = legs[np.abs(y[legs] - anatomy.knee_y) < 0.06]
    thigh = legs[np.abs(y[legs] - anatomy.knee_y - 0.2) < 0.06]
    assert heights[knee].std() > 1.1 * heights[thigh].std()


def test_fingers_are_curled_and_nothing_else_is_moved(body) -> None:
    fields = canvas_for(body, 512).vertices
    shaped = body.shape([])
    offsets = hand_offsets(shaped, fields, generator(2, "hands"))
    moved = np.linalg.norm(offsets, axis=1) > 1e-6
    assert moved.any()
    assert (fields.hand[moved] > 0.5).all()
    tips = np.abs(shaped.vertices[:, 0]) > np.abs(shaped.vertices[:, 0]).max() - 0.03
    assert (offsets[tips, 1] < -0.002).all()  # towards the palm, which looks down
    assert (offsets[tips, 0] * shaped.vertices[tips, 0] < 0).all()
    left, right = (np.sort(offsets[shaped.vertices[:, 0] * s > 0, 1])[:20] for s in (1, -1))
    assert abs(left.mean() - right.mean()) > 1e-4  # a curl of its own each
    bent = vertex_normals(shaped.vertices + offsets, body.faces)
    assert np.isfinite(bent).all()
