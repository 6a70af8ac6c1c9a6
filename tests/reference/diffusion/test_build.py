"""Clip shards: schema, what a clip depends on, resuming, and where conditions come from."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gas_rt import kernels
from gas_rt.errors import FileError, InputError
from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion import PRESETS
from reference.diffusion.build import BODY, Plan, build, main
from reference.diffusion.clips import read_clips
from reference.diffusion.studio import Studio
from reference.nerf import PRESETS as FIELDS
from reference.nerf import HumanNerf
from reference.nerf.checkpoint import mesh_of
from reference.people import Mixture, seeds
from reference.people.mixture import SCANS

FRAMES, SIDE = 3, 32
CHANNELS = PRESETS["tiny"].unet.latent_channels


def save_autoencoder(path: Path, *, seed: int, channels: int = CHANNELS) -> None:
    torch.manual_seed(seed)
    config = replace(AUTOENCODERS["tiny"][0], latent_channels=channels)
    torch.save({"model_config": asdict(config), "mean": Autoencoder(config).state_dict()}, path)


@pytest.fixture(scope="module")
def models(body, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained checkpoints; an untrained field is the body in the photo's colours."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config, _ = FIELDS["tiny"]
    state = {"field": asdict(config), "train": {}, "camera_ranges": {}, "step": 0}
    state["mean"] = HumanNerf(config, mesh_of(body)).state_dict()
    torch.save(state, folder / "stage1.pt")
    save_autoencoder(folder / "autoencoder.pt", seed=1)
    return folder


@pytest.fixture(scope="module")
def studio(models: Path) -> Studio:
    return Studio.open(
        stage1=models / "stage1.pt", autoencoder=models / "autoencoder.pt", body=BODY
    )


def plan(models: Path, out: Path, **changes) -> Plan:
    out.mkdir(exist_ok=True)
    return Plan(
        **{
            "split": "train",
            "chosen": range(2),
            "frames": FRAMES,
            "stage1": models / "stage1.pt",
            "autoencoder": models / "autoencoder.pt",
            "out": out,
            "mixture": SCANS,
        }
        | changes
    )


def command(models: Path, out: Path, *more: str, split: str = "train") -> list[str]:
    given = ["--split", split, "--clips", "1", "--frames", "1", "--config", "tiny"]
    given += ["--stage1", str(models / "stage1.pt"), "--out", str(out)]
    return [*given, "--autoencoder", str(models / "autoencoder.pt"), *more]


@pytest.fixture(scope="module")
def built(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips in one shard, made by one process."""
    out = tmp_path_factory.mktemp("clips")
    assert len(build(plan(models, out), channels=CHANNELS)) == 2
    return out


def test_a_shard_holds_a_clip_of_each_task(built: Path, studio: Studio) -> None:
    arrays = read_clips(built / "train-00000.npz")
    assert arrays["seed"].tolist() == [0, 1]
    assert arrays["task"].tolist() == [0, 1]
    assert arrays["target_latents"].shape == (2, FRAMES, CHANNELS, SIDE // 8, SIDE // 8)
    pose, view = arrays["azimuth"]
    assert np.ptp(pose) == 0
    assert np.ptp(view) > 0
    assert arrays["azimuth"].min() >= 0
    assert arrays["azimuth"].max() <= np.pi
    assert np.array_equal(arrays["black_latent"], studio.black_latent())
    assert arrays["person"].max() > 128
    assert (arrays["fps"] <= 25).all()


def test_workers_and_shard_sizes_change_nothing(built: Path, models: Path, tmp_path: Path) -> None:
    build(plan(models, tmp_path, workers=2, people_per_shard=1), channels=CHANNELS)
    whole = read_clips(built / "train-00000.npz")
    for row in range(2):
        part = read_clips(tmp_path / f"train-{row:05d}.npz")
        for name in set(whole) - {"schema", "black_latent"}:
            assert np.array_equal(part[name][0], whole[name][row]), name


def test_what_is_there_is_kept_and_what_is_short_is_made_again(
    models: Path, tmp_path: Path
) -> None:
    make = plan(models, tmp_path, chosen=range(1), frames=1, people_per_shard=2)
    assert len(build(make, channels=CHANNELS)) == 1
    path = tmp_path / "train-00000.npz"
    before = path.stat().st_mtime_ns
    assert build(make, channels=CHANNELS) == []
    assert path.stat().st_mtime_ns == before
    assert len(build(replace(make, chosen=range(2)), channels=CHANNELS)) == 2
    assert build(make, channels=CHANNELS) == []
    assert read_clips(path)["seed"].tolist() == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match="hold 1 frames, 2 were asked for"):
        build(replace(make, frames=2), channels=CHANNELS)
    with pytest.raises(InputError, match=r"holds the clips 0\.\.1, 2\.\.3 belong there"):
        build(replace(make, chosen=range(2, 4)), channels=CHANNELS)
    save_autoencoder(tmp_path / "other.pt", seed=2)
    with pytest.raises(InputError, match="was encoded by another autoencoder"):
        build(replace(make, autoencoder=tmp_path / "other.pt"), channels=CHANNELS)


def test_the_condition_is_stage_1s_picture_and_not_the_truth(built: Path, studio: Studio) -> None:
    film = studio.film(1, frames=FRAMES, mixture=SCANS)
    renders = studio.renders(film.betas, film.reference, film.poses, film.cameras)
    assert renders.dtype == np.uint8
    assert np.abs(renders.astype(float) - film.rgb).mean() > 2
    shown, true = renders.max(-1) > 32, film.mask > 128
    assert (shown & true).sum() / (shown | true).sum() > 0.6
    normals = studio.normals(film.betas, film.poses, film.cameras)
    bare = normals.max(-1) > 0
    assert (bare & true).sum() / bare.sum() > 0.85  # the body is inside its clothes
    assert not np.array_equal(bare, true)
    arrays = read_clips(built / "train-00000.npz")
    assert np.array_equal(arrays["normals"][1], normals)
    assert (arrays["nerf_latents"] != arrays["target_latents"]).mean() > 0.3
    assert (arrays["reference_nerf_latent"] != arrays["reference_latent"]).mean() > 0.3


def test_videos_have_estimated_fits_in_their_conditions(
    models: Path, tmp_path: Path, studio: Studio
) -> None:
    videos = Mixture(videos=1.0)
    make = plan(models, tmp_path, mixture=videos)
    assert len(build(make, channels=CHANNELS)) == 2
    found = read_clips(tmp_path / "train-00000.npz")
    assert found["video"].tolist() == [1, 1]
    assert found["fit_noise"].tolist() == [1, 1]
    film = studio.film(1, frames=FRAMES, mixture=videos)
    assert film.kind == "video"
    assert np.array_equal(found["normals"][1], studio.normals(film.betas, film.poses, film.cameras))
    exact = studio.film(1, frames=FRAMES, mixture=Mixture(videos=1.0, fit_noise=0.0))
    assert np.array_equal(exact.rgb, film.rgb)
    true = studio.normals(exact.betas, exact.poses, exact.cameras)
    assert (np.abs(true.astype(int) - found["normals"][1]).max(-1) > 8).mean() > 0.02
    assert np.ptp(found["azimuth"][0]) > 0  # of a motion: the camera is held by hand
    with pytest.raises(InputError, match=r"holds 2 videos, .* 0 of level 0 were asked for"):
        build(replace(make, mixture=SCANS), channels=CHANNELS)
    with pytest.raises(InputError, match=r"2 of level 0\.5 were asked for"):
        build(replace(make, mixture=Mixture(1.0, 0.5)), channels=CHANNELS)


def test_the_share_of_videos_is_an_option(models: Path, tmp_path: Path) -> None:
    assert main(command(models, tmp_path, "--videos", "1", "--fit-noise", "0.5")) == 0
    found = read_clips(tmp_path / "train-00000.npz")
    assert (found["video"].tolist(), found["fit_noise"].tolist()) == ([1], [0.5])
    with pytest.raises(SystemExit):
        main(command(models, tmp_path, "--videos", "1.5"))


def test_twins_are_the_mirror_images(models: Path, tmp_path: Path, studio: Studio, body) -> None:
    make = plan(models, tmp_path, chosen=range(1, 2), frames=2, twins=True)
    assert len(build(make, channels=CHANNELS)) == 1
    assert build(make, channels=CHANNELS) == []
    found = read_clips(tmp_path / "train-00000.npz")
    assert found["seed"].tolist() == [1, 1]
    film = studio.film(1, frames=2, mixture=SCANS)
    assert np.array_equal(found["reference_rgb"][1], film.reference.rgb[:, ::-1])
    assert np.array_equal(found["person"][1], found["person"][0, ..., ::-1])
    # The mirrored map is that of a mirrored body, seen by the mirrored camera.
    vertices = body.pose(film.betas, film.poses[0]).vertices * np.float32([-1, 1, 1])
    camera = film.cameras[0]
    flip = np.diag(np.float32([-1, 1, 1]))
    intrinsics = camera.intrinsics.copy()
    intrinsics[0, 2] = camera.width - intrinsics[0, 2]
    mirrored = replace(
        camera,
        intrinsics=intrinsics,
        rotation=flip @ camera.rotation @ flip,
        translation=flip @ camera.translation,
    )
    expected = kernels.render_normals(vertices, body.faces[:, ::-1].copy(), mirrored)[0]
    apart = np.abs(found["normals"][1, 0].astype(int) - np.rint(expected * 255).astype(int))
    assert (apart.max(-1) > 2).mean() < 0.005  # edges may fall on the other pixel
    with pytest.raises(InputError, match=r"holds the clips 1\.\.1, 1\.\.2 belong there"):
        build(replace(make, twins=False, chosen=range(1, 3)), channels=CHANNELS)


def test_splits_draw_from_their_own_seeds(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, people in (("train", seeds.TRAIN), ("val", seeds.VALIDATION)):
        assert main(command(models, tmp_path, split=split)) == 0
        found = read_clips(tmp_path / f"{split}-00000.npz")["seed"]
        assert found.tolist() == [people.start]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "val-00000.npz: 1/1 people, 0 min left" in printed.err
    assert "s of one core each" in printed.err
    assert main(command(models, tmp_path)) == 0
    assert "every shard is there already" in capsys.readouterr().err


def test_a_skip_starts_at_the_shard_of_its_clips(models: Path, tmp_path: Path) -> None:
    assert main(command(models, tmp_path, "--skip", "32")) == 0
    assert read_clips(tmp_path / "train-00001.npz")["seed"].tolist() == [32]
    with pytest.raises(SystemExit):
        main(command(models, tmp_path, "--skip", "5"))


@pytest.mark.parametrize("option", ["--stage1", "--autoencoder"])
def test_a_missing_checkpoint_is_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(command(models, tmp_path, option, str(tmp_path / "no.pt"))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no.pt: no such file; give the checkpoint.pt of" in error


def test_a_checkpoint_of_something_else_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no checkpoint of autoencoder, "):
        build(plan(models, tmp_path, autoencoder=models / "stage1.pt"), channels=CHANNELS)
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(FileError, match="not a checkpoint, or truncated"):
        build(plan(models, tmp_path, stage1=tmp_path / "text.pt"), channels=CHANNELS)


def test_an_autoencoder_of_other_channels_is_refused(models: Path, tmp_path: Path) -> None:
    save_autoencoder(tmp_path / "wide.pt", seed=1, channels=6)
    with pytest.raises(InputError, match=r"wide\.pt: has 6 latent channels, the model .* takes 4"):
        build(plan(models, tmp_path, autoencoder=tmp_path / "wide.pt"), channels=CHANNELS)
