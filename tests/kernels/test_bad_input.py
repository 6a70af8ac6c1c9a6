"""Every kernel face, given what it cannot use, says so by the argument's name; and never crashes.

`FACES` calls each with arguments that are right. The tests spoil one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from field_cases import HI, LO, SMALL, camera, identity_shell, random_field, random_shell
from geometry_cases import SMPL_PARENTS, bones, f32, frontal_camera, sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt import kernels
from gas_rt.core import Camera
from gas_rt.errors import InputError, ShapeError

RNG = np.random.default_rng(0)
VERTICES, SPHERE_FACES = sphere(6)
N = len(VERTICES)
IDS, WEIGHTS = bones(RNG, N, 24)
MAPS = f32(np.tile(np.eye(3, 4), (N, 1, 1)))
POSE, JOINTS = f32(RNG.normal(0, 0.3, (2, 24, 3)))
OFFSETS = f32(RNG.normal(0, 0.01, (N, 3)))
TRANSFORMS, _ = kernels.joint_transforms(POSE, JOINTS, SMPL_PARENTS)
RASTER = kernels.rasterize(VERTICES, SPHERE_FACES, frontal_camera(16))
FIELD, SHELL = random_field(), random_shell()
PACKED = kernels.march_samples(SHELL, camera(8, 6))
SAMPLES = len(PACKED.ray)
TRAINER = kernels.FieldTrainer(SMALL, 0, lo=LO, hi=HI)


@dataclass(frozen=True)
class Face:
    """A kernel, and its array arguments by name."""

    call: Callable[..., Any]
    arrays: dict[str, Any]


def composite(offsets: Any, delta: Any, sigma: Any, rgb: Any) -> Any:
    return kernels.composite(replace(PACKED, offsets=offsets, delta=delta), sigma, rgb)


def field_of(table: Any, density_mlp: Any, colour_mlp: Any, lo: Any, hi: Any) -> Any:
    field = kernels.HashField(SMALL, table, density_mlp, colour_mlp, lo, hi)
    return kernels.field_density(field, np.zeros((1, 3)))


def from_tcnn(density_and_grid: Any, colour: Any) -> Any:
    field = kernels.HashField.from_tcnn(SMALL, density_and_grid, colour, lo=LO, hi=HI)
    return kernels.field_density(field, np.zeros((1, 3)))


def raster_of(face_id: Any, barycentric: Any, depth: Any) -> Any:
    raster = kernels.Raster(face_id, barycentric, depth)
    return kernels.interpolate(raster, SPHERE_FACES, VERTICES)


def queried(points: Any) -> Any:
    return SHELL.query(points)


def shell_of(vertices: Any, maps: Any) -> Any:
    return kernels.PosedShell(vertices, maps, radius_m=0.05).query(VERTICES)


def gradients(x: Any, d: Any, sigma: Any, rgb: Any, weight: Any) -> Any:
    return TRAINER.gradients(x, d, sigma, rgb, weight=weight).table


def sampled(pixels: Any) -> Any:
    return kernels.march_samples(SHELL, camera(8, 6), pixels=pixels).canonical


FACES = {
    "rodrigues": Face(kernels.rodrigues, {"rotvec": POSE}),
    "joint_transforms": Face(
        kernels.joint_transforms,
        {"rotations": POSE, "joints": JOINTS, "parents": np.array(SMPL_PARENTS)},
    ),
    "pose_offsets": Face(
        kernels.pose_offsets,
        {"rotations": POSE, "posedirs": f32(RNG.normal(0, 0.01, (N, 3, 207)))},
    ),
    "shape_offsets": Face(
        kernels.shape_offsets,
        {"betas": f32(RNG.normal(0, 1, 10)), "shapedirs": f32(RNG.normal(0, 0.01, (N, 3, 10)))},
    ),
    "skin": Face(
        kernels.skin,
        {"vertices": VERTICES, "transforms": TRANSFORMS, "bone_ids": IDS, "bone_weights": WEIGHTS},
    ),
    "inverse_maps": Face(
        kernels.inverse_maps,
        {
            "target_transforms": TRANSFORMS,
            "target_offsets": OFFSETS,
            "canonical_transforms": TRANSFORMS,
            "canonical_offsets": OFFSETS,
            "bone_ids": IDS,
            "bone_weights": WEIGHTS,
        },
    ),
    "vertex_normals": Face(
        kernels.vertex_normals, {"vertices": VERTICES, "faces": SPHERE_FACES}
    ),
    "rasterize": Face(
        lambda vertices, faces: kernels.rasterize(vertices, faces, frontal_camera(16)).depth,
        {"vertices": VERTICES, "faces": SPHERE_FACES},
    ),
    "render_normals": Face(
        lambda vertices, faces: kernels.render_normals(vertices, faces, frontal_camera(16))[0],
        {"vertices": VERTICES, "faces": SPHERE_FACES},
    ),
    "Raster": Face(
        raster_of,
        {"face_id": RASTER.face_id, "barycentric": RASTER.barycentric, "depth": RASTER.depth},
    ),
    "interpolate": Face(
        lambda faces, attributes: kernels.interpolate(RASTER, faces, attributes),
        {"faces": SPHERE_FACES, "attributes": VERTICES},
    ),
    "sample_texture": Face(
        lambda uv, uv_faces, texture: kernels.sample_texture(RASTER, uv, uv_faces, texture),
        {
            "uv": f32(RNG.random((N, 2))),
            "uv_faces": SPHERE_FACES,
            "texture": f32(RNG.random((5, 4, 3))),
        },
    ),
    "PosedShell": Face(shell_of, {"vertices": VERTICES, "maps": MAPS}),
    "PosedShell.query": Face(queried, {"points": VERTICES * 0.1}),
    "field_forward": Face(
        lambda x, d: kernels.field_forward(FIELD, x, d)[1], {"x": VERTICES, "d": VERTICES}
    ),
    "field_density": Face(lambda x: kernels.field_density(FIELD, x), {"x": VERTICES}),
    "HashField": Face(
        field_of,
        {
            "table": FIELD.table,
            "density_mlp": FIELD.density_mlp,
            "colour_mlp": FIELD.colour_mlp,
            "lo": LO,
            "hi": HI,
        },
    ),
    "HashField.from_tcnn": Face(
        from_tcnn, {"density_and_grid": FIELD.tcnn_params(), "colour": FIELD.colour_mlp}
    ),
    "FieldTrainer": Face(
        gradients,
        {"x": VERTICES * 0.2, "d": VERTICES, "sigma": WEIGHTS[:, 0], "rgb": VERTICES,
         "weight": WEIGHTS[:, 0]},
    ),
    "march_samples": Face(sampled, {"pixels": np.array([[0, 0], [4, 3], [7, 5]])}),
    "composite": Face(
        composite,
        {
            "offsets": PACKED.offsets,
            "delta": PACKED.delta,
            "sigma": f32(RNG.random(SAMPLES)),
            "rgb": f32(RNG.random((SAMPLES, 3))),
        },
    ),
    "upsample": Face(
        lambda picture: kernels.upsample(picture, height=7, width=9),
        {"picture": f32(RNG.random((4, 5, 3)))},
    ),
}  # fmt: skip
WILD = np.array([0, 1e-45, 1e-30, 1e-8, 0.3, 1, 100, 1e8, 2.2e9, 1e19, 1e30, 3.4e38])
ARGUMENTS = [(face, name) for face, of in FACES.items() for name in of.arrays]
FLOATS = [(f, n) for f, n in ARGUMENTS if np.asarray(FACES[f].arrays[n]).dtype.kind == "f"]
EVERY = pytest.mark.parametrize(("face", "name"), ARGUMENTS)


def call(face: str, **spoiled: Any) -> Any:
    return FACES[face].call(**{**FACES[face].arrays, **spoiled})


def flat(result: Any) -> np.ndarray:
    """The arrays of a result, one after the other."""
    parts = result if isinstance(result, tuple) else (result,)
    return np.concatenate([np.asarray(p, np.float64).ravel() for p in parts])


def names(face: str) -> str:
    """A pattern for messages that begin with the name of one of the face's arguments."""
    return rf"^([\w.]+\.)?({'|'.join([*FACES[face].arrays, 'face_id'])}): "


class OnGpu:
    """What CuPy and PyCUDA hand over."""

    __cuda_array_interface__ = {"shape": (3, 3), "typestr": "<f4", "data": (0, True), "version": 3}  # noqa: RUF012


class Stubborn:
    """What torch hands over from a device or with a gradient."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@EVERY
@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: None,
        lambda a: "vertices",
        lambda a: [[1, 2], [3]],
        lambda a: np.asarray(a, complex),
        lambda a: np.asarray(a, object),
        lambda a: OnGpu(),
        lambda a: Stubborn(),
    ],
    ids=["none", "text", "ragged", "complex", "objects", "gpu", "stubborn"],
)
def test_what_is_no_array_of_numbers_is_refused(
    face: str, name: str, spoil: Callable[[Any], Any]
) -> None:
    if name in {"weight", "pixels"} and spoil(FACES[face].arrays[name]) is None:
        return  # optional
    with pytest.raises(ShapeError, match=rf"^([\w.]+\.)?{name}: expected"):
        call(face, **{name: spoil(FACES[face].arrays[name])})


@EVERY
def test_values_that_are_not_finite_are_refused(face: str, name: str) -> None:
    good = np.asarray(FACES[face].arrays[name])
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = good.astype(np.float32)
        spoiled.flat[spoiled.size // 2] = bad
        if face == "Raster":  # made for every frame, so its values are not read
            assert good.dtype != np.float32 or flat(call(face, **{name: spoiled})).size
            continue
        with pytest.raises(ShapeError, match=rf"^([\w.]+\.)?{name}: "):
            call(face, **{name: spoiled})


@EVERY
def test_another_number_of_dimensions_or_columns_is_refused(face: str, name: str) -> None:
    good = np.asarray(FACES[face].arrays[name])
    channels = {"attributes", "texture", "picture"}  # of any number
    wide = [] if name in channels else [np.repeat(good, 2, axis=-1)]
    for bad in (good[None, None], good[..., None, None], good[0], *wide):
        with pytest.raises(ShapeError, match=names(face)):
            call(face, **{name: bad})


@EVERY
def test_any_layout_gives_the_same_result(face: str, name: str) -> None:
    """Strides, byte order, order of dimensions, read-only memory."""
    good = np.asarray(FACES[face].arrays[name])
    want = flat(call(face))
    sparse = np.repeat(good, 2, axis=0)[::2]
    frozen = good.copy()
    frozen.flags.writeable = False
    layouts = [sparse, np.asfortranarray(good), good[::-1].copy()[::-1], frozen]
    if (
        name not in {"posedirs", "shapedirs", "texture"} and face != "Raster"
    ):  # large, or made for every frame
        layouts += [good.astype(good.dtype.newbyteorder()), good.astype(np.float64)]
        layouts += [good.tolist()]
    for layout in layouts:
        if good.dtype.kind == "i" and np.asarray(layout).dtype.kind == "f":
            continue
        np.testing.assert_array_equal(flat(call(face, **{name: layout})), want)


@EVERY
@given(data=st.data())
@settings(max_examples=25)
def test_other_lengths_give_a_clear_error_or_a_result(
    face: str, name: str, data: st.DataObject
) -> None:
    good = np.asarray(FACES[face].arrays[name])
    rows = data.draw(st.integers(0, 2 * len(good)))
    spoiled = np.resize(good, (rows, *good.shape[1:])) if rows else good[:0]
    message, result = "", np.zeros(0)
    try:
        result = flat(call(face, **{name: spoiled}))
    except InputError as error:
        message = str(error)
    assert not message or re.match(names(face), message), message
    assert not np.isnan(result).any()


@pytest.mark.parametrize(("face", "name"), FLOATS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_wild_numbers_never_crash(face: str, name: str, seed: int) -> None:
    """Of any size, from subnormal to the largest: a clear error or some result."""
    good = np.asarray(FACES[face].arrays[name])
    rng = np.random.default_rng(seed)
    wild = rng.choice(WILD, good.shape) * rng.choice([-1, 1], good.shape)
    spoiled = np.where(rng.random(good.shape) < rng.choice([0.01, 0.5, 1]), wild, good)
    try:
        call(face, **{name: spoiled.astype(np.float32)})
    except InputError as error:
        assert re.match(names(face), str(error)), error  # noqa: PT017


@pytest.mark.parametrize(("face", "name"), [at for at in ARGUMENTS if at not in FLOATS])
def test_indices_out_of_range_are_refused(face: str, name: str) -> None:
    good = np.asarray(FACES[face].arrays[name])
    for bad in (-2, 1 << 20, np.iinfo(np.int32).min, np.iinfo(np.int32).max, 1 << 40):
        if name == "parents" and bad < 0:
            continue  # a root
        spoiled = good.astype(np.int64)
        spoiled.flat[spoiled.size // 2] = bad
        with pytest.raises(ShapeError, match=names(face)):
            call(face, **{name: spoiled})


def test_nothing_in_gives_nothing_out() -> None:
    none = np.zeros((0, 3), np.float32)
    assert kernels.rodrigues(none).shape == (0, 3, 3)
    assert kernels.skin(none, TRANSFORMS, IDS[:0], WEIGHTS[:0]).shape == (0, 3)
    assert kernels.vertex_normals(none, SPHERE_FACES[:0]).shape == (0, 3)
    assert not kernels.rasterize(none, SPHERE_FACES[:0], frontal_camera(4)).mask.any()
    assert SHELL.query(none)[1].shape == (0, 3)
    sigma, rgb = kernels.field_forward(FIELD, none, none)
    assert sigma.shape == (0,)
    assert rgb.shape == (0, 3)
    packed = kernels.march_samples(SHELL, camera(8, 6), pixels=np.zeros((0, 2), np.int32))
    assert packed.canonical.shape == (0, 3)
    assert kernels.composite(packed, none[:, 0], none)[0].shape == (0, 3)


@given(
    st.sampled_from(["inside", "behind", "beside", "far", "enormous lens"]),
    st.floats(0, 6.3),
    st.sampled_from(["baked", "fast"]),
)
def test_cameras_anywhere_give_finite_pictures(where: str, turn: float, mode: Any) -> None:
    view = camera(9, 7, turn=turn)
    places = {
        "inside": [0, 0, 0],
        "behind": [0, 0, -3],
        "beside": [50, 0, 1],
        "far": [0, 0, 1e6],
        "enormous lens": [0, 0, 1],
    }
    k = view.intrinsics * (np.diag([1e6, 1e6, 1]) if where == "enormous lens" else 1)
    view = Camera(k, view.rotation, places[where], 9, 7)
    rgb, alpha = kernels.march(SHELL, FIELD, view, mode=mode)
    assert np.isfinite(rgb).all()
    assert ((alpha >= 0) & (alpha <= 1)).all()
    if where in {"behind", "beside"}:
        assert not alpha.any()
    raster = kernels.rasterize(VERTICES, SPHERE_FACES, view)
    assert np.isfinite(raster.barycentric).all()
    assert not raster.mask.any() or where not in {"behind", "beside"}
    picture, mask = kernels.render_normals(VERTICES, SPHERE_FACES, view)
    assert np.isfinite(picture).all()
    assert not picture[~mask].any()


def test_ten_million_samples() -> None:
    points = np.zeros((10_000_000, 3), np.float32)
    points[:, 0] = np.linspace(-1, 1, len(points), dtype=np.float32)
    config = kernels.HashGridConfig(levels=1, features=1, log2_table=6, base_resolution=4)
    sigma = kernels.field_density(random_field(config), points, threads=2)
    assert sigma.shape == (10_000_000,)
    assert np.isfinite(sigma).all()
    shell = identity_shell(np.zeros((1, 3), np.float32), radius_m=0.25)
    inside = shell.query(points)[0] == 0
    assert abs(int(inside.sum()) - 2_500_000) < 5


def test_a_list_of_more_samples_than_memory_holds_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match=r"^camera: 268435456 rays .* ask for some `pixels`"):
        kernels.march_samples(SHELL, camera(16384, 16384), samples=1024)
