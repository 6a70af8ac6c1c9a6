"""What a session can be told to save or to share: half resolution, skipped poses, threads."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt import Avatar, InputError, Model, Pose, Request
from gas_rt.body.rotations import angles_between, compose
from gas_rt.stream.field_stages import METRES_PER_RAD, BodyStage
from gas_rt.stream.stages import Job, grouped
from tests.stream.conftest import ToyStage
from tests.stream.simulation import CAMERA
from tests.toy_person import ToyPerson

SPLITS = (None, "all", "body+condition|denoise|decode", "body|condition+denoise|decode")


class CountedRig:
    """A rig that only counts."""

    def __init__(self) -> None:
        self.posed: list[Pose] = []

    def pose(self, pose: Pose, *, threads: int) -> object:
        self.posed.append(pose)
        return object()


def job(pose: Pose, index: int = 0) -> Job:
    return Job(index, 0, Request(pose, CAMERA), 0, 0)


def bent(angle: float, *, joint: int = 18, shift_m: float = 0.0) -> Pose:
    rotations = np.zeros((24, 3))
    rotations[joint, 1] = angle
    return Pose(rotations, np.array([0, shift_m, 0]))


def posed(poses: list[Pose], *, below: float) -> list[int]:
    """Which of the poses were posed anew."""
    rig = CountedRig()
    stage = BodyStage(rig, threads=1, skip_below_rad=below)  # type: ignore[arg-type]
    anew = []
    for k, pose in enumerate(poses):
        before = len(rig.posed)
        stage.process(job(pose, k))
        if len(rig.posed) > before:
            anew.append(k)
    return anew


def test_a_pose_counts_as_the_one_before_while_no_joint_turned_by_more() -> None:
    poses = [bent(angle) for angle in (0, 0.01, 0.019, 0.03, 0.045, 0.06, 0.0)]
    assert posed(poses, below=0.02) == [0, 3, 5, 6]
    assert posed(poses, below=0.0) == list(range(7))
    assert posed([bent(0.3)] * 3, below=0.0) == [0]


def test_small_turns_add_up_and_shifts_count_too() -> None:
    creeping = [bent(0.004 * k) for k in range(60)]
    anew = posed(creeping, below=0.02)
    assert np.diff(anew).max() <= 6
    near, far = 0.9 * METRES_PER_RAD * 0.02, 1.1 * METRES_PER_RAD * 0.02
    assert posed([bent(0), bent(0, shift_m=near), bent(0, shift_m=far)], below=0.02) == [0, 2]


@given(
    axis=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    turn=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_angles_are_those_of_the_rotation_between(axis: list[float], turn: list[float]) -> None:
    step = np.array(turn)
    angle = float(np.linalg.norm(step))
    expected = min(angle % (2 * np.pi), 2 * np.pi - angle % (2 * np.pi))
    found = angles_between(np.array(axis), compose(np.array(axis), step))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_skipped_poses_spare_the_conditioner(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    camera = person.camera.resized(width=128, height=128)
    poses = []
    for k in range(8):
        rotations = person.pose.rotations.copy()
        rotations[18, 1] += 0.002 * k
        poses.append(Request(Pose(rotations), camera))
    options = {"policy": "diagonal", "seed": 3}
    plain = list(diffusion_model.stream(diffusion_avatar, poses, **options))  # type: ignore[arg-type]
    saved = list(
        diffusion_model.stream(diffusion_avatar, poses, skip_below_rad=0.05, **options)  # type: ignore[arg-type]
    )
    assert all(frame.timings.stages_ms["condition"] > 0 for frame in plain)
    assert [frame.timings.stages_ms["condition"] > 0 for frame in saved] == [True] + [False] * 7
    differ = [np.abs(a.rgb.astype(int) - b.rgb).mean() for a, b in zip(plain, saved, strict=True)]
    assert max(differ) < 2


@pytest.mark.parametrize("policy", ["field", "diagonal"])
def test_half_resolution_is_nearly_the_same_and_not_for_the_teacher(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str
) -> None:
    requests = person.requests(3, side=128)
    plain = list(diffusion_model.stream(diffusion_avatar, requests, policy=policy))
    half = list(diffusion_model.stream(diffusion_avatar, requests, policy=policy, half_field=True))
    for one, two in zip(plain, half, strict=True):
        assert two.rgb.shape == one.rgb.shape
        assert (one.rgb != two.rgb).any()
        assert np.abs(one.rgb.astype(int) - two.rgb).mean() < 10
    with pytest.raises(InputError, match="half_field: the teacher renders at full resolution"):
        diffusion_model.session(diffusion_avatar, half_field=True, mode="exact")
    for bad in (-0.1, 4.0, float("nan")):
        with pytest.raises(InputError, match="skip_below_rad: expected 0 to pi"):
            diffusion_model.session(diffusion_avatar, skip_below_rad=bad)


def test_any_split_gives_the_same_frames(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    requests = person.requests(6, side=128)
    shown = []
    for split in SPLITS:
        before = set(threading.enumerate())
        with diffusion_model.session(diffusion_avatar, split=split, on_late="lossless") as session:
            new = {t.name for t in set(threading.enumerate()) - before}
            for request in requests:
                session.push_wait_request(request)
            session.finish()
            shown.append([frame.rgb for frame in session])
        named = split or SPLITS[2]
        names = ["body+condition+denoise+decode"] if named == "all" else named.split("|")  # type: ignore[union-attr]
        assert new == {f"gas-rt-{name}" for name in names}
    for other in shown[1:]:
        for one, two in zip(shown[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("split", ["a", "a|b|c", "b|a", "a+b", "a|b+", ""])
def test_splits_that_are_none_are_named(split: str) -> None:
    stages = [ToyStage("a"), ToyStage("b"), ToyStage("c")]
    if split == "a|b|c":
        assert [stage.name for stage in grouped(stages, split)] == ["a", "b", "c"]
        return
    with pytest.raises(InputError, match="split: expected 'a b c' in this order"):
        grouped(stages, split)


def test_requests_keep_what_they_do_not_say() -> None:
    request = Request(Pose.rest(), CAMERA)
    assert (request.task, request.steps, request.captured_ns) == (None, None, None)
    assert replace(request, steps=2).steps == 2
