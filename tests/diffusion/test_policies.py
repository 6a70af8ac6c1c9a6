"""What all policies promise: one interface, refusals that name the fault, reset, agreement."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gas_rt.core import F32, Window
from gas_rt.diffusion import (
    POLICIES,
    Anchor,
    FrameSpec,
    Schedule,
    WindowPolicy,
    frame_noise,
    initial_std,
    open_policy,
)
from gas_rt.errors import InputError, ShapeError
from tests.diffusion.toys import (
    SEED,
    SHAPE,
    answer,
    assert_same,
    clip,
    drive,
    few_steps,
    mixing,
    per_frame,
    toy_anchor,
)

LEVELS = (700.0, 20.0, 3.0, 0.3, 0.002)


def opened(name: str, **options: Any) -> WindowPolicy:
    anchor = None if name == "parity" else toy_anchor()
    return open_policy(
        name, few_steps(*LEVELS, context=2, chunk=2), latent_shape=SHAPE, anchor=anchor, **options
    )


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> WindowPolicy:
    return opened(request.param)


def begun(policy: WindowPolicy, count: int = 5) -> WindowPolicy:
    for frame in clip(count):
        policy.admit(frame)
    policy.end()
    return policy


def by_hand(frame: FrameSpec) -> F32:
    """What Euler makes of one frame alone under `per_frame`, in float64."""
    x = frame_noise(SEED, frame.index, shape=SHAPE).astype(np.float64) * initial_std(LEVELS[0])
    for sigma, sigma_next in pairwise(LEVELS):
        x0 = (x + float(frame.handle) * sigma**2) / (sigma**2 + 1)  # type: ignore[arg-type]
        x = x0 + sigma_next / sigma * (x - x0)
    return x.astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_all_policies_agree_where_frames_do_not_mix(policy: WindowPolicy, count: int) -> None:
    frames = clip(count, tasks=("view", "pose"))
    found = drive(policy, frames, per_frame)
    assert_same(found, {frame.index: by_hand(frame) for frame in frames}, atol=1e-4)


def test_reset_begins_anew_and_says_what_was_lost(policy: WindowPolicy) -> None:
    expected = drive(policy, clip(6), mixing)
    assert policy.reset() == ()
    frames = clip(9)
    for frame in frames[:7]:
        policy.admit(frame)
    finals: list[int] = []
    for _ in range(5):
        if (call := policy.next_call()) is not None:
            finals += [f.frame.index for f in policy.complete(call, *answer(call, mixing))]
    lost = policy.reset()
    assert [f.index for f in lost] == [k for k in range(7) if k not in finals]
    assert policy.unfinished == ()
    assert_same(drive(policy, clip(6), mixing), expected)


def test_the_stream_is_done_only_when_ended_and_empty(policy: WindowPolicy) -> None:
    assert not policy.done
    assert policy.next_call() is None
    begun(policy)
    policy.end()
    assert not policy.done
    while (call := policy.next_call()) is not None:
        policy.complete(call, *answer(call, mixing))
    assert policy.done
    assert policy.readable == ()
    with pytest.raises(InputError, match="the stream has ended"):
        policy.admit(clip(1, first=99)[0])


def test_a_call_is_asked_for_until_it_is_completed_once(policy: WindowPolicy) -> None:
    begun(policy)
    call = policy.next_call()
    assert call is not None
    assert policy.next_call() is call
    assert not call.x.flags.writeable
    policy.complete(call, *answer(call, mixing))
    with pytest.raises(InputError, match="not the one asked for"):
        policy.complete(call, *answer(call, mixing))


def test_an_answer_from_before_a_reset_is_refused(policy: WindowPolicy) -> None:
    call = begun(policy).next_call()
    assert call is not None
    policy.reset()
    with pytest.raises(InputError, match="after a reset"):
        policy.complete(call, *answer(call, mixing))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_latent_that_is_not_finite_is_refused_and_can_be_run_again(
    policy: WindowPolicy, value: float
) -> None:
    expected = drive(opened(policy.name), clip(5), mixing)
    begun(policy)
    call = policy.next_call()
    assert call is not None
    x_next, x0 = answer(call, mixing)
    for spoilt in (0, 1):
        pair = [x_next.copy(), x0.copy()]
        pair[spoilt][-1, 0, 0, 0] = value
        last = call.frames[-1].index
        with pytest.raises(
            ShapeError, match=rf"{('x_next', 'x0')[spoilt]} of call 0.*frame {last}"
        ):
            policy.complete(call, *pair)
    finals = {}
    while (call := policy.next_call()) is not None:
        for final in policy.complete(call, *answer(call, mixing)):
            finals[final.frame.index] = final.latent
    assert_same(finals, expected)


def test_an_answer_of_another_shape_is_refused(policy: WindowPolicy) -> None:
    call = begun(policy).next_call()
    assert call is not None
    x_next, x0 = answer(call, mixing)
    with pytest.raises(ShapeError, match="x_next of call 0: expected shape"):
        policy.complete(call, x_next[1:], x0)
    with pytest.raises(ShapeError, match="x0 of call 0: expected numbers"):
        policy.complete(call, x_next, x0.astype(str))


def test_final_latents_are_read_only(policy: WindowPolicy) -> None:
    begun(policy)
    while (call := policy.next_call()) is not None:
        for final in policy.complete(call, *answer(call, mixing)):
            assert not final.latent.flags.writeable


def test_frames_come_in_rising_order_each_once(policy: WindowPolicy) -> None:
    frames = clip(4)
    policy.admit(frames[2])
    for wrong in (frames[2], frames[1]):
        with pytest.raises(InputError, match="came after frame 2"):
            policy.admit(wrong)
    with pytest.raises(InputError, match="negative"):
        policy.admit(replace(frames[0], index=-1))
    policy.admit(frames[3])


def test_zero_frames(policy: WindowPolicy) -> None:
    with pytest.raises(InputError, match="zero frames"):
        policy.end()


def test_unknown_policies_and_options_they_lack() -> None:
    layout = few_steps(*LEVELS)
    with pytest.raises(InputError, match="'wavefront': unknown; choose one of parity, seq"):
        open_policy("wavefront", layout, latent_shape=SHAPE)
    with pytest.raises(InputError, match="renoise is sequential's"):
        opened("diagonal", renoise=True)
    with pytest.raises(InputError, match="leave anchor"):
        open_policy("parity", layout, latent_shape=SHAPE, anchor=toy_anchor())
    with pytest.raises(InputError, match="leave the anchor out"):
        open_policy(
            "sequential", few_steps(*LEVELS, anchor=0), latent_shape=SHAPE, anchor=toy_anchor()
        )
    with pytest.raises(InputError, match="latent_shape"):
        open_policy("parity", layout, latent_shape=(4, 0, 2))
    with pytest.raises(InputError, match="noise_period"):
        opened("parity", noise_period=0)


def test_anchors_that_do_not_fit() -> None:
    anchor = toy_anchor()
    with pytest.raises(ShapeError, match="encode the reference at the stream's size"):
        open_policy("diagonal", few_steps(*LEVELS), latent_shape=(2, 2, 2), anchor=anchor)
    wrong = Anchor(replace(anchor.frame, index=0), anchor.latent)
    with pytest.raises(InputError, match=r"Anchor.frame.index: must be -1"):
        open_policy("diagonal", few_steps(*LEVELS), latent_shape=SHAPE, anchor=wrong)
    spoilt = anchor.latent.copy()
    spoilt[0, 0, 0] = np.nan
    with pytest.raises(ShapeError, match=r"Anchor.latent: 1 of 12 values are NaN"):
        Anchor(anchor.frame, spoilt)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("index", 2**63),
        ("index", 1.0),
        ("seed", -1),
        ("seed", 2**64),
        ("task", "dance"),
        ("guidance", math.nan),
        ("guidance", -0.5),
        ("guidance", "2"),
    ],
)
def test_frames_that_are_none(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"FrameSpec.{field}"):
        replace(clip(1)[0], **{field: value})


@pytest.mark.parametrize(
    ("window", "sigmas", "words"),
    [
        (Window(1, 3, 1, 0), (1.0,), "steps: must be at least 1"),
        (Window(1, 3, 0, 1), (1.0, 0.0), "chunk: must be at least 1"),
        (Window(1, -1, 1, 1), (1.0, 0.0), "context: must be at least 0"),
        (Window(2, 3, 1, 1), (1.0, 0.0), "anchor: must be 0 or 1"),
        (Window(1, 3, 1, 2), (1.0, 0.0), "2 steps need 3 levels, got 2"),
        (Window(1, 3, 1, 2), (1.0, 2.0, 0.0), "descend strictly"),
    ],
)
def test_schedules_that_are_none(window: Window, sigmas: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Schedule(window, sigmas)


@pytest.mark.parametrize("name", ["sequential", "diagonal"])
def test_a_change_of_schedule_lets_an_incomplete_chunk_go_at_once(name: str) -> None:
    policy = opened(name)
    policy.admit(clip(1)[0])
    assert policy.next_call() is None  # chunks are of two
    policy.change_schedule(few_steps(9.0, 0.002, context=1, chunk=2))
    call = policy.next_call()
    assert call is not None
    assert call.roles[-2:] == ("flight", "padding")
