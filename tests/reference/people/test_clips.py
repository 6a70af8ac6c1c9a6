from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gas_rt.body import BodyFit, Motion
from gas_rt.core import Pose
from gas_rt.errors import FileError
from reference.people import pose_clip, shards, view_clip
from reference.people.__main__ import main

SEED = 3


def test_a_view_clip_is_one_pose_on_the_releases_orbit(body, person) -> None:
    clip = view_clip(SEED, body, frames=3, size=64, person=person(SEED))
    assert clip.task == "view"
    assert len({id(pose) for pose in clip.poses}) == 1
    assert np.array_equal(clip.rgb[0], clip.reference.rgb)
    turn = clip.cameras[1].rotation @ clip.cameras[0].rotation.T
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(18, abs=0.1)


def test_a_pose_clip_is_one_camera_that_keeps_the_person_in_frame(body, person) -> None:
    clip = pose_clip(SEED, body, frames=5, stride=2, size=64, name="dance", person=person(SEED))
    assert clip.task == "pose"
    assert len({id(camera) for camera in clip.cameras}) == 1
    border = np.ones((64, 64), bool)
    border[1:-1, 1:-1] = False
    assert not clip.mask[:, border].any()
    assert np.abs(clip.rgb[0].astype(float) - clip.rgb[-1]).mean() > 0.5


def test_a_shard_reads_back_and_projects_onto_its_pictures(body, tmp_path: Path) -> None:
    drawn = shards.draw_person(SEED, body)
    path = tmp_path / "train-00000.npz"
    shards.write(path, [drawn])
    assert [p.name for p in tmp_path.iterdir()] == ["train-00000.npz"]
    arrays = shards.read(path)
    assert set(arrays) == set(shards.FIELDS)
    for k in range(shards.TARGETS):
        pose = Pose(arrays["tgt_rotations"][0, k], arrays["tgt_translation"][0, k])
        vertices = body.pose(arrays["betas"][0], pose).vertices
        local = vertices @ arrays["tgt_R"][0, k].T + arrays["tgt_t"][0, k]
        pixel = (local @ arrays["tgt_K"][0, k].T)[:, :2] / local[:, 2:]
        column, row = np.clip(pixel, 0, 127.9).astype(int).T
        covered = arrays["tgt_mask"][0, k][row, column] > 0
        assert covered.mean() > 0.97


def test_a_foreign_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, seeds=np.zeros(1))
    with pytest.raises(FileError, match="seeds: expected int64"):
        shards.read(path)


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reference.people", "--seed", "950000", "--out", str(tmp_path)]
    command += ["--frames", "2", "--size", "64", "--motion", "walk"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "rendering" in done.stderr
    fit = BodyFit.load(tmp_path / "fit.npz")
    assert (fit.camera.width, fit.camera.height) == (64, 64)
    assert len(Motion.load(tmp_path / "motion.npz")) == 2
    photo = np.asarray(Image.open(tmp_path / "photo.png"))
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert photo.shape == (64, 64, 3)
    assert (photo[mask == 0] == 0).all()
    names = sorted(path.name for path in (tmp_path / "truth").iterdir())
    assert names == ["cameras.npz", "pose_000.png", "pose_001.png", "view_000.png", "view_001.png"]


def test_a_wrong_seed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "-4", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("error: seed: expected 0..999999")
