"""`diagonal` against plain loops over the clip, and what a change of schedule does to its queue."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import F32, Task, Window
from gas_rt.diffusion import SIGMA_MIN, Call, DiagonalPolicy, Schedule, initial_std, karras_sigmas
from gas_rt.errors import InputError
from tests.diffusion import naive
from tests.diffusion.toys import (
    SHAPE,
    answer,
    assert_same,
    clip,
    drive,
    few_steps,
    mixing,
    per_frame,
    schedule,
    toy_anchor,
)

TASKS: tuple[Task, ...] = ("view", "view", "pose")
LIVE = few_steps(700.0, 20.0, 3.0, 0.3, 0.002)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 14),
    context=st.integers(0, 4),
    chunk=st.integers(1, 4),
    steps=st.integers(1, 4),
    anchored=st.booleans(),
    between=st.lists(st.integers(0, 3), max_size=14),
)
def test_any_layout_any_length_any_arrival(
    count: int, context: int, chunk: int, steps: int, anchored: bool, between: list[int]
) -> None:
    layout = schedule(context=context, chunk=chunk, steps=steps, anchor=int(anchored))
    anchor = toy_anchor() if anchored else None
    frames = clip(count, tasks=TASKS)
    policy = DiagonalPolicy(layout, latent_shape=SHAPE, anchor=anchor)
    found = drive(policy, frames, mixing, calls_between=between)
    assert_same(found, naive.diagonal(frames, layout, mixing, anchor=anchor))


def test_the_live_profile_in_steady_state() -> None:
    calls: list[Call] = []
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor())
    finals = drive(policy, clip(12), mixing, watch=calls.append)
    steady = calls[7]
    assert steady.length == 8
    assert list(steady.indices) == [-1, 1, 2, 3, 4, 5, 6, 7]
    assert steady.roles == ("anchor", *["context"] * 3, *["flight"] * 4)
    np.testing.assert_allclose(steady.sigma, [SIGMA_MIN] * 4 + [0.3, 3, 20, 700])
    np.testing.assert_allclose(steady.sigma_next, [SIGMA_MIN] * 4 + [0.002, 0.3, 3, 20])
    np.testing.assert_array_equal(steady.x[1:4], np.stack([finals[k] for k in (1, 2, 3)]))
    np.testing.assert_allclose(
        steady.x[7], naive.noise(steady.frames[7]) * initial_std(700), rtol=1e-6
    )


def test_a_gain_shrinks_what_is_context_and_not_what_comes_out() -> None:
    calls: list[Call] = []
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor(), context_gain=0.5)
    finals = dict(drive(policy, clip(12), mixing, watch=calls.append))
    seen = 0
    for call in calls:
        for role, index, x in zip(call.roles, call.indices, call.x, strict=True):
            if role == "context" and index in finals:
                np.testing.assert_array_equal(x, finals[int(index)] * np.float32(0.5))
                seen += 1
    assert seen > 10
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="context_gain"):
            DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor(), context_gain=bad)


def test_a_call_per_frame_and_the_first_frame_after_steps_calls() -> None:
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor())
    emitted = []
    for frame in clip(9):
        policy.admit(frame)
        call = policy.next_call()
        assert call is not None
        emitted.append([f.frame.index for f in policy.complete(call, *answer(call, mixing))])
        assert policy.next_call() is None  # it waits for the next frame
    assert emitted == [[], [], [], [0], [1], [2], [3], [4], [5]]


def test_before_the_first_frame_the_stream_was_the_anchor_held() -> None:
    calls: list[Call] = []
    anchor = toy_anchor()
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=anchor)
    drive(policy, clip(6), mixing, watch=calls.append)
    np.testing.assert_array_equal(calls[0].sigma, calls[7].sigma)  # the ramp of any other call
    assert calls[0].roles == ("anchor", *["padding"] * 6, "flight")
    assert {frame.handle for frame in calls[0].frames[:7]} == {anchor.frame.handle}
    assert list(calls[0].indices) == [-1, -7, -6, -5, -4, -3, -2, 0]
    assert list(calls[1].indices) == [-1, -6, -5, -4, -3, -2, 0, 1]
    for call in calls[:3]:
        np.testing.assert_array_equal(call.x[:4], np.stack([anchor.latent] * 4))
    held = calls[0].x[5] - np.float32(3.0) * naive.noise(calls[0].frames[5])
    np.testing.assert_allclose(held, anchor.latent, atol=1e-5)


def test_at_the_end_the_last_frame_is_held_until_it_is_out() -> None:
    calls: list[Call] = []
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor())
    frames = clip(5)
    drive(policy, frames, mixing, watch=calls.append)
    assert len(calls) == 5 + 3
    assert calls[-1].roles == ("anchor", *["context"] * 3, "flight", *["padding"] * 3)
    assert {frame.handle for frame in calls[-1].frames[5:]} == {frames[-1].handle}
    np.testing.assert_array_equal(calls[-1].sigma, calls[4].sigma)


def test_the_window_takes_the_task_of_its_oldest_frame_for_the_anchor() -> None:
    tasks: tuple[Task, ...] = ("view",) * 6 + ("pose",) * 6
    calls: list[Call] = []
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor())
    drive(policy, clip(12, tasks=tasks), mixing, watch=calls.append)
    for call in calls:
        oldest = next(f for f, r in zip(call.frames, call.roles, strict=True) if r == "flight")
        assert call.frames[0].task == oldest.task
    mixed = calls[7]
    assert [f.task for f in mixed.frames[4:]] == ["view", "view", "pose", "pose"]
    np.testing.assert_array_equal(mixed.switcher[4:], [[0, 1], [0, 1], [1, 0], [1, 0]])


def small(steps: int, chunk: int, context: int) -> Schedule:
    window = Window(anchor=1, context=context, chunk=chunk, steps=steps)
    return Schedule(window, karras_sigmas(steps, sigma_max=50.0, last="clean"))


SCHEDULES = st.builds(small, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))


@settings(max_examples=25, deadline=None)
@given(
    first=SCHEDULES,
    count=st.integers(1, 20),
    changes=st.dictionaries(st.integers(0, 19), SCHEDULES, max_size=5),
    between=st.lists(st.integers(0, 3), max_size=20),
)
def test_schedule_changes_at_any_frame_lose_nothing_and_ignore_arrival(
    first: Schedule, count: int, changes: dict[int, Schedule], between: list[int]
) -> None:
    longest = max(s.window.length for s in [first, *changes.values()])
    frames = clip(count)
    own: list[Schedule] = []
    for k in range(count):
        own.append(changes.get(k, own[-1] if own else first))
    found = []
    for pattern in (between, []):
        calls: list[Call] = []
        policy = DiagonalPolicy(
            first, latent_shape=SHAPE, anchor=toy_anchor(), longest_window=longest
        )
        found.append(
            drive(
                policy,
                frames,
                mixing,
                calls_between=pattern,
                changes=changes,
                watch=calls.append,
            )
        )
        check_levels(calls, own)
        check_context(calls, found[-1])
    assert_same(found[0], found[1])


def check_levels(calls: list[Call], own: list[Schedule]) -> None:
    """Every frame goes down its own list, one level a call; windows have a shipped length."""
    seen: dict[int, list[tuple[float, float]]] = {}
    lengths = {schedule.window.length for schedule in own}
    for call in calls:
        assert call.length in lengths
        assert (call.sigma > 0).all()
        assert (call.sigma_next <= call.sigma).all()
        assert call.roles[0] == "anchor"
        flying = [call.roles[k] == "flight" for k in range(call.length)]
        for k in np.flatnonzero(flying):
            pair = (float(call.sigma[k]), float(call.sigma_next[k]))
            seen.setdefault(call.frames[k].index, []).append(pair)
    for k, layout in enumerate(own):
        levels = [float(np.float32(sigma)) for sigma in layout.sigmas]
        assert seen[k] == list(pairwise(levels))


def check_context(calls: list[Call], finals: dict[int, F32]) -> None:
    """Frames stand in their order, and those that are read are as they were emitted."""
    for call in calls:
        real = [k for k, role in enumerate(call.roles) if role in ("context", "flight")]
        assert list(call.indices[real]) == sorted(set(call.indices[real]))
        for k in real:
            if call.roles[k] == "context":
                assert call.sigma[k] == call.sigma_next[k] == np.float32(SIGMA_MIN)
                np.testing.assert_array_equal(call.x[k], finals[int(call.indices[k])])


def test_fewer_steps_shorten_the_queue_and_more_steps_lengthen_it() -> None:
    four = few_steps(700.0, 20.0, 3.0, 0.3, 0.002, context=3)
    two = few_steps(700.0, 3.0, 0.002, context=5)
    policy = DiagonalPolicy(four, latent_shape=SHAPE, anchor=toy_anchor())
    emitted = []
    for k, frame in enumerate(clip(18)):
        policy.change_schedule(two if 6 <= k < 12 else four)
        policy.admit(frame)
        call = policy.next_call()
        assert call is not None
        assert call.length == 8
        emitted.append([f.frame.index for f in policy.complete(call, *answer(call, per_frame))])
    assert emitted[3:6] == [[0], [1], [2]]
    assert emitted[6:12] == [[3], [4], [5, 6, 7], [8], [9], [10]]
    assert emitted[12:] == [[11], [], [], [12], [13], [14]]


def test_a_frames_result_does_not_depend_on_its_neighbours_if_the_denoiser_does_not() -> None:
    four = few_steps(700.0, 20.0, 3.0, 0.3, 0.002)
    frames = clip(10)
    alone = {
        frame.index: drive(
            DiagonalPolicy(four, latent_shape=SHAPE, anchor=toy_anchor()), [frame], per_frame
        )[frame.index]
        for frame in frames
    }
    together = drive(
        DiagonalPolicy(four, latent_shape=SHAPE, anchor=toy_anchor()), frames, per_frame
    )
    assert_same(together, alone)


def test_a_stream_of_any_length_holds_a_bounded_number_of_latents() -> None:
    policy = DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor())
    sizes = set()
    for frame in clip(300):
        policy.admit(frame)
        call = policy.next_call()
        assert call is not None
        policy.complete(call, *answer(call, per_frame))
        if frame.index > 20:
            sizes.add((len(policy.readable), len(policy.unfinished)))
    assert sizes == {(1 + 8 + 3, 3)}


def test_needs_the_anchor_its_window_has() -> None:
    with pytest.raises(InputError, match="no anchor was given"):
        DiagonalPolicy(LIVE, latent_shape=SHAPE)
    with pytest.raises(InputError, match="longest_window=10"):
        DiagonalPolicy(LIVE, latent_shape=SHAPE, anchor=toy_anchor()).change_schedule(
            few_steps(9.0, 1.0, 0.002, context=7)
        )
