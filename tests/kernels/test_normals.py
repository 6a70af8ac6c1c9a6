"""Vertex normals against an independent formula; the colours of the normal map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_cases import f32, frontal_camera, sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt import kernels
from gas_rt.errors import ShapeError


@pytest.fixture(params=["native", "numpy"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GAS_RT_KERNELS", request.param)
    return request.param


def weighted_normals_by_the_law_of_cosines(vertices: Any, faces: Any) -> Any:
    sums = np.zeros((len(vertices), 3))
    for face in faces:
        a, b, c = vertices[face].astype(np.float64)
        sides = [np.linalg.norm(b - c), np.linalg.norm(c - a), np.linalg.norm(a - b)]
        normal = np.cross(b - a, c - a)
        for corner in range(3):
            opposite, p, q = sides[corner], sides[corner - 1], sides[corner - 2]
            angle = np.arccos(np.clip((p * p + q * q - opposite * opposite) / (2 * p * q), -1, 1))
            sums[face[corner]] += angle * normal / np.linalg.norm(normal)
    return sums


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_normals_are_weighted_by_angle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = f32(rng.normal(size=(12, 3)))
    faces = np.stack([rng.permutation(12)[:3] for _ in range(20)]).astype(np.int32)
    faces = np.concatenate([faces, np.arange(12, dtype=np.int32).reshape(4, 3)])
    sums = weighted_normals_by_the_law_of_cosines(vertices, faces)
    length = np.linalg.norm(sums, axis=1)
    clear = length > 1e-3  # where the weighted normals cancel out their direction is noise
    found = kernels.vertex_normals(vertices, faces)[clear]
    np.testing.assert_allclose(found, sums[clear] / length[clear, None], atol=2e-4)


def test_a_cube_corner_does_not_see_its_triangulation(implementation: str) -> None:
    # Around corner 0 the x side has two triangles, the others one each: weighting by area or
    # number would pull the normal to +x.
    vertices = f32([[0, 0, 0], [0, -1, 0], [0, 0, -1], [-1, 0, 0], [0, -1, -1]])
    faces = np.array([[0, 1, 4], [0, 4, 2], [0, 2, 3], [0, 3, 1]], np.int32)
    normal = kernels.vertex_normals(vertices, faces)[0]
    np.testing.assert_allclose(np.abs(normal), np.full(3, 3**-0.5), atol=1e-6)


def test_a_spheres_normals_point_outwards(implementation: str) -> None:
    vertices, faces = sphere(24)
    normals = kernels.vertex_normals(vertices, faces, threads=2)
    inner = np.abs(vertices[:, 1]) < 0.999
    np.testing.assert_allclose(normals[inner], vertices[inner], atol=0.01)
    assert np.isfinite(normals).all()


def test_vertices_without_area_get_zero(implementation: str) -> None:
    vertices = f32([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]])
    normals = kernels.vertex_normals(vertices, np.array([[0, 1, 2], [1, 1, 2]], np.int32))
    np.testing.assert_array_equal(normals, np.zeros((4, 3)))
    assert kernels.vertex_normals(np.zeros((0, 3)), np.zeros((0, 3), np.int32)).shape == (0, 3)


def test_native_equals_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = sphere(12)
    camera = frontal_camera(40)
    native = kernels.render_normals(vertices, faces, camera, threads=2)
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    twin = kernels.render_normals(vertices, faces, camera)
    np.testing.assert_array_equal(native[1], twin[1])
    np.testing.assert_allclose(native[0], twin[0], atol=1e-5)


def test_the_normal_map_has_the_releases_colours(implementation: str) -> None:
    vertices, faces = sphere(40)
    picture, mask = kernels.render_normals(vertices, faces, frontal_camera(65, focal=1.9))
    np.testing.assert_allclose(picture[32, 32], [0.5, 0.5, 1], atol=0.02)  # faces the camera
    rows, columns = np.nonzero(mask)
    right, bottom = columns.max(), rows.max()
    assert picture[32, right, 0] > 0.9  # +x of the camera is red
    assert picture[bottom, 32, 1] < 0.1  # its y points down, green up
    np.testing.assert_array_equal(picture[~mask], 0)
    length = np.linalg.norm(2 * picture[mask] - 1, axis=1)
    np.testing.assert_allclose(length, 1, atol=1e-5)


def test_bad_arguments_are_named(implementation: str) -> None:
    vertices, faces = sphere(4)
    with pytest.raises(ShapeError, match=r"faces: index 999 is out of range, expected 0\.\.31"):
        kernels.vertex_normals(vertices, np.full((1, 3), 999, np.int32))
    with pytest.raises(ShapeError, match=r"faces: index -1 is out of range"):
        kernels.vertex_normals(vertices, np.full((1, 3), -1, np.int32))
    with pytest.raises(ShapeError, match=r"vertices: .* NaN"):
        kernels.vertex_normals(np.full((32, 3), np.nan), faces)
    with pytest.raises(ShapeError, match=r"faces: expected integers"):
        kernels.vertex_normals(vertices, faces.astype(np.float32))
