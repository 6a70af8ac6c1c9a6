"""Mid-stream: other steps, another avatar, and the ladder, through sessions of the toy bundle."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import gas_rt
from gas_rt import Avatar, InputError, LadderConfig, Model, SessionError
from gas_rt.core import Frame, Request
from gas_rt.stream.session import Session
from tests.toy_person import QUICK_BAKE, ToyPerson

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def other(diffusion_model: Model, person: ToyPerson) -> Avatar:
    """The toy person in other colours."""
    return diffusion_model.enroll(255 - person.rgb, person.fit, person.mask, bake=QUICK_BAKE)


def through(session: Session, requests: list[Request]) -> list[Frame]:
    def frames() -> Iterator[Frame]:
        for request in requests:
            while not session.push_request(request):
                session.wait_to_push()
                if (frame := session.poll()) is not None:
                    yield frame
        session.finish()
        yield from session

    return list(frames())


# ---- steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "fewer"), [("diagonal", 1), ("sequential", 1)])
def test_steps_change_from_one_request_to_the_next(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    policy: str,
    fewer: int,
) -> None:
    requests = person.requests(24, side=128)
    mixed = [replace(r, steps=fewer) if 8 <= k < 16 else r for k, r in enumerate(requests)]
    found = {}
    for pause in (False, True):
        session = diffusion_model.session(
            diffusion_avatar, policy=policy, on_late="lossless", pipelined=not pause
        )
        with session:
            found[pause] = through(session, mixed)
    plain = list(diffusion_model.stream(diffusion_avatar, requests, policy=policy))
    for frames in found.values():
        assert [frame.index for frame in frames] == list(range(24))
        assert {frame.level for frame in frames} == {"full"}  # it is what was asked for
    for one, two in zip(found[False], found[True], strict=True):
        np.testing.assert_array_equal(one.rgb, two.rgb)  # whatever the threads
    same = [np.array_equal(a.rgb, b.rgb) for a, b in zip(found[False], plain, strict=True)]
    assert same[:5] == [True] * 5
    assert not all(same[8:16])


def test_steps_that_a_policy_lacks_are_refused_at_the_push(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    with diffusion_model.session(diffusion_avatar) as session:
        with pytest.raises(InputError, match=r"steps: a frame of policy 'diagonal' .* 1, 3, got 2"):
            session.push(person.pose, person.camera, steps=2)
        assert session.push(person.pose, person.camera, steps=1)
    with diffusion_model.session(
        diffusion_avatar, policy="parity", steps=3, on_late="lossless"
    ) as session:
        with pytest.raises(InputError, match=r"policy 'parity' in this session takes 3, got 2"):
            session.push(person.pose, person.camera, steps=2)
        assert session.push(person.pose, person.camera, steps=3)


# ---- another avatar ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["field", "diagonal", "sequential", "parity"])
@pytest.mark.parametrize("pipelined", [True, False])
def test_a_cut_gives_each_avatar_the_frames_of_a_stream_of_its_own(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    other: Avatar,
    person: ToyPerson,
    policy: str,
    pipelined: bool,
) -> None:
    requests = person.requests(14, side=128)
    session = diffusion_model.session(
        diffusion_avatar, policy=policy, on_late="lossless", pipelined=pipelined
    )
    frames: list[Frame] = []
    with session:
        for k, request in enumerate(requests):
            if k == 6:
                assert session.cut_to(other) == 6
            while not session.push_request(request):
                session.wait_to_push()
                if (frame := session.poll()) is not None:
                    frames.append(frame)
        session.finish()
        frames += list(session)
        stats = session.stats()
    assert (stats.accepted, stats.delivered, stats.dropped) == (14, 14, 0)
    assert [frame.index for frame in frames] == list(range(14))
    before = list(diffusion_model.stream(diffusion_avatar, requests[:6], policy=policy))
    for one, two in zip(frames[:6], before, strict=True):
        np.testing.assert_array_equal(one.rgb, two.rgb)
    # The noise of a frame comes from its index, so the other one's stream has to begin at 6.
    with diffusion_model.session(other, policy=policy, on_late="lossless") as alone:
        alone._pipeline.ledger.accepted = 6
        after = through(alone, requests[6:])
    for one, two in zip(frames[6:], after, strict=True):
        np.testing.assert_array_equal(one.rgb, two.rgb)


def test_cuts_without_poses_between_them_and_after_a_reset_leave_nothing(
    diffusion_model: Model, diffusion_avatar: Avatar, other: Avatar, person: ToyPerson
) -> None:
    threads = threading.active_count()
    requests = person.requests(6, side=128)
    session = diffusion_model.session(diffusion_avatar, on_late="lossless")
    closed: list[str] = []
    takeover = session._takeover
    assert takeover is not None

    def watched(avatar: Avatar) -> object:
        made = takeover(avatar)
        for stage in made.stages:
            close = stage.close
            stage.close = lambda close=close, name=stage.name: (closed.append(name), close())  # type: ignore[method-assign,misc,assignment]
        return made

    session._takeover = watched  # type: ignore[assignment]
    with session:
        assert session.push_request(requests[0])
        assert [session.cut_to(a) for a in (other, diffusion_avatar, other)] == [1, 1, 1]
        assert session.push_request(requests[1])
        session.reset()
        assert session.cut_to(diffusion_avatar) == 2
        assert session.push_request(requests[2])
        session.cut_to(other)  # nothing comes for it
        session.finish()
        assert [frame.index for frame in session] == [2]
        with pytest.raises(SessionError, match="finish"):
            session.cut_to(other)
    assert sorted(closed) == sorted(["body", "condition", "denoise", "decode"] * 5)
    assert threading.active_count() == threads


def test_an_avatar_is_freed_when_its_last_frame_has_left_it(
    diffusion_model: Model, diffusion_avatar: Avatar, other: Avatar, person: ToyPerson
) -> None:
    requests = person.requests(6, side=128)
    first, unused = replace(diffusion_avatar), replace(other)
    alive: list[weakref.ref[object]] = [weakref.ref(first), weakref.ref(unused)]
    with diffusion_model.session(first, on_late="lossless") as session:
        alive += [weakref.ref(session._pipeline._lanes.stage(k)) for k in range(3)]
        session.push_wait_request(requests[0], timeout_s=PATIENCE_S)
        for avatar in (unused, other):
            session.cut_to(avatar)
        del first, unused, avatar
        for request in requests[1:]:
            assert session.push_wait_request(request, timeout_s=PATIENCE_S)
        assert [f.index for f in (session.wait(timeout_s=PATIENCE_S) for _ in "ab") if f] == [0, 1]
        gc.collect()
        assert [ref() for ref in alive] == [None] * 5


def test_a_cut_to_an_avatar_of_another_bundle_is_refused_and_the_stream_goes_on(
    diffusion_model: Model, diffusion_avatar: Avatar, avatar: Avatar, person: ToyPerson
) -> None:
    with diffusion_model.session(diffusion_avatar, policy="field") as session:
        with pytest.raises(InputError, match="was enrolled with bundle"):
            session.cut_to(avatar)
        assert session.push(person.pose, person.camera)
        assert session.wait(timeout_s=PATIENCE_S) is not None


def test_a_cut_of_a_stream_that_ended_makes_nothing_ready(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    other: Avatar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Avatar] = []
    session = diffusion_model.session(diffusion_avatar)
    monkeypatch.setattr(session, "_takeover", made.append)
    session.finish()
    with pytest.raises(SessionError, match="finish"):
        session.cut_to(other)
    session.close()
    with pytest.raises(SessionError, match="the session is closed"):
        session.cut_to(other)
    assert not made


# ---- the ladder -------------------------------------------------------------------------------


def test_ladders_are_on_where_frames_may_depend_on_timing(
    diffusion_model: Model, diffusion_avatar: Avatar
) -> None:
    def ladder_of(**options: object) -> LadderConfig | None:
        with diffusion_model.session(diffusion_avatar, **options) as session:  # type: ignore[arg-type]
            return session.config.ladder

    assert ladder_of() == ladder_of(on_late="paced", ladder=True) == LadderConfig()
    assert ladder_of(on_late="lossless") is None
    assert ladder_of(ladder=False) is None
    assert ladder_of(ladder=LadderConfig(settle_s=3)) == LadderConfig(settle_s=3)
    with pytest.raises(InputError, match="ladder: frames of a 'lossless' session do not depend"):
        ladder_of(on_late="lossless", ladder=True)
    with pytest.raises(InputError, match=r"ladder: expected True, False or a gas_rt\.LadderConfig"):
        ladder_of(ladder="steep")
    with pytest.raises(InputError, match="max_age_ms: expected a time above 0"):
        ladder_of(max_age_ms=0)


def test_a_denoiser_that_hangs_leaves_the_field_and_then_held_frames(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    """Real threads: the denoiser waits for a gate, and frames come all the same."""
    gate, entered = threading.Event(), threading.Event()
    requests = person.requests(8, side=128)
    session = diffusion_model.session(diffusion_avatar, fps=25)
    stage = session._pipeline._lanes.stage(1)
    real = stage._denoiser  # type: ignore[attr-defined]

    def hanging(call: object, condition: object) -> object:
        entered.set()
        assert gate.wait(PATIENCE_S)
        return real(call, condition)

    stage._denoiser = hanging  # type: ignore[attr-defined]
    levels, indices = [], []
    with session:
        session.push_request(requests[0])
        assert entered.wait(PATIENCE_S)
        for request in requests[1:]:
            session.push_request(request)
            frame = session.wait(timeout_s=PATIENCE_S)
            assert frame is not None
            levels.append(frame.level)
            indices.append(frame.index)
        gate.set()
        session.finish()
        rest = list(session)
        stats = session.stats()
    assert set(levels) <= {"field", "held"}
    assert levels[0] == "field"
    assert indices == sorted(indices)
    assert all(frame.index > indices[-1] for frame in rest if frame.level != "held")
    assert stats.accepted == stats.delivered + stats.dropped
    assert sum(stats.levels.values()) == len(levels) + len(rest)
    assert stats.delivered == sum(stats.levels.values()) - stats.levels.get("held", 0)
    expected = diffusion_model.performer(diffusion_avatar)
    picture = expected.picture(requests[0].pose, requests[0].camera)
    assert picture.rgb.shape == (128, 128, 3)


def test_a_field_session_has_no_rung_below_but_held_frames(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    with toy_model.session(avatar) as session:
        session.push(person.pose, person.camera)
        assert session.wait(timeout_s=PATIENCE_S) is not None
        assert session.stats().levels == {"field": 1}
    assert gas_rt.LadderConfig().late_after == 1.35
