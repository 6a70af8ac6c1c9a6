"""The body model against smplx, and its way back into canonical space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gas_rt.body import MIRROR, BodyModel, procedural_motion
from gas_rt.body.smpl_file import MAX_CROWD, checked_arrays
from gas_rt.core import Pose
from gas_rt.errors import FileError, ShapeError

TOLERANCE_M = 1e-5


def smplx_lbs(
    model: BodyModel, betas: NDArray[Any], pose: Pose
) -> tuple[NDArray[Any], NDArray[Any]]:
    """smplx's own skinning on the same arrays, in double precision."""
    torch = pytest.importorskip("torch")
    lbs = pytest.importorskip("smplx.lbs").lbs
    weights = np.zeros((model.vertex_count, 24))
    np.add.at(weights, (np.arange(len(weights))[:, None], model.bone_ids), model.bone_weights)

    def double(array: NDArray[Any]) -> Any:
        return torch.as_tensor(np.asarray(array, np.float64))

    vertices, joints = lbs(
        double(betas)[None],
        double(pose.rotations.reshape(1, -1)),
        double(model.template),
        double(model.shapedirs),
        double(model.posedirs.reshape(-1, 207).T),
        double(model.joint_regressor),
        torch.as_tensor(model.parents.astype(np.int64)),
        double(weights),
    )
    shift = pose.translation.astype(np.float64)
    return vertices[0].numpy() + shift, joints[0].numpy() + shift


def random_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    rotations = rng.normal(0, 0.6, (24, 3))
    rotations[rng.integers(24)] = 0
    return Pose(rotations, rng.normal(0, 1, 3))


@pytest.mark.parametrize("seed", range(4))
def test_random_model_agrees_with_smplx(arrays: dict[str, NDArray[Any]], seed: int) -> None:
    model = BodyModel.from_arrays(arrays)
    betas = np.random.default_rng(seed).normal(0, 1.5, 10).astype(np.float32)
    pose = random_pose(seed)
    posed = model.pose(betas, pose)
    vertices, joints = smplx_lbs(model, betas, pose)
    assert np.abs(posed.vertices - vertices).max() < TOLERANCE_M
    assert np.abs(posed.joints - joints).max() < TOLERANCE_M


@pytest.mark.parametrize("seed", range(3))
def test_bundled_body_agrees_with_smplx(bundled: BodyModel, seed: int) -> None:
    betas = np.random.default_rng(seed).normal(0, 1.5, 10).astype(np.float32)
    pose = random_pose(seed)
    posed = bundled.pose(bundled.shape(betas), pose)
    vertices, joints = smplx_lbs(bundled, betas, pose)
    assert np.abs(posed.vertices - vertices).max() < TOLERANCE_M
    assert np.abs(posed.joints - joints).max() < TOLERANCE_M


def test_big_pose_is_the_published_one(bundled: BodyModel) -> None:
    flat = np.rad2deg(bundled.big_pose.rotations.reshape(-1))
    expected = np.zeros(72)
    expected[[5, 8, 23, 26]] = [45, -45, -30, 30]
    np.testing.assert_allclose(flat, expected, atol=1e-4)


def test_canonical_does_not_depend_on_the_identity(bundled: BodyModel) -> None:
    assert bundled.canonical() is bundled.canonical()
    np.testing.assert_array_equal(
        bundled.canonical().vertices, bundled.pose(np.zeros(10), bundled.big_pose).vertices
    )


@pytest.mark.parametrize("name", ["walk", "squat"])
def test_inverse_maps_take_every_vertex_home(bundled: BodyModel, name: str) -> None:
    betas = np.linspace(-1.5, 1.5, 10)
    posed = bundled.pose(betas, procedural_motion(name, 20).pose(7))
    maps = bundled.inverse_maps(posed)
    home = np.einsum("vij,vj->vi", maps[:, :, :3], posed.vertices) + maps[:, :, 3]
    assert np.abs(home - bundled.canonical().vertices).max() < 2e-4


def test_mirrored_pose_gives_the_mirrored_body(bundled: BodyModel) -> None:
    pose = random_pose(5)
    flip = np.array([-1, 1, 1], np.float32)
    mirrored = Pose(pose.rotations[list(MIRROR)] * [1, -1, -1], pose.translation * flip)
    one = bundled.pose(np.ones(3), pose).vertices
    other = bundled.pose(np.ones(3), mirrored).vertices
    assert np.abs(one[bundled.extras["mirror"]] * flip - other).max() < 1e-4


def test_normals_point_outward(bundled: BodyModel) -> None:
    posed = bundled.pose([], Pose.rest())
    chest = posed.vertices[:, 2].argmax()
    assert posed.normals is posed.normals
    assert posed.normals[chest, 2] > 0.5


def test_too_many_betas(bundled: BodyModel) -> None:
    with pytest.raises(ShapeError, match="10 shape directions, got 16"):
        bundled.shape(np.zeros(16))


def test_betas_with_nan(bundled: BodyModel) -> None:
    with pytest.raises(ShapeError, match="betas"):
        bundled.shape([np.nan])


def test_save_and_open(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    arrays |= {"uv": np.random.default_rng(0).random((7, 2)), "uv_faces": arrays["f"] % 7}
    arrays["part"] = np.zeros(60, np.uint8)
    model = BodyModel.from_arrays(arrays)
    model.save(tmp_path / "body.npz")
    back = BodyModel.open(tmp_path / "body.npz")
    pose = random_pose(1)
    np.testing.assert_allclose(
        back.pose([1, 2], pose).vertices, model.pose([1, 2], pose).vertices, atol=1e-6
    )
    assert back.uv is not None
    np.testing.assert_array_equal(back.uv_faces, model.uv_faces)
    assert back.extras["part"].shape == (60,)


def test_three_hundred_components_are_cut_to_ten(arrays: dict[str, NDArray[Any]]) -> None:
    arrays["shapedirs"] = np.tile(arrays["shapedirs"], (1, 1, 30))
    assert BodyModel.from_arrays(arrays).shape_count == 10


@pytest.mark.parametrize("root", [2**32 - 1, -1])
def test_root_parent_spellings(arrays: dict[str, NDArray[Any]], root: int) -> None:
    arrays["kintree_table"] = arrays["kintree_table"].astype(np.int64)
    arrays["kintree_table"][0, 0] = root
    assert BodyModel.from_arrays(arrays).parents[0] == -1


def _with(key: str, change: Any) -> Any:
    def apply(arrays: dict[str, NDArray[Any]]) -> None:
        arrays[key] = change(arrays[key])

    return apply


def _set(array: NDArray[Any], index: Any, value: float) -> NDArray[Any]:
    array = array.copy()
    array[index] = value
    return array


MALFORMED = {
    "missing_key": (lambda a: a.pop("weights"), "weights missing"),
    "nan_template": (_with("v_template", lambda x: _set(x, (0, 0), np.nan)), "v_template.*NaN"),
    "template_shape": (_with("v_template", lambda x: x[:, :2]), "v_template.*shape"),
    "empty": (_with("v_template", lambda x: x[:0]), "v_template.*got 0"),
    "template_in_micrometres": (_with("v_template", lambda x: x * 1e6), "v_template: reaches"),
    "shapedirs_rank": (_with("shapedirs", lambda x: x[:, :, 0]), "shapedirs.*shape"),
    "shapedirs_empty": (_with("shapedirs", lambda x: x[:, :, :0]), "shapedirs.*shape"),
    "shapedirs_other_mesh": (_with("shapedirs", lambda x: x[:-1]), "shapedirs.*shape"),
    "posedirs_flat": (_with("posedirs", lambda x: x.reshape(207, -1)), "posedirs.*shape"),
    "posedirs_inf": (_with("posedirs", lambda x: _set(x, (0, 0, 0), np.inf)), "posedirs.*NaN"),
    "regressor_shape": (_with("J_regressor", lambda x: x.T), "J_regressor.*shape"),
    "regressor_text": (_with("J_regressor", lambda x: x.astype(str)), "J_regressor.*numbers"),
    "weights_sum": (_with("weights", lambda x: x * 0.9), "weights: vertex .* sums to 0.9"),
    "weights_negative": (_with("weights", lambda x: -x), "weights: must not be negative"),
    "weights_spread": (
        _with("weights", lambda x: np.full_like(x, 1 / 24)),
        "weights.*more than four joints",
    ),
    "face_out_of_range": (_with("f", lambda x: _set(x, (3, 1), 60)), r"f: face 3 .*0 to 59"),
    "face_negative": (_with("f", lambda x: _set(x.astype(int), (0, 0), -2)), "f: face 0"),
    "face_floats": (_with("f", lambda x: x.astype(float)), "f: expected integers"),
    "root_has_parent": (_with("kintree_table", lambda x: _set(x, (0, 0), 3)), "no parent"),
    "parent_after_child": (
        _with("kintree_table", lambda x: _set(x, (0, 4), 9)),
        "joint 4 has parent 9",
    ),
    "tree_ids": (_with("kintree_table", lambda x: _set(x, (1, 4), 9)), "row 1 must be"),
    "tree_of_smplh": (_with("kintree_table", lambda x: np.tile(x, 2)), "kintree_table.*shape"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_body(tmp_path: Path, arrays: dict[str, NDArray[Any]], case: str) -> None:
    change, message = MALFORMED[case]
    change(arrays)
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(FileError, match=message):
        BodyModel.open(tmp_path / "body.npz")


def test_a_crowd_of_vertices_in_one_place(arrays: dict[str, NDArray[Any]]) -> None:
    count = MAX_CROWD + 1
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        arrays[key] = np.repeat(arrays[key][:1], count, axis=0)
    arrays["J_regressor"] = np.zeros((24, count), np.float32)
    with pytest.raises(FileError, match=f"{count} vertices share"):
        checked_arrays("body.npz", arrays)


def test_malformed_uv(arrays: dict[str, NDArray[Any]]) -> None:
    arrays |= {"uv": np.zeros((5, 2)), "uv_faces": arrays["f"][:-1] % 5}
    with pytest.raises(FileError, match="uv_faces: expected one per face"):
        BodyModel.from_arrays(arrays)


def test_pickled_regressor_is_never_loaded(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    arrays["J_regressor"] = np.array([{"sparse": 1}], dtype=object)
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(FileError, match="without objects"):
        BodyModel.open(tmp_path / "body.npz")
