"""The march against closed forms and its twin; occupancy; packed samples."""

from __future__ import annotations

import numpy as np
import pytest
from field_cases import (
    SPHERE_M,
    camera,
    constant_field,
    identity_shell,
    psnr,
    random_field,
    random_shell,
    sphere_field,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import Camera
from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import (
    HashField,
    Occupancy,
    PackedSamples,
    PosedShell,
    composite,
    field_forward,
    march,
    march_samples,
    occupancy,
    twins,
)

RADIUS_M = 0.3
SIGMA = 6.0
COLOUR = (0.2, 0.5, 0.9)


def ball() -> PosedShell:
    return identity_shell(np.zeros((1, 3), np.float32), radius_m=RADIUS_M)


def rays(view: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The camera's centre [3] and unit directions [H, W, 3], by the definition of a camera."""
    rows, columns = np.mgrid[: view.height, : view.width] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    d = pixels @ np.linalg.inv(view.intrinsics.astype(float)).T @ view.rotation.astype(float)
    return -view.rotation.T @ view.translation, d / np.linalg.norm(d, axis=-1, keepdims=True)


def chords(view: Camera) -> np.ndarray:
    """Length in metres of each pixel's ray inside the ball, in front of the camera."""
    origin, d = rays(view)
    along = -(d @ origin)
    half_squared = RADIUS_M**2 - (origin @ origin - along**2)
    half = np.sqrt(np.maximum(half_squared, 0))
    return np.maximum(along + half, 0) - np.maximum(along - half, 0)


@pytest.mark.parametrize("distance_m", [1.5, 35.0, 0.1, 0.0])
def test_constant_ball_has_the_opacity_of_its_chords(distance_m: float) -> None:
    field = constant_field(SIGMA, COLOUR)
    if distance_m < RADIUS_M:  # inside the ball, looking out
        view = Camera(np.diag([10.0, 10, 1]), np.eye(3), [0, 0, distance_m], 19, 17)
    else:
        view = camera(19, 17, distance_m=distance_m)
    rgb, alpha = march(ball(), field, view, samples=1000)
    expected = 1 - np.exp(-SIGMA * chords(view))
    # Each end of a chord is known to half the lattice's step, which is at most a millimetre here.
    np.testing.assert_allclose(alpha, expected, atol=SIGMA * 1.5e-3)
    np.testing.assert_allclose(rgb, alpha[..., None] * np.array(COLOUR), atol=1e-5)
    assert alpha.max() > 0.5


def test_the_lattice_is_the_released_one() -> None:
    view = camera(9, 9)
    packed = march_samples(ball(), view)
    origin, directions = rays(view)
    d = directions.reshape(-1, 3)
    half = RADIUS_M + 0.01
    with np.errstate(divide="ignore"):
        a, b = (-half - origin) / d, (half - origin) / d
    near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    assert (np.diff(packed.offsets) > 0).sum() > 20
    for ray in range(81):
        mine = slice(packed.offsets[ray], packed.offsets[ray + 1])
        if near[ray] >= far[ray]:
            assert mine.start == mine.stop
            continue
        t = near[ray] + np.arange(48) / 47 * (far[ray] - near[ray])
        points = origin + t[:, None] * d[ray]
        inside = points[np.linalg.norm(points, axis=1) < RADIUS_M]
        np.testing.assert_allclose(packed.canonical[mine], inside, atol=2e-6)
        np.testing.assert_allclose(packed.delta[mine], (far[ray] - near[ray]) / 47, rtol=1e-5)
        np.testing.assert_allclose(
            packed.direction_canonical[mine], np.tile(d[ray], (len(inside), 1)), atol=1e-6
        )
        assert (packed.ray[mine] == ray).all()


def test_rays_along_an_axis_are_clipped_without_dividing_by_zero() -> None:
    view = Camera([[9, 0, 4.5], [0, 9, 4.5], [0, 0, 1]], np.eye(3), [0, 0, 2], 9, 9)
    _, alpha = march(ball(), constant_field(SIGMA, COLOUR), view, samples=500)
    assert alpha[4, 4] == pytest.approx(1 - np.exp(-SIGMA * 2 * RADIUS_M), abs=0.01)
    beside = Camera(view.intrinsics, view.rotation, [1, 0, 2], 9, 9)
    assert march(ball(), constant_field(SIGMA, COLOUR), beside)[1][:, 4].max() == 0


def test_nothing_is_seen_behind_the_camera_or_beside_the_box() -> None:
    away = Camera(np.diag([20.0, 20, 1]), np.eye(3), [0, 0, -2], 12, 8)
    rgb, alpha = march(ball(), constant_field(SIGMA, COLOUR), away)
    assert rgb.shape == (8, 12, 3)
    assert not rgb.any()
    assert not alpha.any()
    packed = march_samples(ball(), away)
    assert len(packed.ray) == 0
    empty = composite(packed, np.zeros(0), np.zeros((0, 3)))
    assert empty[0].shape == (8, 12, 3)
    assert not empty[1].any()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 33),
    st.integers(1, 20),
    st.integers(2, 60),
    st.floats(0.0, 6.3),
    st.floats(-0.1, 3.0),
    st.sampled_from(["baked", "fast"]),
    st.integers(0, 9),
)
def test_march_agrees_with_its_twin(
    width: int, height: int, samples: int, turn: float, distance_m: float, mode: str, seed: int
) -> None:
    field = random_field(seed=seed, scale=0.3)
    shell = random_shell(seed=seed, wide=seed % 2 == 1)
    # A focal length in front of the picture, wherever the camera stands.
    at = camera(width, height, turn=turn)
    view = Camera(at.intrinsics, at.rotation, [0, 0, distance_m], width, height)
    grid = occupancy(field, resolution=16, threshold=70.0)
    stop = 0.05
    rgb, alpha = march(
        shell,
        field,
        view,
        samples=samples,
        mode=mode,  # type: ignore[arg-type]
        occupancy=grid,
        early_stop=stop,
        threads=2,
    )
    fast = mode == "fast"
    twin_rgb, twin_alpha = twins.march(
        shell,
        field,
        view,
        samples=samples,
        occupancy=grid if fast else None,
        early_stop=stop if fast else 0.0,
    )
    assert ((alpha >= 0) & (alpha <= 1)).all()
    # A sample on the shell's border or between two cells may fall either way: pixels may differ.
    differ = (np.abs(alpha - twin_alpha) > 1e-3) | (np.abs(rgb - twin_rgb).max(-1) > 1e-3)
    assert differ.sum() <= 0.01 * alpha.size + 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 9), st.floats(0.0, 6.3))
def test_packed_samples_agree_with_their_twin(seed: int, turn: float) -> None:
    shell, view = random_shell(seed=seed, wide=seed % 2 == 1), camera(13, 11, turn=turn)
    packed = march_samples(shell, view, threads=2)
    offsets, ray, delta, canonical, direction, vertex_id = twins.march_samples(
        shell, view, samples=48, pixels=None
    )
    if len(ray) == len(packed.ray) and (offsets == packed.offsets).all():
        np.testing.assert_array_equal(packed.ray, ray)
        # The compiled shell's box is a micrometre wider, so that rounding cannot cut its rim.
        np.testing.assert_allclose(packed.delta, delta, rtol=1e-5)
        same = packed.vertex_id == vertex_id
        assert same.mean() > 0.99
        np.testing.assert_allclose(packed.canonical[same], canonical[same], atol=1e-5)
        np.testing.assert_allclose(packed.direction_canonical[same], direction[same], atol=1e-5)
    else:  # a sample on the shell's border fell on the other side
        assert abs(len(ray) - len(packed.ray)) <= 2


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 30.0]))
@settings(max_examples=15, deadline=None)
def test_stepping_over_empty_space_misses_nothing(seed: int, away_m: float) -> None:
    # Scattered far apart, so that rays cross empty blocks, graze others and start outside.
    rng = np.random.default_rng(seed)
    vertices = (rng.uniform(-1, 1, (25, 3)) + away_m).astype(np.float32)
    wide = bool(rng.random() < 0.5)
    shell = identity_shell(vertices, radius_m=float(rng.uniform(0.02, 0.2)), wide=wide)
    view = camera(20, 14, distance_m=3.0, turn=float(rng.uniform(-3, 3)))
    centre = np.full(3, away_m, np.float32)
    view = Camera(view.intrinsics, view.rotation, view.translation - view.rotation @ centre, 20, 14)
    samples = int(rng.integers(2, 200))
    packed = march_samples(shell, view, samples=samples)
    offsets, _, _, canonical, _, _ = twins.march_samples(shell, view, samples=samples, pixels=None)
    # Only where rounding decides, at the shell's rim, may the two differ.
    assert np.abs(np.diff(packed.offsets) - np.diff(offsets)).sum() <= 2 + len(canonical) // 200
    near, _ = shell.query(packed.canonical)
    assert (near == packed.vertex_id).sum() >= 0.99 * len(near) - 2


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 30.0]))
@settings(max_examples=40, deadline=None)
def test_every_pixel_whose_ray_has_samples_is_drawn(seed: int, away_m: float) -> None:
    # Cameras outside the cloud of vertices and in it, upright and not, with uneven lenses.
    rng = np.random.default_rng(seed)
    vertices = (rng.uniform(-1, 1, (25, 3)) + away_m).astype(np.float32)
    wide = bool(rng.random() < 0.5)
    shell = identity_shell(vertices, radius_m=float(rng.uniform(0.02, 0.2)), wide=wide)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    distance_m = float(rng.choice([0.0, 1.0, 3.0, 35.0]))
    width, height = int(rng.integers(1, 150)), int(rng.integers(1, 60))
    focal = rng.uniform(0.3, 1.0, 2) * max(width, height) * max(distance_m, 0.5)
    centre = rng.uniform(-0.2, 1.2, 2) * (width, height)
    k = [[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]]
    place = np.array([0, 0, distance_m]) - rotation @ np.full(3, away_m)
    view = Camera(k, rotation, place, width, height)
    _, alpha = march(shell, constant_field(50.0, COLOUR), view, samples=300)
    counts = np.diff(march_samples(shell, view, samples=300).offsets).reshape(height, width)
    np.testing.assert_array_equal(alpha > 0, counts > 0)


def test_the_teachers_way_gives_the_baked_picture() -> None:
    field, shell, view = random_field(scale=0.3), random_shell(), camera(40, 30)
    rgb, alpha = march(shell, field, view)
    packed = march_samples(shell, view)
    values = field_forward(field, packed.canonical, packed.direction_canonical)
    by_list = composite(packed, *values)
    np.testing.assert_allclose(by_list[0], rgb, atol=2e-5)
    np.testing.assert_allclose(by_list[1], alpha, atol=2e-5)


def test_chosen_pixels_are_those_of_the_whole_picture() -> None:
    shell, view = random_shell(), camera(20, 16)
    whole = march_samples(shell, view)
    pixels = np.array([[7, 9], [12, 4], [7, 9], [0, 0]])
    chosen = march_samples(shell, view, pixels=pixels)
    assert chosen.shape == (4,)
    for i, (column, row) in enumerate(pixels):
        ray = row * 20 + column
        expected = whole.canonical[whole.offsets[ray] : whole.offsets[ray + 1]]
        found = chosen.canonical[chosen.offsets[i] : chosen.offsets[i + 1]]
        np.testing.assert_array_equal(found, expected)


def test_threads_do_not_change_a_bit() -> None:
    field, shell, view = random_field(scale=0.3), random_shell(), camera(45, 37)
    grid = occupancy(field, resolution=16, threshold=70.0)
    for mode in ("baked", "fast"):
        one, many = (
            march(shell, field, view, mode=mode, occupancy=grid, threads=n)  # type: ignore[arg-type]
            for n in (1, 3)
        )
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_array_equal(one[1], many[1])
    a, b = (march_samples(shell, view, threads=n) for n in (1, 3))
    np.testing.assert_array_equal(a.canonical, b.canonical)


def test_composite_clips_negative_density_and_closes_the_last_sample() -> None:
    packed = PackedSamples(
        (3,),
        offsets=np.array([0, 2, 2, 4]),
        ray=np.int32([0, 0, 2, 2]),
        delta=np.float32([0.1, 0.1, 0.1, 1e10]),
        canonical=np.zeros((4, 3), np.float32),
        direction_canonical=np.zeros((4, 3), np.float32),
        vertex_id=np.zeros(4, np.int32),
    )
    sigma = np.float32([-5.0, 10.0, 10.0, 1e-3])
    colour = np.repeat(np.float32([[1.0], [0.5], [0.5], [0.25]]), 3, 1)
    opaque = 1 - np.exp(-1.0)
    expected = [0.5 * opaque, 0.0, 0.5 * opaque + 0.25 * (1 - opaque)]
    rgb, alpha = composite(packed, sigma, colour)
    np.testing.assert_allclose(rgb[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(alpha, [opaque, 0.0, 1.0], rtol=1e-6)
    twin = twins.composite(packed.offsets, packed.delta, sigma, colour)
    np.testing.assert_allclose(twin[0], rgb, atol=1e-6)


@pytest.fixture(scope="module")
def fitted() -> HashField:
    return sphere_field(steps=300)


def test_fast_shows_what_baked_shows(fitted: HashField) -> None:
    surface = np.random.default_rng(0).normal(size=(400, 3))
    surface *= SPHERE_M / np.linalg.norm(surface, axis=1, keepdims=True)
    shell = identity_shell(surface, radius_m=0.05)
    around = identity_shell(surface, radius_m=0.06)
    grid = occupancy(fitted, resolution=48, shell=around, threads=2)
    assert 0.01 < grid.cells().mean() < 0.3
    for turn in (0.0, 1.0, 2.5):
        view = camera(64, 64, turn=turn)
        baked, alpha = march(shell, fitted, view)
        fast, _ = march(shell, fitted, view, mode="fast", occupancy=grid)
        assert alpha.max() > 0.99
        assert psnr(baked, fast) > 40
        alone, _ = march(shell, fitted, view, mode="fast")
        assert psnr(baked, alone) > 50


def test_occupancy_covers_all_density(fitted: HashField) -> None:
    grid = occupancy(fitted, resolution=32, threshold=5.0)
    x = np.random.default_rng(1).uniform(fitted.lo, fitted.hi, (20000, 3)).astype(np.float32)
    dense = field_forward(fitted, x, np.zeros_like(x))[0] > 5.0
    cell = ((x - fitted.lo) / (fitted.hi - fitted.lo) * 32).astype(int).clip(0, 31)
    assert dense.sum() > 100
    assert grid.cells()[cell[dense, 2], cell[dense, 1], cell[dense, 0]].all()
    nothing = occupancy(fitted, resolution=8, threshold=1e9)
    assert not nothing.cells().any()


def test_numpy_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    field, view = constant_field(SIGMA, COLOUR), camera(5, 4)
    compiled = march(ball(), field, view)
    packed = march_samples(ball(), view)
    monkeypatch.setenv("GAS_RT_KERNELS", "numpy")
    np.testing.assert_allclose(march(ball(), field, view)[0], compiled[0], atol=1e-5)
    chosen = march_samples(ball(), view)
    np.testing.assert_array_equal(chosen.offsets, packed.offsets)
    composite(chosen, np.zeros(len(chosen.ray)), np.zeros((len(chosen.ray), 3)))


@pytest.mark.parametrize("mode", ["baked", "fast"])
def test_maps_that_overflow_address_nothing_outside_the_tables(mode: str) -> None:
    """Infinity minus infinity is NaN, which is no index."""
    maps = np.zeros((1, 3, 4), np.float32)
    maps[..., 0], maps[..., 1] = 3e38, -3e38
    shell = PosedShell(np.float32([[10, 10, 0]]), maps, radius_m=0.1)
    view = Camera(camera(32, 32).intrinsics, np.eye(3), [-10, -10, 1.5], 32, 32)
    everywhere = Occupancy(np.full(8, 255, np.uint8), 4)
    rgb, alpha = march(shell, random_field(), view, mode=mode, occupancy=everywhere)
    assert np.isfinite(rgb).all()
    assert alpha.max() > 0.99


def test_bad_arguments_are_refused() -> None:
    field, shell, view = random_field(), ball(), camera(8, 6)
    with pytest.raises(InputError, match="mode: expected 'baked' or 'fast'"):
        march(shell, field, view, mode="exact")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"samples: expected 2\.\.1024, got 1"):
        march(shell, field, view, samples=1)
    with pytest.raises(InputError, match="early_stop"):
        march(shell, field, view, early_stop=float("nan"))
    with pytest.raises(ShapeError, match="pixels: expected shape"):
        march_samples(shell, view, pixels=np.zeros((2, 3), np.int32))
    with pytest.raises(ShapeError, match=r"pixels: expected \(column, row\) within 8 × 6"):
        march_samples(shell, view, pixels=np.array([[8, 0]]))
    packed = march_samples(shell, view)
    n = len(packed.ray)
    with pytest.raises(ShapeError, match="sigma: expected shape"):
        composite(packed, np.zeros(n + 1), np.zeros((n, 3)))
    with pytest.raises(ShapeError, match=r"rgb: .* NaN"):
        composite(packed, np.zeros(n), np.full((n, 3), np.nan))
    with pytest.raises(ShapeError, match=r"Occupancy\.bits: expected shape \[64\]"):
        Occupancy(np.zeros(63, np.uint8), 8)
    with pytest.raises(InputError, match=r"Occupancy\.resolution"):
        Occupancy(np.zeros(1, np.uint8), 2)
    with pytest.raises(InputError, match="resolution: expected"):
        occupancy(field, resolution=1000)
    with pytest.raises(InputError, match="threshold"):
        occupancy(field, threshold=-1.0)
