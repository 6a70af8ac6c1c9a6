"""Recordings: a live session's frames made again to the bit, and malformed files refused."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import gas_rt
from gas_rt import Avatar, Frame, GasRtWarning, Model, Recording, Request
from gas_rt.core import Camera, Pose
from gas_rt.errors import FileError, InputError, SessionError
from gas_rt.stream.assembly import open_ladder
from gas_rt.stream.decoding import field_picture
from gas_rt.stream.denoising import Denoised, DenoiseStage
from gas_rt.stream.ladder import LadderConfig, SharedLadder
from gas_rt.stream.recorder import Recorder
from gas_rt.stream.recording import METADATA_KEY, digest_of
from gas_rt.stream.replay import Replay
from gas_rt.stream.session import Session
from gas_rt.stream.stages import Chain, Job, Picture, Stage
from tests.stream.conftest import PATIENCE_S, ToyStage, VirtualClock, pose
from tests.stream.simulation import MS, Simulation, every
from tests.toy_person import ToyPerson

OpenSession = Callable[..., Session]
POLICIES = ("field", "diagonal", "sequential")


def moving(person: ToyPerson, count: int) -> list[Request]:
    """A view from all around of a body that sways, every third one a pose."""
    made = []
    for k, request in enumerate(person.requests(count, side=96)):
        rotations = request.pose.rotations.copy()
        rotations[16, 2] += 0.05 * k
        task = "pose" if k % 3 else "view"
        made.append(Request(Pose(rotations, request.pose.translation), request.camera, task=task))
    return made


def live(session: Session, requests: Iterable[Request], *, reset_at: int = -1) -> list[Frame]:
    """Push as a tracker would that is faster than the session, and poll now and then."""
    frames = []
    for k, request in enumerate(requests):
        if k == reset_at:
            session.reset()
        session.push_request(request)
        if k % 3 == 2:  # two of three poses are stale when this returns, or their frames unpolled
            frame = session.wait(timeout_s=0.2)
            frames += [] if frame is None else [frame]
    session.finish()
    return frames + list(session)


def pixels(frames: Iterable[Frame]) -> list[tuple[int, bytes, bytes]]:
    return [(f.index, f.rgb.tobytes(), f.alpha.tobytes()) for f in frames]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_live_session_with_drops_is_made_again_to_the_bit(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    tmp_path: Path,
    policy: str,
) -> None:
    path = tmp_path / "r.gasrec"
    with diffusion_model.session(
        diffusion_avatar, policy=policy, seed=7, on_late="freshest", record=path
    ) as session:
        shown = live(session, moving(person, 30), reset_at=13)
        stats = session.stats()
    assert stats.dropped > 5
    assert stats.dropped_by_reason["stale_pose"] > 0
    recording = Recording.open(path)
    assert [s.index for s in recording.shown] == [f.index for f in shown]
    assert {row.generation for row in recording.admitted} == {0, 1}
    replay = diffusion_model.replay(diffusion_avatar, path)
    assert len(replay) == len(shown)
    again = list(replay)
    assert pixels(again) == pixels(shown)
    assert [f.level for f in again] == [f.level for f in shown]
    assert (len(replay.identical), replay.differing) == (len(shown), [])
    for one, two in zip(again, shown, strict=True):
        assert (one.request.task, one.request.captured_ns) == (two.request.task, None)
        np.testing.assert_array_equal(one.request.pose.rotations, two.request.pose.rotations)
    with pytest.raises(SessionError, match="iterated once"):
        list(replay)


def test_a_recording_of_300_frames_is_made_again_to_the_bit(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    """Twelve seconds of a stream with dropped poses, frames of fewer steps and a reset."""
    path = tmp_path / "r.gasrec"
    requests = [
        replace(request, steps=1 if k % 40 < 4 else None)
        for k, request in enumerate(moving(person, 120))
    ]
    shown: list[Frame] = []
    with diffusion_model.session(
        diffusion_avatar, policy="diagonal", seed=9, on_late="freshest", record=path
    ) as session:
        for k, request in enumerate(itertools.cycle(requests)):
            session.push_request(request)
            if k == 140:
                session.reset()
            if k % 5:  # else the next pose comes at once
                frame = session.wait(timeout_s=0.1)
                shown += [] if frame is None else [frame]
            if len(shown) >= 300:
                break
        stats = session.stats()
    assert len(shown) == stats.delivered + stats.levels.get("held", 0) == 300
    assert stats.dropped > 20
    replay = diffusion_model.replay(diffusion_avatar, path)
    for one, two in itertools.zip_longest(replay, shown):
        assert (one.index, one.level) == (two.index, two.level)
        np.testing.assert_array_equal(one.rgb, two.rgb)
        np.testing.assert_array_equal(one.alpha, two.alpha)
    assert (len(replay.identical), replay.differing) == (300, [])


def test_parity_and_another_task_replay_too(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    options = {"policy": "parity", "steps": 2, "task": "view", "noise_period": 4}
    path = tmp_path / "r.gasrec"
    with diffusion_model.session(
        diffusion_avatar, on_late="lossless", record=path, **options
    ) as session:
        shown = list(gas_rt.FrameStream(session, moving(person, 11)))
    again = list(diffusion_model.replay(diffusion_avatar, Recording.open(path)))
    assert pixels(again) == pixels(shown)
    assert len(again) == 11


def test_a_session_closed_on_the_way_replays_what_it_showed(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=True) as session:
        shown = []
        for request in moving(person, 9):
            while not session.push_request(request):
                frame = session.wait(timeout_s=PATIENCE_S)
                shown += [] if frame is None else [frame]
    assert session.record is not None
    again = list(diffusion_model.replay(diffusion_avatar, session.record.recording()))
    assert pixels(again) == pixels(shown)
    assert shown


def test_a_poisoned_recording_tells_which_frame_differs(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=True) as session:
        list(gas_rt.FrameStream(session, moving(person, 6)))
    assert session.record is not None
    said = session.record.recording()
    other = replace(said, session=replace(said.session, seed=1))
    replay = diffusion_model.replay(diffusion_avatar, other)
    assert len(list(replay)) == 6
    assert replay.differing == list(range(6))
    shown = list(said.shown)
    shown[2] = replace(shown[2], digest=b"\1" * 16)
    replay = diffusion_model.replay(diffusion_avatar, replace(said, shown=tuple(shown)))
    assert len(list(replay)) == 6
    assert replay.differing == [2]


def test_standing_in_frames_are_shown_again(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    """A field shown before its frame was clean, and a frame that was held."""
    requests = moving(person, 6)
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=True) as session:
        frames = list(gas_rt.FrameStream(session, requests))
    assert session.record is not None
    said = session.record.recording()
    blank = replace(said.shown[0], digest=b"")
    shown = [
        blank,
        replace(blank, level="held"),
        replace(blank, index=1, level="field"),
        replace(blank, index=3),
    ]
    again = list(diffusion_model.replay(diffusion_avatar, replace(said, shown=tuple(shown))))
    assert [(f.index, f.level) for f in again] == [
        (0, "full"),
        (0, "held"),
        (1, "field"),
        (3, "full"),
    ]
    assert pixels([again[0], again[3]]) == pixels([frames[0], frames[3]])
    np.testing.assert_array_equal(again[1].rgb, frames[0].rgb)
    with diffusion_model.session(diffusion_avatar, policy="field", on_late="lossless") as plain:
        small = [Request(r.pose, r.camera.resized(width=128, height=128)) for r in requests[1:2]]
        field = list(gas_rt.FrameStream(plain, small))
    assert again[2].rgb.shape == (96, 96, 3)
    assert abs(float(again[2].rgb.mean()) - float(field[0].rgb.mean())) < 2


def test_what_was_shown_and_is_not_made_is_an_error(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=True) as session:
        list(gas_rt.FrameStream(session, moving(person, 4)))
    assert session.record is not None
    said = session.record.recording()
    odd = replace(said, shown=(replace(said.shown[1], level="fewer_steps"),))
    with pytest.raises(SessionError, match="frame 1 was shown as 'fewer_steps'"):
        list(diffusion_model.replay(diffusion_avatar, odd))


# ---- the recorder on toy stages -----------------------------------------------------------------


def recorder(frames: int = 100) -> Recorder:
    return Recorder(None, frames=frames)  # type: ignore[arg-type]


def test_what_is_recorded_is_what_entered_and_what_was_shown(
    open_session: OpenSession, camera: Camera
) -> None:
    kept = recorder()
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="freshest", watchers=[kept])
    session.push(pose(0), camera, task="view")
    assert stage.started.acquire(timeout=PATIENCE_S)
    for value in range(1, 4):
        session.push(pose(value), camera)
    stage.gate.release(9)  # type: ignore[union-attr]
    first = session.wait(timeout_s=PATIENCE_S)
    session.finish()
    rest = list(session)
    kept.decided(3, 2, is_field=False, now_ns=0)
    made = kept.recording()
    assert [(a.index, a.rung, a.request.task) for a in made.admitted] == [
        (0, 0, "view"),
        (3, 2, None),
    ]
    assert first is not None
    assert [(s.index, s.level, s.digest) for s in made.shown] == [
        (f.index, "field", digest_of(f)) for f in [first, *rest]
    ]


def test_a_full_recorder_stops_and_keeps_what_can_be_replayed(
    open_session: OpenSession, camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    kept = recorder(frames=3)
    session = open_session([ToyStage()], on_late="lossless", watchers=[kept])
    for value in range(8):
        assert session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
        assert session.wait(timeout_s=PATIENCE_S) is not None
    made = kept.recording()
    assert kept.full
    assert [a.index for a in made.admitted] == [0, 1, 2]
    assert [s.index for s in made.shown] == [0, 1, 2]
    assert len(caplog.records) == 1


def test_a_recorder_is_full_of_held_frames_too(camera: Camera) -> None:
    """A file with more frames than poses would be refused where it is read."""
    kept = recorder(frames=3)
    job = Job(0, 0, gas_rt.Request(pose(0), camera), 0, 0)
    pixels = np.zeros((2, 2, 3), np.uint8)
    shown = replace(job, payload=Picture(pixels, pixels[..., 0], "held")).frame(0)
    kept.entered(job, 0, now_ns=0)
    for _ in range(5):
        kept.delivered(shown, begin_ns=0, end_ns=0)
        kept.took(shown)
    made = kept.recording()
    assert [(s.index, s.digest) for s in made.shown] == [(0, digest_of(shown))] * 3
    assert kept.full


def test_a_recording_says_how_far_poses_came_and_where_windows_ended(camera: Camera) -> None:
    kept = recorder()
    jobs = [Job(k, 0, gas_rt.Request(pose(k), camera), 0, 0) for k in range(5)]
    for job in jobs:
        kept.entered(job, 0, now_ns=0)
    kept.decided(0, 0, is_field=False, now_ns=0)
    kept.paused(now_ns=0)
    kept.left_out(jobs[1])  # in front of the denoiser
    kept.decided(2, 1, is_field=False, now_ns=0)
    kept.left_out(replace(jobs[2], payload=Denoised(None, None)))  # type: ignore[arg-type]
    kept.decided(3, 1, is_field=False, now_ns=0)
    shown = replace(jobs[3], payload=Picture(np.zeros((2, 2, 3), np.uint8), None, "full"))  # type: ignore[arg-type]
    kept.left_out(shown)
    assert [(a.index, a.rung, a.reached, a.fresh) for a in kept.recording().admitted] == [
        (0, 0, 2, False),
        (1, 0, 0, False),
        (2, 1, 1, True),
        (3, 1, 2, False),
        (4, 0, 2, False),
    ]


def test_a_cut_ends_a_recording_and_what_came_before_it_is_replayed(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests = moving(person, 10)
    shown = []
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=True) as session:
        for k, request in enumerate(requests):
            if k == 6:
                assert session.cut_to(diffusion_avatar) == 6
            while not session.push_request(request):
                frame = session.wait(timeout_s=PATIENCE_S)
                shown += [] if frame is None else [frame]
        session.finish()
        shown += list(session)
    assert len(shown) == 10
    assert "another avatar takes over with frame 6" in caplog.text
    assert session.record is not None
    again = list(diffusion_model.replay(diffusion_avatar, session.record.recording()))
    assert pixels(again) == pixels(shown[:6])


def test_steps_and_savings_replay_too(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    requests = [
        replace(request, steps=1 if 3 <= k < 8 else None)
        for k, request in enumerate(moving(person, 12))
    ]
    path = tmp_path / "r.gasrec"
    with diffusion_model.session(
        diffusion_avatar, on_late="lossless", record=path, half_field=True, skip_below_rad=0.08
    ) as session:
        shown = list(gas_rt.FrameStream(session, requests))
    recording = Recording.open(path)
    assert [a.request.steps for a in recording.admitted] == [r.steps for r in requests]
    replay = diffusion_model.replay(diffusion_avatar, recording)
    assert pixels(replay) == pixels(shown)
    row = recording.admitted[4]
    for change, message in (
        ({"request": replace(row.request, steps=2)}, "frame 4 has 2 steps, policy 'diagonal' "),
        ({"rung": 9}, "frame 4 is on rung 9, the ladder"),
    ):
        rows = list(recording.admitted)
        rows[4] = replace(row, **change)
        with pytest.raises(InputError, match=message):
            diffusion_model.replay(diffusion_avatar, replace(recording, admitted=tuple(rows)))


@pytest.mark.parametrize("max_age_ms", [900.0, 170.0])
def test_a_session_that_went_down_and_up_the_ladder_is_made_again_to_the_bit(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, max_age_ms: float
) -> None:
    """Real stages on a virtual clock: slow calls, one that hangs, a slow first stage, a pause."""
    requests = moving(person, 40)
    run = diffusion_model._run("diagonal", 3, task="pose", seed=5, noise_period=None)
    performer = diffusion_model.performer(diffusion_avatar)
    mark = diffusion_model._mark(performer, run, fps=25.0, skip_below_rad=0.0)
    kept = Recorder(mark)
    diffusion = diffusion_model._parts.bundle.config.diffusion
    rungs = open_ladder(diffusion, run, period_ns=40 * MS, config=LadderConfig())._ladder.rungs

    def stages(ladder: SharedLadder | None, clock: VirtualClock) -> list[Stage]:
        body, condition, denoise, decode = diffusion_model._stages(
            performer, run, ladder, skip_below_rad=0.0
        )
        assert isinstance(denoise, DenoiseStage)
        denoise._clock = clock
        return [Chain([body, condition]), denoise, decode]

    def call_ms(now: int) -> float:
        seconds = (now - 1_000_000_000) / 1e9
        if 2.5 <= seconds < 2.6:
            return 400.0
        return 110.0 if 0.6 <= seconds < 1.6 else 12.0

    def feed_ms(now: int) -> float:
        return 150.0 if 3.0e9 <= now - 1_000_000_000 < 3.3e9 else 5.0

    sim = Simulation(
        config=LadderConfig(settle_s=0.3),
        call_ms=call_ms,
        feed_ms=feed_ms,
        watchers=[kept],
        stages=stages,
        rungs=list(rungs),
        request=lambda k: requests[k % len(requests)],
        field_of=field_picture,
        max_age_ms=max_age_ms,
    )
    times = [t for t in every(40, until_ms=8000) if not 6000 <= t < 6800]
    with closing(sim):  # else its denoiser stays in the shared model's accounts
        sim.run(times, until_ms=8200)
    recording = kept.recording()
    frames = [s.frame for s in sim.shown]
    rungs_seen = [a.rung for a in recording.admitted if a.reached]
    assert max(rungs_seen) > 0
    assert rungs_seen[0] == 0
    if max_age_ms == 900.0:
        assert {"full", "fewer_steps", "field", "held"} == {f.level for f in frames}
        assert rungs_seen[-1] == 0
        assert any(a.fresh for a in recording.admitted)
    else:  # poses grow too old in the window and before it
        assert {"full", "fewer_steps", "field"} <= {f.level for f in frames}
        assert sim.pipeline.ledger.dropped["old_frame"] > 0
    assert {a.reached for a in recording.admitted} >= {0, 2}
    replay = diffusion_model.replay(diffusion_avatar, recording)
    assert pixels(replay) == pixels(frames)
    assert replay.differing == []


def test_a_replay_resets_its_stages_where_the_session_was_reset() -> None:
    class Marking(ToyStage):
        def process(self, job: Job) -> Iterable[Job]:
            log.append(job.index)
            return super().process(job)

        def reset(self) -> None:
            log.append("reset")
            super().reset()

    log: list[Any] = []
    camera = Camera(np.diag([9.0, 9, 1]), np.eye(3), np.array([0, 0, 3.0]), 8, 8)
    rows = tuple(
        gas_rt.stream.recording.Admitted(i, g, 0, Request(pose(i), camera))
        for i, g in ((0, 0), (2, 0), (5, 2), (6, 2))
    )
    shown = tuple(gas_rt.stream.recording.Shown(i, "field") for i in (0, 5, 6))
    stages = [Marking("a"), ToyStage("b")]
    frames = list(Replay(Recording(None, rows, shown), stages))  # type: ignore[arg-type]
    assert [f.index for f in frames] == [0, 5, 6]
    assert log == [0, 2, "reset", 5, 6]
    assert stages[1].resets == 1
    assert all(stage.closed for stage in stages)


def toy_replay(stages: list[ToyStage]) -> Replay:
    """Three frames of toy stages."""
    camera = Camera(np.diag([9.0, 9, 1]), np.eye(3), np.array([0, 0, 3.0]), 8, 8)
    rows = tuple(
        gas_rt.stream.recording.Admitted(i, 0, 0, Request(pose(i), camera)) for i in range(3)
    )
    shown = tuple(gas_rt.stream.recording.Shown(i, "field") for i in range(3))
    return Replay(Recording(None, rows, shown), stages)  # type: ignore[arg-type]


def test_a_replay_that_is_closed_halfway_frees_its_stages_and_ends() -> None:
    stages = [ToyStage("a"), ToyStage("b")]
    replay = toy_replay(stages)
    frames = iter(replay)
    assert next(frames).index == 0
    assert not any(stage.closed for stage in stages)
    replay.close()
    assert all(stage.closed for stage in stages)
    assert list(frames) == []
    for stage in stages:
        stage.closed = False
    replay.close()
    assert not any(stage.closed for stage in stages)  # once


def test_a_replay_that_is_never_iterated_is_closed_too() -> None:
    stages = [ToyStage("a"), ToyStage("b")]
    with toy_replay(stages) as replay:
        assert not stages[0].closed
    assert all(stage.closed for stage in stages)
    with pytest.raises(SessionError, match=r"the replay is closed; call model\.replay"):
        list(replay)


def test_a_stage_of_a_replay_that_fails_to_close_masks_no_error() -> None:
    stages = [ToyStage("a"), ToyStage("b")]
    stages[0].jammed = True
    with pytest.raises(OSError, match="a is jammed"):
        list(toy_replay(stages))
    assert stages[1].closed
    stages[1].fail_on = 1
    with (
        pytest.warns(GasRtWarning, match="closing failed too: OSError: a is jammed"),
        pytest.raises(ValueError, match="toy trouble"),
    ):
        list(toy_replay(stages))


# ---- the file -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "good.gasrec"
    with diffusion_model.session(diffusion_avatar, on_late="lossless", record=path) as session:
        list(gas_rt.FrameStream(session, moving(person, 5)))
    return path


def test_a_file_holds_what_was_recorded_and_its_bytes_follow_from_it(
    recorded: Path, tmp_path: Path
) -> None:
    said = Recording.open(recorded)
    assert (said.session.policy, said.session.steps, said.session.backend) == (
        *("diagonal", 3),
        "openvino",
    )
    said.save(tmp_path / "again.gasrec")
    assert (tmp_path / "again.gasrec").read_bytes() == recorded.read_bytes()
    empty = replace(said, admitted=(), shown=())
    empty.save(tmp_path / "empty.gasrec")
    assert Recording.open(tmp_path / "empty.gasrec").admitted == ()


def rewritten(
    recorded: Path,
    target: Path,
    *,
    arrays: dict[str, Any] | None = None,
    mark: dict[str, Any] | None = None,
    without: str | None = None,
) -> Path:
    """The recording with some of it replaced."""
    from gas_rt.tensor_file import read_tensor_header

    tensors = {**load_file(recorded), **(arrays or {})}
    if without is not None:
        del tensors[without]
    metadata = read_tensor_header(recorded, what="").metadata
    said = {**json.loads(metadata[METADATA_KEY]), **(mark or {})}
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(tensors, target, {METADATA_KEY: json.dumps(said)})
    return target


I32, U8, F32 = np.int32, np.uint8, np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mark": {"format_version": 9}}, "recording format 9, this gas-rt reads 1"),
        ({"mark": {"steps": "three"}}, "its metadata say steps 'three'"),
        ({"mark": {"seed": True}}, "its metadata say seed True"),
        ({"mark": {"task": "dance"}}, "its metadata say task 'dance'"),
        ({"mark": {"fps": -1.0}}, r"its metadata say fps -1\.0"),
        ({"mark": {"extra": 1}}, "its metadata cannot be read"),
        ({"mark": {"bundle": {"name": "x"}}}, "its metadata cannot be read"),
        ({"mark": {"bundle": "x"}}, "its metadata cannot be read"),
        ({"without": "shown.level"}, "it lacks tensor 'shown.level'"),
        ({"arrays": {"more": np.zeros(1, F32)}}, "it has also tensor 'more'"),
        ({"arrays": {"admitted.index": np.arange(4, dtype=I32)}}, "generation is int32 .*5"),
        ({"mark": {"skip_below_rad": 4.0}}, r"its metadata say skip_below_rad 4\.0"),
        ({"mark": {"half_field": 1}}, "its metadata say half_field 1"),
        ({"arrays": {"admitted.reached": np.full(5, 3, U8)}}, r"value 3 is not in 0\.\.2"),
        ({"arrays": {"admitted.fresh": np.full(5, 2, U8)}}, r"value 2 is not in 0\.\.1"),
        ({"arrays": {"admitted.steps": np.full(5, -1, I32)}}, r"value -1 is not in 0\.\."),
        ({"arrays": {"admitted.rung": np.zeros(5, F32)}}, "admitted.rung is float32"),
        ({"arrays": {"admitted.rotations": np.zeros((5, 23, 3), F32)}}, r"\[5, 24, 3\]"),
        ({"arrays": {"admitted.index": np.zeros(5, I32)}}, "admitted.index: does not rise"),
        ({"arrays": {"admitted.index": -np.arange(5, 0, -1, dtype=I32)}}, "value -5 is not in"),
        ({"arrays": {"admitted.generation": np.arange(5, 0, -1, dtype=I32)}}, "falls"),
        ({"arrays": {"admitted.camera": np.full(5, 5, I32)}}, r"camera: value 5 is not in 0\.\.4"),
        ({"arrays": {"admitted.task": np.full(5, 3, U8)}}, r"task: value 3 is not in 0\.\.2"),
        ({"arrays": {"shown.level": np.full(5, 4, U8)}}, r"level: value 4 is not in 0\.\.3"),
        ({"arrays": {"shown.index": np.full(5, 77, I32)}}, "frame 77 was never admitted"),
        ({"arrays": {"shown.index": np.arange(4, -1, -1, dtype=I32)}}, "shown.index: falls"),
        ({"arrays": {"camera.rotation": np.ones((5, 3, 3), F32)}}, "Camera.rotation: expected"),
        ({"arrays": {"camera.size": np.zeros((5, 2), I32)}}, "Camera.width: expected 1"),
        ({"arrays": {"admitted.translation": np.full((5, 3), np.nan, F32)}}, "NaN or infinite"),
    ],
)
def test_a_malformed_recording_is_refused(
    recorded: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = rewritten(recorded, tmp_path / "bad.gasrec", **change)
    with pytest.raises(FileError, match=message) as caught:
        Recording.open(path)
    assert str(path) in str(caught.value)


def test_what_is_no_recording_is_refused(recorded: Path, tmp_path: Path) -> None:
    data = recorded.read_bytes()
    for name, content, message in (
        ("short", data[:-3], "truncated or damaged"),
        ("cut", data[:5], "not a gas-rt recording, or truncated"),
        ("empty", b"", "not a gas-rt recording, or truncated"),
        ("text", b"hello, this is no recording", "not a gas-rt recording"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=message):
            Recording.open(tmp_path / name)
    with pytest.raises(FileError, match="cannot be read: No such file"):
        Recording.open(tmp_path / "none")
    save_file({"x": np.zeros(1, F32)}, tmp_path / "other", {"a": "b"})
    with pytest.raises(FileError, match="its metadata lack 'gas_rt_recording'"):
        Recording.open(tmp_path / "other")


def test_settings_that_are_numbers_of_another_kind_are_recorded(
    toy_model: Model, avatar: Avatar, tmp_path: Path
) -> None:
    path, odd = tmp_path / "r.gasrec", np.float32(0.25)
    options = {"fps": Fraction(30000, 1001), "skip_below_rad": odd, "half_field": np.True_}
    with toy_model.session(avatar, record=path, **options):  # type: ignore[arg-type]
        pass
    said = Recording.open(path).session
    assert (said.fps, said.skip_below_rad, said.half_field) == (30000 / 1001, 0.25, True)


def test_a_trace_that_cannot_be_written_does_not_cost_the_recording(
    toy_model: Model, avatar: Avatar, tmp_path: Path
) -> None:
    folder, path = tmp_path / "gone", tmp_path / "r.gasrec"
    folder.mkdir()
    session = toy_model.session(avatar, trace=folder / "t.json", record=path)
    folder.rmdir()
    with pytest.raises(FileError, match=r"t\.json: cannot write"):
        session.close()
    assert Recording.open(path).shown == ()


def test_a_recording_of_too_many_frames_is_refused_before_it_is_read(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gas_rt.stream.recording.FRAMES_MAX", 4)
    with pytest.raises(FileError, match=r"admitted\.index has 5 entries, at most 4 are read"):
        Recording.open(recorded)


def test_another_bundle_avatar_or_machine_is_named(
    recorded: Path,
    tmp_path: Path,
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    toy_model: Model,
    avatar: Avatar,
) -> None:
    with pytest.raises(FileError, match=r"recording: was made with bundle toy 0\.0\.1"):
        toy_model.replay(avatar, recorded)
    somebody = replace(diffusion_avatar, betas=diffusion_avatar.betas + np.float32(0.1))
    with pytest.raises(FileError, match="recording: was made with avatar"):
        diffusion_model.replay(somebody, recorded)
    elsewhere = rewritten(recorded, tmp_path / "r", mark={"threads": 64})
    with pytest.warns(GasRtWarning, match="recorded with threads 64, here it is 2"):
        assert len(list(diffusion_model.replay(diffusion_avatar, elsewhere))) == 5
    for mark, message in (
        ({"policy": "magic"}, "policy 'magic'"),
        ({"steps": 77}, "steps: policy 'diagonal' .*, got 77"),
        ({"seed": -1}, "seed: expected"),
        ({"mode": "rough"}, "mode: expected one of"),
    ):
        odd = rewritten(recorded, tmp_path / "odd", mark=mark)
        with pytest.raises(InputError, match=message):
            diffusion_model.replay(diffusion_avatar, odd)


def test_an_avatar_keeps_its_fingerprint_in_its_file(
    diffusion_avatar: Avatar, tmp_path: Path
) -> None:
    diffusion_avatar.save(tmp_path / "a.avatar")
    assert Avatar.open(tmp_path / "a.avatar").fingerprint == diffusion_avatar.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", diffusion_avatar.fingerprint)


def test_a_recording_that_cannot_be_written_is_named_before_the_session_opens(
    toy_model: Model, avatar: Avatar, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=r"record: folder .* does not exist"):
        toy_model.session(avatar, record=tmp_path / "none" / "r.gasrec")
    with pytest.raises(InputError, match="record: expected True or a path, got 3"):
        toy_model.session(avatar, record=3)  # type: ignore[arg-type]
    assert not toy_model._sessions
