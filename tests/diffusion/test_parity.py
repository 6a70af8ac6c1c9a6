"""`parity` against the release's rule written as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import Window
from gas_rt.diffusion import (
    RELEASE_WINDOW,
    ParityPolicy,
    Schedule,
    frame_noise,
    fusion_weights,
    initial_std,
    karras_sigmas,
    tiles,
)
from gas_rt.errors import InputError
from tests.diffusion import naive
from tests.diffusion.toys import SHAPE, assert_same, clip, drive, few_steps, mixing, per_frame

ATOL = 2e-4  # fp32 sums against fp64 sums, from sigma 700 down


def test_the_releases_windows() -> None:
    assert tiles(20, RELEASE_WINDOW) == [list(range(20))]
    assert tiles(34, RELEASE_WINDOW) == [list(range(20)), [0, *range(15, 34)]]
    assert tiles(40, RELEASE_WINDOW) == [
        list(range(20)),
        [0, *range(15, 34)],
        [0, *range(21, 40)],
    ]
    assert tiles(3, RELEASE_WINDOW) == [[0, 1, 2]]


def test_the_releases_weights() -> None:
    rising = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]
    np.testing.assert_allclose(fusion_weights(20), rising + rising[::-1], rtol=1e-6)


def test_every_frame_is_in_a_window_and_none_is_twice_in_one() -> None:
    for count in range(1, 90):
        windows = tiles(count, RELEASE_WINDOW)
        assert {i for window in windows for i in window} == set(range(count))
        assert all(len(set(window)) == len(window) for window in windows)


@pytest.mark.parametrize("count", [1, 5, 19, 20, 21, 34, 47])
def test_release_window_equals_plain_loops(count: int) -> None:
    sigmas = karras_sigmas(3)
    schedule = Schedule(Window(anchor=1, context=5, chunk=14, steps=3), sigmas)
    frames = clip(count, tasks=("view",))
    found = drive(ParityPolicy(schedule, latent_shape=SHAPE), frames, mixing)
    expected = naive.parity(frames, sigmas, mixing, tile=20, overlap=6)
    assert_same(found, expected, atol=ATOL)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 15),
    st.integers(0, 3),
    st.integers(1, 4),
    st.lists(st.integers(0, 3), max_size=15),
)
def test_any_window_any_length_any_arrival(
    count: int, context: int, chunk: int, between: list[int]
) -> None:
    schedule = few_steps(30.0, 2.0, 0.1, 0.0, context=context, chunk=chunk)
    frames = clip(count, stride=3)
    policy = ParityPolicy(schedule, latent_shape=SHAPE)
    found = drive(policy, frames, mixing, calls_between=between)
    tile = 1 + context + chunk
    expected = naive.parity(frames, schedule.sigmas, mixing, tile=tile, overlap=1 + context)
    assert_same(found, expected, atol=ATOL)


def test_calls_are_steps_times_windows_and_cost_what_the_release_costs() -> None:
    schedule = Schedule(RELEASE_WINDOW, karras_sigmas(25))
    calls = []
    policy = ParityPolicy(schedule, latent_shape=SHAPE, noise_period=20)
    drive(policy, clip(48), per_frame, watch=calls.append)
    assert len(calls) == 25 * 3
    assert {call.length for call in calls} == {20}
    assert all((call.sigma == call.sigma[0]).all() for call in calls)
    assert calls[0].roles[0] == "anchor"
    assert all(call.frames[0].index == 0 for call in calls)
    assert (calls[-1].sigma_next == 0).all()


def test_the_first_call_sees_the_releases_noise() -> None:
    schedule = Schedule(RELEASE_WINDOW, karras_sigmas(25))
    policy = ParityPolicy(schedule, latent_shape=SHAPE, noise_period=20)
    for frame in clip(34):
        policy.admit(frame)
    policy.end()
    first = policy.next_call()
    assert first is not None
    std = np.float32(initial_std(700.0))
    for slot in (0, 7, 19):
        expected = frame_noise(7, slot, shape=SHAPE) * std
        np.testing.assert_allclose(first.x[slot], expected, rtol=1e-6)


def test_a_short_clip_is_padded_by_its_last_frame_whose_copies_do_not_count() -> None:
    schedule = few_steps(9.0, 1.0, 0.0, context=3, chunk=4)
    calls = []
    frames = clip(3)
    policy = ParityPolicy(schedule, latent_shape=SHAPE)
    found = drive(policy, frames, per_frame, watch=calls.append)
    assert calls[0].roles == ("anchor", "flight", "flight") + ("padding",) * 5
    assert list(calls[1].indices) == [0, 1, 2, 2, 2, 2, 2, 2]
    np.testing.assert_array_equal(calls[1].x[3], calls[1].x[2])
    assert len(found) == 3


def test_waits_for_the_end_of_the_clip_and_has_one_schedule() -> None:
    policy = ParityPolicy(few_steps(9.0, 0.0), latent_shape=SHAPE)
    other = few_steps(9.0, 1.0, 0.0)
    policy.change_schedule(other)
    policy.admit(clip(1)[0])
    assert policy.next_call() is None
    assert [f.index for f in policy.readable] == [0]
    with pytest.raises(InputError, match="one schedule"):
        policy.change_schedule(few_steps(9.0, 0.0))
    policy.change_schedule(other)
    policy.end()
    assert policy.next_call() is not None


def test_needs_its_anchor_slot() -> None:
    with pytest.raises(InputError, match="set it to 1"):
        ParityPolicy(few_steps(9.0, 0.0, anchor=0), latent_shape=SHAPE)
