"""Where a bake looks, and that it finds what it is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gas_rt.body.person_shell import Anchors
from gas_rt.core import Camera
from gas_rt.field.bake import BakeConfig, Baked, CanonicalBody, bake, shell_points
from gas_rt.field.teacher import PhotoGeometry, Teacher
from gas_rt.kernels import HashGridConfig, field_forward
from tests.toy_body import toy_body

RADIUS_M = 0.06
CONFIG = BakeConfig(
    grid=HashGridConfig(levels=6, log2_table=13), pool=30_000, batch=4096, steps=120, cells=32
)


@pytest.fixture(scope="module")
def body() -> CanonicalBody:
    model = toy_body()
    canonical = model.canonical()
    reach = np.full(len(canonical.vertices), RADIUS_M, np.float32)
    return CanonicalBody(canonical.vertices, canonical.normals, model.faces, reach)


def painted(body: CanonicalBody, *, points: int = 4096, ramp_m: float = 0.0) -> Teacher:
    """A teacher whose colour is a ramp along x and y, opaque where x is above `ramp_m`."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = inputs["x_can"]
        assert len(x) == points
        rgb = np.stack([0.5 + 0.4 * x[:, 0], 0.5 + 0.3 * x[:, 1], 0 * x[:, 0]], 1)
        within = np.clip(x[:, 0] / ramp_m, 0, 1) if ramp_m else x[:, 0] > 0
        return {"sigma": (2000.0 * within).astype(np.float32), "rgb": rgb}

    still = np.tile(np.eye(3, 4, dtype=np.float32), (len(body.vertices), 1, 1))
    k = np.array([[100, 0, 32], [0, 100, 32], [0, 0, 1]], np.float32)
    camera = Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0, 3], np.float32), 64, 64)
    empty = np.zeros((1, 1), np.float32)
    return Teacher(
        run,
        {"planes": empty, "image_features": empty, "vertex_features": empty},
        photo=PhotoGeometry(still, camera),
        anchor_shell=Anchors(body.vertices).around(RADIUS_M),
        points=points,
    )


def baked_by(
    teacher: Teacher, body: CanonicalBody, *, config: BakeConfig, threads: int = 1
) -> Baked:
    """A bake in a box with 2 cm to spare."""
    reach = RADIUS_M + 0.02
    return bake(
        teacher,
        body,
        anchor_shell=Anchors(body.vertices).around(RADIUS_M),
        box=(body.vertices.min(0) - reach, body.vertices.max(0) + reach),
        config=config,
        threads=threads,
    )


def test_points_lie_in_the_shell_and_mostly_near_the_body(body: CanonicalBody) -> None:
    x, d = shell_points(body, 20_000, config=CONFIG, rng=np.random.default_rng(0))
    nearest, _ = Anchors(body.vertices).around(RADIUS_M).query(x)
    assert (nearest >= 0).all()  # within twice the radius
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), 1, atol=1e-5)
    distance = np.linalg.norm(x - body.vertices[nearest], axis=1)
    assert np.median(distance) < 0.8 * RADIUS_M
    facing = ((d * body.normals[nearest]).sum(1) < 0).mean()
    assert facing > 0.75


def test_points_go_as_far_as_the_vertices_reach(body: CanonicalBody) -> None:
    upper = body.vertices[:, 1] > np.median(body.vertices[:, 1])
    reach = np.where(upper, RADIUS_M, 3 * RADIUS_M).astype(np.float32)
    rng = np.random.default_rng(0)
    x, _ = shell_points(replace(body, reach_m=reach), 20_000, config=CONFIG, rng=rng)
    nearest, _ = Anchors(body.vertices).around(3 * RADIUS_M).query(x)
    distance = np.linalg.norm(x - body.vertices[nearest], axis=1)
    far = np.quantile(distance[upper[nearest]], 0.99), np.quantile(distance[~upper[nearest]], 0.99)
    assert far[0] < 1.3 * RADIUS_M
    assert far[1] > 2 * RADIUS_M


@pytest.mark.parametrize(("ramp_m", "share"), [(0.0, 0.1), (0.05, 0.65)])
def test_most_points_are_asked_for_where_the_teacher_has_a_surface(
    body: CanonicalBody, ramp_m: float, share: float
) -> None:
    """Without a place between empty and opaque, all points fill the shell."""
    teacher, asked = painted(body, ramp_m=ramp_m), []
    query = teacher.query

    def watched(x: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(x)
        return query(x, d)

    teacher.query = watched  # type: ignore[assignment, method-assign]
    baked_by(teacher, body, config=replace(CONFIG, steps=1))
    x = np.concatenate(asked)
    assert len(x) == CONFIG.pool
    assert (np.abs(x[:, 0]) < 0.02).mean() == pytest.approx(share, abs=0.08)


def test_few_points_on_a_surface_do_not_take_all_the_others(body: CanonicalBody) -> None:
    teacher = painted(body, ramp_m=2e-5)  # one or two of the points find it
    baked = baked_by(teacher, body, config=replace(CONFIG, steps=200), threads=2)
    rng = np.random.default_rng(9)
    x, d = shell_points(body, 5_000, config=CONFIG, rng=rng)
    sigma, _ = field_forward(baked.field, x, d)
    right = (sigma > 30) == (teacher.query(x, d)[0] > 30)
    assert right[np.abs(x[:, 0]) > 0.02].mean() > 0.97


def test_a_bake_learns_its_teacher(body: CanonicalBody) -> None:
    teacher = painted(body)
    baked = baked_by(teacher, body, config=CONFIG, threads=2)
    x, d = shell_points(body, 5_000, config=CONFIG, rng=np.random.default_rng(9))
    sigma, rgb = field_forward(baked.field, x, d)
    expected_sigma, expected_rgb = teacher.query(x, d)
    clear = np.abs(x[:, 0]) > 0.02
    opaque = expected_sigma > 0
    assert np.median(sigma[opaque & clear]) > 50
    assert np.median(sigma[~opaque & clear]) < 1
    assert np.abs(rgb - expected_rgb)[opaque & clear].mean() < 0.03
    cells = baked.occupancy.cells()
    assert 0 < cells.mean() < 0.6
    half = cells.shape[2] // 2
    assert cells[:, :, half:].sum() > 2 * cells[:, :, : half - 2].sum()


def test_a_point_far_from_the_body_is_empty_unless_anchored(body: CanonicalBody) -> None:
    teacher = painted(body)
    far = np.array([[0.5, 5.0, 0.0]], np.float32)
    d = np.array([[0, 0, 1]], np.float32)
    assert teacher.query(far, d)[0][0] == 0
    assert teacher.query(far, d, fallback_id=np.array([3], np.int32))[0][0] == 2000


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 9000])
def test_queries_of_any_length_match_one_by_one(body: CanonicalBody, count: int) -> None:
    rng = np.random.default_rng(2)
    x = body.vertices[rng.integers(0, len(body.vertices), count)]
    d = np.tile(np.array([[0, 0, 1]], np.float32), (count, 1))
    sigma, rgb = painted(body).query(x, d)
    assert sigma.shape == (count,)
    np.testing.assert_array_equal(sigma, np.where(x[:, 0] > 0, 2000, 0))
    assert rgb.shape == (count, 3)


def test_a_pool_smaller_than_a_batch_is_used_whole(body: CanonicalBody) -> None:
    baked = baked_by(painted(body), body, config=replace(CONFIG, pool=500, steps=3))
    assert np.isfinite(baked.field.table).all()
