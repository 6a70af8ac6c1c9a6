"""Scans and videos: what tells them apart, and how the builders mix them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from known_people import PLAIN, SKIRT

from gas_rt.core import Pose
from gas_rt.errors import FileError, InputError
from reference.people import FitNoise, Mixture, shards, view_clip
from reference.people.mixture import SCANS, STAGE1, STAGE2
from reference.people.videos import video_clip

EXACT = FitNoise().scaled(0)
VIDEOS = Mixture(videos=1.0)


def test_the_share_of_videos_is_the_mixtures() -> None:
    half, most = Mixture(0.5), Mixture(0.8)
    kinds = [half.kind_of(seed) for seed in range(600)]
    assert kinds.count("video") / 600 == pytest.approx(0.5, abs=0.06)
    # Ablations compare the same people: more videos keep those that were videos.
    assert all(most.kind_of(s) == "video" for s in range(600) if kinds[s] == "video")
    assert {SCANS.kind_of(seed) for seed in range(100)} == {"scan"}
    assert {VIDEOS.kind_of(seed) for seed in range(100)} == {"video"}
    assert (STAGE1.videos, STAGE2.videos) == (0.0, 0.5)


@pytest.mark.parametrize("values", [{"videos": 1.2}, {"videos": 0.5, "fit_noise": -1}])
def test_a_share_or_level_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"expected a (share|level)"):
        Mixture(**values)


@pytest.mark.parametrize("task", ["view", "pose"])
def test_a_video_is_held_by_hand_and_what_is_given_is_not_what_is_shown(
    body, person, task: str
) -> None:
    someone = person(PLAIN)
    settings = {"task": task, "frames": 6, "stride": 2, "size": 64, "person": someone}
    clip = video_clip(PLAIN, body, noise=FitNoise(), **settings)
    exact = video_clip(PLAIN, body, noise=EXACT, **settings)
    assert clip.kind == exact.kind == "video"
    assert clip.task == task
    assert np.array_equal(clip.rgb, exact.rgb)  # the pictures are the same, the fits are not
    for found, true in zip(clip.poses, exact.poses, strict=True):
        off = np.linalg.norm(
            body.pose(clip.betas, found).joints - body.pose(exact.betas, true).joints, axis=1
        )
        assert off.max() > 0.01
    assert not np.array_equal(clip.betas, someone.betas)
    assert np.array_equal(exact.betas, someone.betas)
    assert np.array_equal(clip.reference.betas, clip.betas)
    assert not np.array_equal(clip.reference.pose.rotations, exact.reference.pose.rotations)
    turns = [c.rotation @ exact.cameras[0].rotation.T for c in exact.cameras[1:]]
    degrees = [np.degrees(np.arccos(np.clip((np.trace(t) - 1) / 2, -1, 1))) for t in turns]
    assert min(degrees) > 0
    assert (max(degrees) > 30) == (task == "view")


def test_an_exact_videos_person_is_where_the_pictures_show_it(body, person) -> None:
    clip = video_clip(
        SKIRT, body, task="pose", noise=EXACT, frames=5, stride=3, person=person(SKIRT), name="walk"
    )
    for k, (pose, camera) in enumerate(zip(clip.poses, clip.cameras, strict=True)):
        vertices = body.pose(clip.betas, pose).vertices
        local = (vertices @ camera.rotation.T + camera.translation) @ camera.intrinsics.T
        column, row = np.clip(local[:, :2] / local[:, 2:], 0, 127.9).astype(int).T
        assert (clip.mask[k][row, column] > 0).mean() > 0.97


def test_a_scan_says_so(body, person) -> None:
    assert view_clip(PLAIN, body, frames=1, size=32, person=person(PLAIN)).kind == "scan"


def test_a_shard_of_a_video_has_estimates_and_a_scans_has_none(body) -> None:
    scan = shards.draw_person(PLAIN, body)
    video = shards.draw_person(PLAIN, body, VIDEOS)
    assert (int(scan["video"]), float(scan["fit_noise"])) == (0, 0.0)
    assert (int(video["video"]), float(video["fit_noise"])) == (1, 1.0)
    assert set(scan) == set(video) == set(shards.FIELDS)
    assert np.array_equal(scan["ref_rgb"], video["ref_rgb"])
    assert not np.array_equal(scan["ref_rotations"], video["ref_rotations"])
    assert not np.array_equal(scan["betas"], video["betas"])
    # A scan has one pose from all sides; a video's person holds still, its fits do not.
    poses = [len(np.unique(who["tgt_rotations"][: shards.ORBITS], axis=0)) for who in (scan, video)]
    assert poses == [1, shards.ORBITS]
    assert np.array_equal(scan["tgt_kind"], video["tgt_kind"])
    for k in range(shards.TARGETS):
        pose = Pose(video["tgt_rotations"][k], video["tgt_translation"][k])
        vertices = body.pose(video["betas"], pose).vertices
        local = vertices @ video["tgt_R"][k].T + video["tgt_t"][k]
        pixel = (local @ video["tgt_K"][k].T)[:, :2] / local[:, 2:]
        column, row = np.clip(pixel, 0, 127.9).astype(int).T
        covered = video["tgt_mask"][k][row, column] > 0
        assert 0.75 < covered.mean() < 1  # near the truth, and not on it


def test_a_shard_of_another_mixture_is_not_taken_for_finished(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), "--persons", "1"]
    assert shards.main([*command, "--videos", "1"]) == 0
    assert shards.main([*command, "--videos", "1"]) == 0
    with pytest.raises(FileError, match="holds 1 videos with fits of level 1, 0 of level 0"):
        shards.main(command)
    with pytest.raises(FileError, match=r"1 of level 0\.5 were asked for"):
        shards.main([*command, "--videos", "1", "--fit-noise", "0.5"])
    with pytest.raises(SystemExit):
        shards.main([*command, "--videos", "2"])
