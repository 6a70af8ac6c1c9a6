"""Enrolment and the avatar file: round trip, damage, and files of other bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.ndimage import binary_dilation

import gas_rt
from gas_rt import Avatar, BodyFit, Model
from gas_rt.errors import FileError, GasRtWarning, InputError
from gas_rt.tensor_file import read_tensor_header
from reference.data import Geometry, Picture
from reference.nerf import PRESETS
from tests.toy_bundle import manifest_of, rewrite
from tests.toy_person import NO_BAKE, QUICK_BAKE, RADIUS_M, ToyPerson


@pytest.fixture
def file(avatar: Avatar, tmp_path: Path) -> Path:
    avatar.save(tmp_path / "a.avatar")
    return tmp_path / "a.avatar"


def rewritten(
    file: Path,
    change: Callable[[dict[str, np.ndarray], dict[str, str]], None],
) -> Path:
    """The file with its tensors or metadata changed, well-formed as safetensors."""
    metadata = dict(read_tensor_header(file, what="x").metadata)
    tensors = load_file(file)
    change(tensors, metadata)
    save_file(tensors, file, metadata)
    return file


def test_an_opened_avatar_renders_the_same_bits(
    toy_model: Model, avatar: Avatar, file: Path, person: ToyPerson
) -> None:
    opened = Avatar.open(file)
    for mode in ("fast", "exact"):
        one = toy_model.performer(avatar, mode=mode).picture(person.pose, person.camera)  # type: ignore[arg-type]
        two = toy_model.performer(opened, mode=mode).picture(person.pose, person.camera)  # type: ignore[arg-type]
        np.testing.assert_array_equal(one.rgb, two.rgb)
        np.testing.assert_array_equal(one.alpha, two.alpha)
    assert opened.bundle == avatar.bundle
    np.testing.assert_array_equal(opened.rgb, person.rgb)


def test_enrolment_is_deterministic_and_reports_progress(
    toy_model: Model, avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    shares: list[float] = []
    doing: list[str] = []

    def progress(share: float, what: str) -> None:
        shares.append(share)
        doing.append(what)

    again = toy_model.enroll(
        person.rgb, person.fit, person.mask, bake=QUICK_BAKE, progress=progress
    )
    avatar.save(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert "baking the field" in doing


def test_the_bake_resembles_the_teacher_in_the_persons_box(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    exact = toy_model.performer(avatar, mode="exact")
    baked = toy_model.performer(avatar, mode="baked")
    error = count = 0.0
    for request in person.requests(4, side=96):
        truth = exact.picture(request.pose, request.camera)
        found = baked.picture(request.pose, request.camera)
        rows, columns = np.nonzero(truth.alpha)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        difference = truth.rgb[box].astype(float) - found.rgb[box]
        error += float((difference**2).sum())
        count += difference.size
    # A bake of a second, of a toy whose colour jumps from vertex to vertex; shipped ones reach 30.
    assert 10 * np.log10(255**2 * count / error) > 19


def test_the_exact_render_shows_the_photo(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    """The toy teacher paints the photo onto the shell, so inside the body they agree."""
    picture = toy_model.performer(avatar, mode="exact").picture(person.pose, person.camera)
    inside = person.mask.copy()
    for axis in (0, 1):
        inside &= np.roll(person.mask, 4, axis) & np.roll(person.mask, -4, axis)
    difference = np.abs(picture.rgb.astype(int) - person.rgb)[inside]
    assert np.median(difference) < 6
    assert picture.alpha[inside].min() > 200


def test_a_photo_may_be_larger_and_off_centre(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    """Enlarged threefold and pushed into a corner of a wide picture, the person stays the same."""
    wide = np.zeros((3 * 128 + 40, 700, 3), np.uint8)
    wide[20 : 20 + 384, 200 : 200 + 384] = person.rgb.repeat(3, 0).repeat(3, 1)
    camera = person.camera.resized(width=384, height=384)
    k = camera.intrinsics.copy()
    k[:2, 2] += [200, 20]
    moved = gas_rt.Camera(k, camera.rotation, camera.translation, 700, 424)
    other = toy_model.enroll(wide, BodyFit(person.fit.betas, person.pose, moved), bake=NO_BAKE)
    one = toy_model.performer(avatar, mode="exact").picture(person.pose, person.camera)
    two = toy_model.performer(other, mode="exact").picture(person.pose, person.camera)
    assert np.abs(one.rgb.astype(int) - two.rgb).mean() < 3


def test_enrolment_refuses_bad_input(toy_model: Model, person: ToyPerson, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("no picture")
    with pytest.raises(FileError, match="not a PNG"):
        toy_model.enroll(tmp_path / "photo.png", person.fit)
    with pytest.raises(InputError, match="mask: is 64×64, the photo 128×128"):
        toy_model.enroll(person.rgb, person.fit, np.ones((64, 64), bool))
    with pytest.raises(InputError, match="shows no person"):
        toy_model.enroll(person.rgb, person.fit, np.zeros((128, 128), bool))
    with pytest.raises(FileError, match="no such file"):
        toy_model.enroll(person.rgb, tmp_path / "none.npz")


@pytest.mark.parametrize("key", ["betas", "rotations", "intrinsics", "width"])
def test_a_fit_that_lacks_a_key_is_named(
    toy_model: Model, person: ToyPerson, tmp_path: Path, key: str
) -> None:
    person.fit.save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != key}
    np.savez(tmp_path / "fit.npz", **kept)
    with pytest.raises(FileError, match=f"{key} missing"):
        toy_model.enroll(person.rgb, tmp_path / "fit.npz")


def test_a_fit_with_nan_is_named(toy_model: Model, person: ToyPerson, tmp_path: Path) -> None:
    person.fit.save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as arrays:
        kept = {name: arrays[name].copy() for name in arrays.files}
    kept["rotations"][5, 0] = np.nan
    np.savez(tmp_path / "fit.npz", **kept)
    with pytest.raises(FileError, match=r"rotations: 1 of 72 values are NaN"):
        toy_model.enroll(person.rgb, tmp_path / "fit.npz")


@pytest.mark.parametrize("keep", [0, 5, 200, 20_000, -1])
def test_a_truncated_avatar(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FileError, match="truncated"):
        Avatar.open(file)


@pytest.mark.parametrize("content", [b"PK\x03\x04" * 100, b"hello" * 100, bytes(500)])
def test_a_foreign_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(FileError, match=r"not a gas-rt avatar|not JSON|not a"):
        Avatar.open(file)


def test_a_safetensors_file_of_something_else(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "x")
    with pytest.raises(FileError, match="its metadata lack 'gas_rt_avatar'"):
        Avatar.open(tmp_path / "x")


def change_metadata(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        description = json.loads(metadata["gas_rt_avatar"])
        description[key] = value
        metadata["gas_rt_avatar"] = json.dumps(description)

    return change


def change_tensor(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = np.ascontiguousarray(value(tensors.get(name)))

    return change


def poisoned(array: np.ndarray) -> np.ndarray:
    out = array.copy()
    out.reshape(-1)[0] = np.nan
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_metadata("format_version", 9), "avatar format 9"),
        (change_metadata("grid", 3), "metadata cannot be read"),
        (change_metadata("grid", {"levels": 99}), "levels"),
        (change_metadata("grid", {"levels": 7}), "metadata describe"),
        (change_metadata("bundle", []), "metadata cannot be read"),
        (change_metadata("occupancy_resolution", 10**9), "metadata describe"),
        (change_metadata("occupancy_resolution", "many"), "metadata cannot be read"),
        (change_tensor("betas", None), "missing or unknown: betas"),
        (change_tensor("extra", lambda _: np.zeros(3, np.float32)), "missing or unknown: extra"),
        (change_tensor("betas", lambda a: a.astype(np.float16)), "'betas' is float16"),
        (change_tensor("betas", poisoned), "'betas' holds NaN"),
        (change_tensor("field.table", poisoned), "'field.table' holds NaN"),
        (change_tensor("field.density_mlp", lambda a: a[:-1]), "density_mlp: expected shape"),
        (change_tensor("pose.rotations", lambda a: a[:20]), r"Pose\.rotations"),
        (change_tensor("camera.rotation", lambda a: a * 2), r"Camera\.rotation"),
        (change_tensor("reference.rgb", lambda a: a[:, :64]), "square picture"),
        (change_tensor("reference.mask", lambda a: a[:64]), r"reference\.mask"),
        (change_tensor("shell.radius_m", lambda a: a * 0), r"shell\.radius_m: expected a length"),
        (change_tensor("shell.radius_m", lambda a: a * 99), r"shell\.radius_m: expected a length"),
        (change_tensor("shell.radius_m", lambda a: a[:0]), r"shell\.radius_m: expected shape"),
    ],
)
def test_a_damaged_avatar_is_named(
    file: Path,
    change: Callable[[dict[str, Any], dict[str, str]], None],
    message: str,
) -> None:
    with pytest.raises(FileError, match=message):
        Avatar.open(rewritten(file, change))


def test_a_person_in_wide_clothes_has_a_wider_shell(
    toy_model: Model, avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    lower = person.mask.copy()
    lower[: np.flatnonzero(person.mask.any(1)).mean().astype(int) + 6] = False
    cloth = person.mask | binary_dilation(lower, np.ones((1, 19)))
    worn = np.where(person.mask[..., None], person.rgb, 90).astype(np.uint8) * cloth[..., None]
    clad = toy_model.enroll(worn, person.fit, cloth, bake=NO_BAKE)
    assert clad.radius_m > avatar.radius_m == RADIUS_M
    vertices = toy_model.parts.body.canonical().vertices
    reach = np.full((len(vertices), 1), RADIUS_M)
    reach[toy_model.parts.body.loose_vertices] = clad.radius_m
    for box, sign in ((clad.field.lo, -1), (clad.field.hi, 1)):
        assert (sign * (vertices + sign * reach) <= sign * box).all()
    grown = np.concatenate([avatar.field.lo - clad.field.lo, clad.field.hi - avatar.field.hi])
    assert grown.min() == pytest.approx(0, abs=1e-6)  # above the head
    assert grown.max() == pytest.approx(clad.radius_m - RADIUS_M, abs=1e-6)  # below the feet

    clad.save(tmp_path / "clad.avatar")
    opened = toy_model.open_avatar(tmp_path / "clad.avatar")
    assert opened.radius_m == clad.radius_m
    # The toy's field is opaque wherever there is a shell.
    bare = toy_model.performer(avatar, mode="exact").picture(person.pose, person.camera)
    assert bare.rgb[cloth].any(-1).mean() < 0.9
    baked = toy_model.enroll(worn, person.fit, cloth, bake=QUICK_BAKE)
    for mode, one in (("exact", opened), ("baked", baked), ("fast", baked)):
        shown = toy_model.performer(one, mode=mode).picture(person.pose, person.camera)
        assert shown.rgb[cloth].any(-1).mean() > 0.97

    # Training draws its samples from the same shell.
    field = replace(PRESETS["tiny"][0], shell_radius_m=RADIUS_M)
    photo = Picture(worn, cloth.astype(np.uint8) * 255, person.pose, person.camera)
    trained = Geometry(toy_model.parts.body, field).photo(person.fit.betas, photo)
    assert trained.radius_m == clad.radius_m


def test_a_mask_that_cannot_be_clothes_is_told(toy_model: Model, person: ToyPerson) -> None:
    with pytest.warns(GasRtWarning, match=r"0\.25 m off hips and legs is cut.*check that mask"):
        toy_model.enroll(person.rgb, person.fit, np.ones_like(person.mask), bake=NO_BAKE)


def test_a_shell_that_the_bundle_does_not_make(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    for radius_m in (0.05, 0.4):
        with pytest.raises(FileError, match=rf"its shell is {radius_m} m wide, bundle toy"):
            toy_model.session(replace(avatar, radius_m=radius_m))


def test_teacher_features_of_another_shape(file: Path, toy_model: Model) -> None:
    rewritten(file, change_tensor("teacher.planes", lambda a: a[:, :2]))
    with pytest.raises(FileError, match=r"teacher\.planes has shape"):
        toy_model.open_avatar(file)


@pytest.fixture
def diffusion_file(diffusion_avatar: Avatar, tmp_path: Path) -> Path:
    diffusion_avatar.save(tmp_path / "d.avatar")
    return tmp_path / "d.avatar"


def test_the_photo_of_stage_2_survives_the_file(
    diffusion_model: Model, diffusion_avatar: Avatar, diffusion_file: Path
) -> None:
    opened = diffusion_model.open_avatar(diffusion_file)
    for name in ("latent", "embedding"):
        stored, kept = getattr(opened, name), getattr(diffusion_avatar, name)
        np.testing.assert_array_equal(stored, kept)
        assert stored.dtype == np.float32


def test_a_bundle_without_stage_2_stores_none(avatar: Avatar, file: Path) -> None:
    assert (avatar.latent, avatar.embedding) == (None, None)
    assert not any("latent" in name for name in load_file(file))


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_earlier_formats_are_refused(file: Path, version: int) -> None:
    rewritten(file, change_metadata("format_version", version))
    expected = rf"avatar format {version}, .* reads 3; enroll the photo again"
    with pytest.raises(FileError, match=expected):
        Avatar.open(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_tensor("reference.latent", None), "missing or unknown: reference.latent"),
        (change_tensor("reference.embedding", None), "missing or unknown: reference.embedding"),
        (change_tensor("reference.latent", poisoned), "'reference.latent' holds NaN"),
        (
            change_tensor("reference.latent", lambda a: a[0]),
            r"reference\.latent has shape \[8, 8\], bundle toy 0\.0\.1 makes \[4, 8, 8\]",
        ),
        (
            change_tensor("reference.embedding", lambda a: a[:-1]),
            r"reference\.embedding has shape \[2\], .* makes \[3\]",
        ),
        (
            change_tensor("reference.latent", lambda a: a.astype(np.float16)),
            "'reference.latent' is float16, expected F32",
        ),
    ],
)
def test_a_damaged_photo_of_stage_2_is_named(
    diffusion_file: Path,
    diffusion_model: Model,
    change: Callable[[dict[str, np.ndarray], dict[str, str]], None],
    message: str,
) -> None:
    rewritten(diffusion_file, change)
    with pytest.raises(FileError, match=message):
        diffusion_model.open_avatar(diffusion_file)


def test_a_bundle_with_stage_2_wants_its_tensors(
    diffusion_file: Path, diffusion_model: Model
) -> None:
    def without(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        del tensors["reference.latent"], tensors["reference.embedding"]

    rewritten(diffusion_file, without)
    with pytest.raises(FileError, match=r"reference\.latent has shape None, .* enroll the photo"):
        diffusion_model.open_avatar(diffusion_file)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reference.latent", lambda a: a[:1]),  # would spread over the bundle's channels
        ("reference.embedding", lambda a: a[:-1]),
        ("teacher.planes", lambda a: a[:, :2]),
    ],
)
def test_a_session_checks_an_avatar_that_was_opened_without_a_bundle(
    diffusion_file: Path,
    diffusion_model: Model,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    rewritten(diffusion_file, change_tensor(name, change))
    with pytest.raises(FileError, match=rf"avatar: damaged: {name} has shape"):
        diffusion_model.session(Avatar.open(diffusion_file))


def test_an_avatar_of_another_bundle(
    toy_folder: Path, avatar: Avatar, file: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "other")
    manifest = manifest_of(folder)
    manifest["config"]["shell_radius_m"] = 0.07
    rewrite(folder, manifest)
    with gas_rt.load(folder, threads=1) as other:
        with pytest.raises(FileError, match=r"was enrolled with bundle toy 0\.0\.1"):
            other.open_avatar(file)
        with pytest.raises(FileError, match="enroll the photo again"):
            other.session(avatar)


def test_a_new_demo_picture_keeps_avatars_valid(
    toy_folder: Path, file: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "same")
    (folder / "demo").mkdir()
    (folder / "demo" / "photo.png").write_bytes(b"x")
    rewrite(folder, manifest_of(folder))
    with gas_rt.load(folder, threads=1) as same:
        same.open_avatar(file)


def test_a_failed_save_leaves_no_file(avatar: Avatar, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="choose an existing, writable folder"):
        avatar.save(tmp_path / "none" / "a.avatar")
    assert list(tmp_path.iterdir()) == []


def test_metadata_name_the_bundle(file: Path) -> None:
    metadata = read_tensor_header(file, what="x").metadata
    assert json.loads(metadata["gas_rt_avatar"])["bundle"][:2] == ["toy", "0.0.1"]
