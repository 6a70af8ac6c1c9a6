"""The raster against geometry that is known, against its twin, and at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_cases import f32, frontal_camera, sphere, straight_camera
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt import kernels
from gas_rt.core import Camera
from gas_rt.errors import ShapeError


@pytest.fixture(params=["native", "numpy"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GAS_RT_KERNELS", request.param)
    return request.param


def faces_of(*rows: tuple[int, int, int]) -> Any:
    return np.array(rows, np.int32).reshape(-1, 3)


def ray_grid(camera: Camera) -> Any:
    """The ray through every pixel centre, with z = 1."""
    k = camera.intrinsics
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    return np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones_like(x)], -1)


def assert_equal_rasters(a: kernels.Raster, b: kernels.Raster) -> None:
    np.testing.assert_array_equal(a.face_id, b.face_id)
    np.testing.assert_allclose(a.barycentric, b.barycentric, atol=1e-6)
    np.testing.assert_allclose(a.depth, b.depth, rtol=1e-6)


def test_one_triangle_covers_the_pixel_centres_inside_it(implementation: str) -> None:
    camera = straight_camera(8, 8, focal=8)
    # In pixels: (1, 1), (7, 1), (1, 7); the slanted side x + y = 8 runs through pixel centres.
    corners = f32([[-3, -3, 8], [3, -3, 8], [-3, 3, 8]]) / 8 * 2
    raster = kernels.rasterize(corners, faces_of((0, 1, 2)), camera)
    y, x = np.mgrid[:8, :8] + 0.5
    inside, rim = (x > 1) & (y > 1) & (x + y < 8), (x > 1) & (y > 1) & (x + y == 8)
    assert raster.mask[inside].all()
    assert not raster.mask[~inside & ~rim].any()
    assert len(set(raster.mask[rim])) == 1  # the slanted side is owned or not, as a whole
    np.testing.assert_allclose(raster.depth[inside], 2, rtol=1e-6)
    weights = raster.barycentric[inside]
    np.testing.assert_allclose(weights[:, 1], (x[inside] - 1) / 6, atol=1e-5)
    np.testing.assert_allclose(weights[:, 2], (y[inside] - 1) / 6, atol=1e-5)
    np.testing.assert_array_equal(raster.barycentric[~raster.mask], 0)
    assert np.isinf(raster.depth[~raster.mask]).all()


def test_barycentrics_and_depth_are_perspective_correct(implementation: str) -> None:
    camera = straight_camera(40, 30, focal=30)
    corners = f32([[-2, -1.5, 3], [5, -1, 9], [-1, 4, 6]])
    faces = faces_of((0, 1, 2))
    raster = kernels.rasterize(corners, faces, camera)
    points = kernels.interpolate(raster, faces, corners)
    rays = ray_grid(camera)[raster.mask]
    np.testing.assert_allclose(
        points[raster.mask], rays * raster.depth[raster.mask][:, None], atol=1e-5
    )
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    np.testing.assert_allclose(
        raster.depth[raster.mask], (normal @ corners[0]) / (rays @ normal), rtol=1e-5
    )
    assert raster.mask.sum() > 300


def test_a_spheres_silhouette_depth_and_closedness(implementation: str) -> None:
    vertices, faces = sphere(48)
    camera = frontal_camera(96, distance_m=5, focal=2)
    raster = kernels.rasterize(vertices, faces, camera)
    rays = ray_grid(camera)
    # Distance of each ray from the centre, and the nearer intersection, of the ideal sphere.
    centre = np.array([0, 0, 5.0])
    along = rays @ centre / (rays**2).sum(-1)
    gap = np.linalg.norm(rays * along[..., None] - centre, axis=-1)
    assert raster.mask[gap < 0.99].all()  # no holes
    assert not raster.mask[gap > 1].any()
    hit = gap < 0.9
    ideal = along - np.sqrt(1 - gap**2, where=hit, out=np.zeros_like(gap)) / np.linalg.norm(
        rays, axis=-1
    )
    np.testing.assert_allclose(raster.depth[hit], ideal[hit], atol=0.01)


def test_faces_that_share_edges_leave_no_gap_and_no_overlap(implementation: str) -> None:
    # A fan around a pixel centre, its spokes through other centres: every tie there is.
    size = 16
    camera = straight_camera(size, size, focal=size)
    rim = [(-8, -8), (0.5, -8), (8, -8), (8, 0.5), (8, 8), (0.5, 8), (-8, 8), (-8, 0.5)]
    corners = f32([(0.5, 0.5, 16), *((x, y, 16) for x, y in rim)])
    faces = faces_of(*((0, 1 + i, 1 + (i + 1) % 8) for i in range(8)))
    drawn = np.zeros((size, size), int)
    for face in faces:
        drawn += kernels.rasterize(corners, face[None], camera).mask
    np.testing.assert_array_equal(drawn, 1)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_random_triangles_equal_the_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = straight_camera(24, 17, focal=float(rng.uniform(5, 40)))
    vertices = f32(rng.normal(0, 1, (12, 3)))  # some behind
    vertices[:, 2] += rng.uniform(-1, 4)
    faces = rng.integers(0, 12, (10, 3)).astype(np.int32)  # some degenerate
    native = kernels.rasterize(vertices, faces, camera, threads=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAS_RT_KERNELS", "numpy")
        assert_equal_rasters(native, kernels.rasterize(vertices, faces, camera))


def test_the_result_does_not_depend_on_the_threads() -> None:
    vertices, faces = sphere(30)
    camera = frontal_camera(70)
    one = kernels.rasterize(vertices, faces, camera)
    for threads in (2, 5, 100):
        many = kernels.rasterize(vertices, faces, camera, threads=threads)
        assert one.face_id.tobytes() == many.face_id.tobytes()
        assert one.barycentric.tobytes() == many.barycentric.tobytes()
        assert one.depth.tobytes() == many.depth.tobytes()


def test_a_long_lens_far_away_keeps_its_precision() -> None:
    vertices, faces = sphere(48)
    camera = frontal_camera(128, distance_m=35, focal=10000 / 512)
    raster = kernels.rasterize(vertices, faces, camera)
    points = kernels.interpolate(raster, faces, vertices)
    seen = points @ camera.rotation.T + camera.translation
    rays = ray_grid(camera)
    error = np.abs(seen - rays * raster.depth[..., None])[raster.mask]
    assert error.max() < 2e-5


def test_a_camera_inside_the_body_sees_the_walls_around_it(implementation: str) -> None:
    vertices, faces = sphere(16)
    raster = kernels.rasterize(vertices, faces, straight_camera(12, 12, focal=6))
    assert raster.mask.all()
    np.testing.assert_allclose(
        np.linalg.norm(ray_grid(straight_camera(12, 12, focal=6)), axis=-1) * raster.depth,
        1,
        atol=0.03,
    )


def test_a_triangle_through_the_cameras_plane_is_cut_there(implementation: str) -> None:
    # A floor 1 m below the camera, from 50 m behind it to 50 m ahead.
    camera = straight_camera(10, 10, focal=5)
    floor = f32([[-50, 1, -50], [50, 1, -50], [50, 1, 50], [-50, 1, 50]])
    raster = kernels.rasterize(floor, faces_of((0, 1, 2), (0, 2, 3)), camera)
    assert not raster.mask[:5].any()
    assert raster.mask[5:].all()
    np.testing.assert_allclose(raster.depth[5:, 0], 5 / (np.arange(5) + 0.5), rtol=1e-5)


@pytest.mark.parametrize("shift", [[0, 0, -20], [100, 0, 0], [0, -100, 0]])
def test_a_body_out_of_view_gives_an_empty_picture(shift: Any, implementation: str) -> None:
    vertices, faces = sphere(8)
    raster = kernels.rasterize(
        vertices + f32([0, 0, 5]) + f32(shift), faces, straight_camera(9, 7, focal=9)
    )
    assert not raster.mask.any()
    assert np.isinf(raster.depth).all()
    assert not kernels.interpolate(raster, faces, vertices).any()


def test_no_faces_degenerate_faces_and_huge_coordinates_draw_nothing(implementation: str) -> None:
    camera = straight_camera(6, 6, focal=6)
    points = f32([[-1, -1, 2], [1, 1, 2], [3, 3, 2], [0, 0, 2]])
    for faces in (faces_of(), faces_of((0, 0, 1)), faces_of((2, 2, 2))):
        assert not kernels.rasterize(points, faces, camera).mask.any()
    line = kernels.rasterize(points, faces_of((0, 1, 2)), camera)
    assert np.isfinite(line.barycentric).all()


def test_huge_coordinates_do_not_crash() -> None:
    points = f32([[-1e37, 0, 1e37], [1e38, -3e38, 1e30], [1, 2e38, -1e38]])
    raster = kernels.rasterize(points, faces_of((0, 1, 2)), straight_camera(6, 6, focal=6))
    assert raster.face_id.shape == (6, 6)


def test_of_equal_depths_the_lowest_face_wins(implementation: str) -> None:
    corners = f32([[-9, -9, 2], [9, -9, 2], [0, 9, 2]])
    facing, away = (2, 1, 0), (0, 1, 2)
    for faces in faces_of(facing, away), faces_of(away, facing), faces_of(away, away):
        raster = kernels.rasterize(corners, faces, straight_camera(4, 4, focal=4))
        np.testing.assert_array_equal(raster.face_id, 0)


def test_many_layers_of_both_sides_equal_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    camera = straight_camera(37, 75, focal=40)  # several bands, and a strip cut in two
    vertices = f32(rng.normal([0, 0, 3], 1, (60, 3)))
    faces = rng.integers(0, 60, (150, 3)).astype(np.int32)
    faces = np.concatenate([faces, faces[::3]])  # some twice
    native = kernels.rasterize(vertices, faces, camera)
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    assert_equal_rasters(native, kernels.rasterize(vertices, faces, camera))


def quad(width: int, height: int) -> tuple[Any, kernels.Raster, Any, Any]:
    """A rectangle that fills the picture, with uv from its first to its last pixel's corner."""
    corners = f32(
        [[-width, -height, 2], [width, -height, 2], [width, height, 2], [-width, height, 2]]
    )
    faces = faces_of((0, 1, 2), (0, 2, 3))
    raster = kernels.rasterize(corners, faces, straight_camera(width, height, focal=1))
    uv = f32([[0, 0], [1, 0], [1, 1], [0, 1]])
    return corners, raster, uv, faces


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_texture_the_size_of_the_picture_is_copied(dtype: Any, implementation: str) -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (5, 7, 3)).astype(dtype)
    _, raster, uv, faces = quad(7, 5)
    picture = kernels.sample_texture(raster, uv, faces, texture, threads=2)
    scale = 255 if dtype == np.uint8 else 1
    np.testing.assert_allclose(picture, texture.astype(np.float32) / scale, atol=1e-3 * 255 / scale)


def test_a_texture_is_interpolated_between_texels_and_held_outside(implementation: str) -> None:
    _, raster, uv, faces = quad(8, 8)
    ramp = f32([0, 1, 2, 3])[None, :, None]
    picture = kernels.sample_texture(raster, uv, faces, ramp)[..., 0]
    u = (np.arange(8) + 0.5) / 8
    want = np.clip(u * 4 - 0.5, 0, 3)
    np.testing.assert_allclose(picture, np.tile(want, (8, 1)), atol=1e-5)
    shifted = kernels.sample_texture(raster, uv + f32([5, 0]), faces, ramp)
    np.testing.assert_array_equal(shifted, 3)


def test_lookups_equal_their_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vertices, faces = sphere(16)
    raster = kernels.rasterize(vertices, faces, frontal_camera(50))
    attributes = f32(rng.normal(size=(len(vertices), 5)))
    uv = f32(rng.uniform(-0.2, 1.2, (len(vertices), 2)))
    texture = rng.integers(0, 256, (13, 9, 4)).astype(np.uint8)
    native = [
        kernels.interpolate(raster, faces, attributes, threads=3),
        kernels.sample_texture(raster, uv, faces, texture, threads=3),
    ]
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    twin = [
        kernels.interpolate(raster, faces, attributes),
        kernels.sample_texture(raster, uv, faces, texture),
    ]
    for a, b in zip(native, twin, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_bad_arguments_are_named(implementation: str) -> None:
    vertices, faces = sphere(4)
    camera = frontal_camera(8)
    raster = kernels.rasterize(vertices, faces, camera)
    uv = f32(np.zeros((len(vertices), 2)))
    with pytest.raises(ShapeError, match=r"vertices: .* NaN"):
        kernels.rasterize(vertices * np.nan, faces, camera)
    with pytest.raises(ShapeError, match=r"faces: index 77 is out of range, expected 0\.\.31"):
        kernels.rasterize(vertices, faces * 0 + 77, camera)
    with pytest.raises(ShapeError, match=r"raster\.face_id: index \d+ is out of range"):
        kernels.interpolate(raster, faces[:1], vertices)
    with pytest.raises(ShapeError, match=r"texture: expected float32 or uint8 \[h, w, C\]"):
        kernels.sample_texture(raster, uv, faces, np.zeros((4, 4), np.float32))
    with pytest.raises(ShapeError, match=r"texture: it holds NaN"):
        kernels.sample_texture(raster, uv, faces, np.full((4, 4, 3), np.nan, np.float32))
    with pytest.raises(ShapeError, match=r"uv: expected shape \[any, 2\]"):
        kernels.sample_texture(raster, vertices, faces, np.zeros((4, 4, 3), np.uint8))
