"""The posed shell against brute force and a KD-tree, at its rim and far from the origin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_cases import f32, sphere
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import PosedShell, WideReach, twins


def identity_maps(n: int) -> Any:
    return np.tile(np.eye(3, 4, dtype=np.float32), (n, 1, 1))


def cloud(seed: int, n: int) -> Any:
    """Points on a few tubes, as unevenly spread as a body's vertices."""
    rng = np.random.default_rng(seed)
    starts, ends = rng.uniform(-0.6, 0.6, (2, 5, 3))
    limb = rng.integers(0, 5, n)
    along = rng.random((n, 1)) ** 2
    return f32(starts[limb] * (1 - along) + ends[limb] * along + rng.normal(0, 0.05, (n, 3)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.004, 0.05, 0.08, 0.3]))
@settings(max_examples=20, deadline=None)
def test_the_nearest_vertex_is_exact(seed: int, radius_m: float) -> None:
    rng = np.random.default_rng(seed)
    vertices = cloud(seed, int(rng.integers(1, 800)))
    maps = f32(rng.normal(size=(len(vertices), 3, 4)))
    shell = PosedShell(vertices, maps, radius_m=radius_m, threads=2)
    near = vertices[rng.integers(0, len(vertices), 300)]
    points = f32(
        np.concatenate(
            [near + rng.normal(0, radius_m, (300, 3)), rng.uniform(shell.lo, shell.hi, (200, 3))]
        )
    )
    vertex_id, canonical = shell.query(points)
    want_id, want = twins.query_shell(vertices, maps, radius_m, points)
    np.testing.assert_array_equal(vertex_id, want_id)
    np.testing.assert_allclose(canonical, want, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.03, 0.08]), st.sampled_from([0.05, 0.25]))
@settings(max_examples=20, deadline=None)
def test_what_nobody_reaches_belongs_to_the_nearest_that_reaches_farther(
    seed: int, radius_m: float, wide_m: float
) -> None:
    rng = np.random.default_rng(seed)
    vertices = cloud(seed, int(rng.integers(2, 800)))
    wide_id = np.flatnonzero(rng.random(len(vertices)) < rng.random()).astype(np.int32)
    wide_id = wide_id if len(wide_id) else np.array([1], np.int32)
    maps = f32(rng.normal(size=(len(vertices), 3, 4)))
    shell = PosedShell(
        vertices, maps, radius_m=radius_m, wide=WideReach(wide_id, wide_m), threads=2
    )
    near = vertices[rng.integers(0, len(vertices), 300)]
    points = f32(
        np.concatenate(
            [near + rng.normal(0, wide_m, (300, 3)), rng.uniform(shell.lo, shell.hi, (200, 3))]
        )
    )
    vertex_id, canonical = shell.query(points)
    distance, nearest = cKDTree(vertices).query(points)
    farther, of_wide = cKDTree(vertices[wide_id]).query(points)
    want = np.where(distance < radius_m, nearest, np.where(farther < wide_m, wide_id[of_wide], -1))
    np.testing.assert_array_equal(vertex_id, want)  # no two are as near, in clouds
    moved = np.einsum("nik,nk->ni", maps[want, :, :3], points) + maps[want, :, 3]
    np.testing.assert_allclose(canonical, np.where(want[:, None] < 0, 0, moved), atol=1e-5)
    ours = twins.query_shell(
        vertices, maps, radius_m, points, wide_id=wide_id, wide_radius_m=wide_m
    )
    np.testing.assert_array_equal(vertex_id, ours[0])
    np.testing.assert_allclose(canonical, ours[1], atol=1e-5)
    for corner, sign in ((shell.lo, -1), (shell.hi, 1)):
        outside = np.array([corner + sign * np.eye(3)[d] * 1e-4 for d in range(3)])
        assert (shell.query(f32(outside))[0] == -1).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3]), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_a_crowd_in_one_block_is_exact(seed: int, radius_m: float, copies: int) -> None:
    """More candidates than bits of a word, some of them in the same place, in any order."""
    rng = np.random.default_rng(seed)
    crowd = rng.uniform(0, 0.1, (int(rng.integers(60, 400)), 3))
    vertices = f32(np.concatenate([*[crowd] * copies, rng.uniform(-0.5, 0.5, (20, 3))]))
    vertices = vertices[rng.permutation(len(vertices))]
    maps = identity_maps(len(vertices))
    points = f32(rng.uniform(-0.5 * radius_m, 0.1 + 0.5 * radius_m, (400, 3)))
    want_id, _ = twins.query_shell(vertices, maps, radius_m, points)
    for threads in (1, 2):
        shell = PosedShell(vertices, maps, radius_m=radius_m, threads=threads)
        np.testing.assert_array_equal(shell.query(points)[0], want_id)


def test_a_body_sized_shell_agrees_with_a_kd_tree() -> None:
    vertices = cloud(3, 6890)
    shell = PosedShell(vertices, identity_maps(6890), radius_m=0.05)
    points = f32(np.random.default_rng(0).uniform(shell.lo, shell.hi, (50_000, 3)))
    vertex_id, canonical = shell.query(points)
    distance, nearest = cKDTree(vertices).query(points)
    inside = distance < 0.05
    assert 1000 < inside.sum() < len(points)
    np.testing.assert_array_equal(vertex_id[~inside], -1)
    got = np.linalg.norm(vertices[vertex_id[inside]] - points[inside], axis=1)
    np.testing.assert_allclose(got, distance[inside], atol=1e-6)
    assert (vertex_id[inside] == nearest[inside]).mean() > 0.9999
    np.testing.assert_array_equal(canonical[~inside], 0)
    np.testing.assert_array_equal(canonical[inside], points[inside])


def test_of_vertices_equally_near_the_lowest_wins() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), -1).reshape(-1, 3)
    vertices = f32(np.concatenate([grid, grid])[np.random.default_rng(0).permutation(432)]) / 32
    points = f32(np.stack(np.meshgrid(*[np.arange(11)] * 3), -1).reshape(-1, 3)) / 64
    shell = PosedShell(vertices, identity_maps(432), radius_m=0.25)
    squared = ((points[:, None].astype(float) - vertices) ** 2).sum(2)
    np.testing.assert_array_equal(shell.query(points)[0], squared.argmin(1))


def test_points_at_the_radius_are_outside() -> None:
    shell = PosedShell(np.zeros((1, 3)), identity_maps(1), radius_m=0.25)
    points = f32([[0.25, 0, 0], [0, -0.25, 0], [0, 0, np.nextafter(f32(0.25), f32(0))]])
    np.testing.assert_array_equal(shell.query(points)[0], [-1, -1, 0])
    np.testing.assert_array_equal(shell.lo, [-0.25] * 3)
    np.testing.assert_array_equal(shell.hi, [0.25] * 3)


def test_far_from_the_origin_it_is_still_exact() -> None:
    offset = f32([40, -70, 95])
    vertices = cloud(5, 500) + offset
    maps = identity_maps(500)
    shell = PosedShell(vertices, maps, radius_m=0.05)
    rng = np.random.default_rng(0)
    points = vertices[rng.integers(0, 500, 2000)] + f32(rng.normal(0, 0.03, (2000, 3)))
    want, _ = twins.query_shell(vertices, maps, 0.05, points)
    np.testing.assert_array_equal(shell.query(points)[0], want)


def test_results_do_not_depend_on_the_threads() -> None:
    vertices, _ = sphere(20)
    points = f32(np.random.default_rng(0).uniform(-1.1, 1.1, (9000, 3)))
    maps = f32(np.random.default_rng(1).normal(size=(len(vertices), 3, 4)))
    one = PosedShell(vertices, maps, radius_m=0.1).query(points)
    many = PosedShell(vertices, maps, radius_m=0.1, threads=4).query(points)
    for a, b in zip(one, many, strict=True):
        assert a.tobytes() == b.tobytes()


def test_no_points_and_points_anywhere() -> None:
    shell = PosedShell(np.zeros((1, 3)), identity_maps(1), radius_m=0.05)
    vertex_id, canonical = shell.query(np.zeros((0, 3)))
    assert vertex_id.shape == (0,)
    assert canonical.shape == (0, 3)
    assert (shell.query(f32([[1e30, 0, 0], [-1e30, 1e30, -3e38]]))[0] == -1).all()


def test_the_twin_answers_when_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    shell = PosedShell(np.zeros((1, 3)), identity_maps(1), radius_m=0.05)
    np.testing.assert_array_equal(shell.query(f32([[0, 0, 0.01], [1, 0, 0]]))[0], [0, -1])
    with pytest.raises(InputError, match=r"built for the NumPy twins"):
        _ = shell.compiled


def test_bad_arguments_are_named() -> None:
    one = identity_maps(1)
    with pytest.raises(ShapeError, match=r"vertices: expected at least one"):
        PosedShell(np.zeros((0, 3)), np.zeros((0, 3, 4)), radius_m=0.05)
    with pytest.raises(ShapeError, match=r"maps: expected shape \[1, 3, 4\]"):
        PosedShell(np.zeros((1, 3)), identity_maps(2), radius_m=0.05)
    with pytest.raises(ShapeError, match=r"too far apart or away"):
        PosedShell(f32([[0, 0, 0], [900, 900, 900]]), identity_maps(2), radius_m=0.05)
    for radius_m in (0, -1, 5, float("nan")):
        with pytest.raises(InputError, match=r"radius_m: expected a length in \(0, 0\.5\]"):
            PosedShell(np.zeros((1, 3)), one, radius_m=radius_m)
    three = np.eye(3)
    for ids in ([], [-1], [3], [1, 1], [2, 0]):
        wide = WideReach(np.array(ids, np.int32), 0.2)
        with pytest.raises(InputError, match=r"wide\.vertex_id: expected at least one number in"):
            PosedShell(three, identity_maps(3), radius_m=0.1, wide=wide)
    wide = WideReach(np.array([0], np.int32), 0.7)
    with pytest.raises(InputError, match=r"wide\.radius_m: expected a length in \(0, 0\.5\]"):
        PosedShell(three, identity_maps(3), radius_m=0.1, wide=wide)
    with pytest.raises(ShapeError, match=r"points: .* NaN"):
        PosedShell(np.zeros((1, 3)), one, radius_m=0.05).query(np.full((1, 3), np.nan))


def test_a_body_beyond_the_precision_of_its_numbers_is_refused() -> None:
    vertices = np.full((2, 3), 1e9, np.float32)
    with pytest.raises(ShapeError, match=r"up to 1e\+09 m from the origin"):
        PosedShell(vertices, np.zeros((2, 3, 4), np.float32), radius_m=0.1)
