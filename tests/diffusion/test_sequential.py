"""`sequential` against plain loops over the clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import Task
from gas_rt.diffusion import SIGMA_MIN, SequentialPolicy
from tests.diffusion import naive
from tests.diffusion.toys import (
    SHAPE,
    assert_same,
    clip,
    drive,
    few_steps,
    mixing,
    per_frame,
    schedule,
    toy_anchor,
)

TASKS: tuple[Task, ...] = ("view", "view", "view", "pose", "pose")


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 14),
    context=st.integers(0, 4),
    chunk=st.integers(1, 5),
    steps=st.integers(1, 4),
    anchor_slot=st.integers(0, 1),
    given_anchor=st.booleans(),
    renoise=st.booleans(),
    between=st.lists(st.integers(0, 6), max_size=14),
)
def test_any_layout_any_length_any_arrival(
    count: int,
    context: int,
    chunk: int,
    steps: int,
    anchor_slot: int,
    given_anchor: bool,
    renoise: bool,
    between: list[int],
) -> None:
    anchor = toy_anchor() if given_anchor and anchor_slot else None
    layout = schedule(context=context, chunk=chunk, steps=steps, anchor=anchor_slot)
    frames = clip(count, tasks=TASKS)
    policy = SequentialPolicy(layout, latent_shape=SHAPE, anchor=anchor, renoise=renoise)
    found = drive(policy, frames, mixing, calls_between=between)
    expected = naive.sequential(frames, layout, mixing, anchor=anchor, renoise=renoise)
    assert_same(found, expected)


def test_live_windows_are_anchor_context_chunk() -> None:
    calls = []
    layout = few_steps(9.0, 1.0, 0.01, context=3, chunk=4)
    policy = SequentialPolicy(layout, latent_shape=SHAPE, anchor=toy_anchor())
    drive(policy, clip(10), per_frame, watch=calls.append)
    assert len(calls) == 3 * 2
    assert [list(call.indices) for call in calls[::2]] == [
        [-1, -4, -3, -2, 0, 1, 2, 3],
        [-1, 1, 2, 3, 4, 5, 6, 7],
        [-1, 5, 6, 7, 8, 9, 10, 11],
    ]
    assert calls[0].roles == ("anchor", *["padding"] * 3, *["flight"] * 4)
    assert calls[5].roles == ("anchor", *["context"] * 3, *["flight"] * 2, *["padding"] * 2)
    np.testing.assert_allclose(calls[5].sigma, [SIGMA_MIN] * 4 + [1.0] * 4)
    np.testing.assert_allclose(calls[5].sigma_next, [SIGMA_MIN] * 4 + [0.01] * 4)
    np.testing.assert_array_equal(calls[4].x[:4], calls[5].x[:4])


def test_context_is_the_emitted_latent_itself() -> None:
    layout = few_steps(9.0, 0.002, context=2, chunk=2, anchor=0)
    calls = []
    policy = SequentialPolicy(layout, latent_shape=SHAPE)
    finals = drive(policy, clip(6), mixing, watch=calls.append)
    np.testing.assert_array_equal(calls[1].x[:2], np.stack([finals[2], finals[3]]))


def test_without_an_anchor_the_first_window_flies_whole_and_founds_the_anchor() -> None:
    """The release's tiles, streamed: 20 frames, then 14 new ones beside frame 0 and the last 5."""
    layout = schedule(context=5, chunk=14, steps=2)
    calls = []
    policy = SequentialPolicy(layout, latent_shape=SHAPE, renoise=True)
    finals = drive(policy, clip(34), mixing, watch=calls.append)
    assert [list(call.indices) for call in calls[::2]] == [
        list(range(20)),
        [0, *range(15, 20), *range(20, 34)],
    ]
    assert calls[0].roles == ("flight",) * 20
    for call in calls:  # the authors' weights know one sigma per window
        assert (call.sigma == call.sigma[0]).all()
        assert (call.sigma_next == call.sigma_next[0]).all()
    clean = calls[3].x[0] - calls[3].sigma[0] * naive.noise(calls[3].frames[0])
    np.testing.assert_allclose(clean, finals[0], atol=1e-4)


def test_a_change_of_steps_takes_effect_at_its_frame_whenever_calls_run() -> None:
    four = few_steps(9.0, 3.0, 1.0, 0.1, 0.002, context=2, chunk=2)
    one = few_steps(9.0, 0.002, context=1, chunk=3)
    expected = None
    for between in ([], [9] * 9, [0, 1, 0, 2]):
        calls = []
        policy = SequentialPolicy(four, latent_shape=SHAPE, anchor=toy_anchor(), longest_window=9)
        found = drive(
            policy,
            clip(9),
            mixing,
            calls_between=between,
            changes={3: one, 6: four},
            watch=calls.append,
        )
        # 0 1 | 2 + ghost, 4 steps each; 3 4 5 in one; 6 7 | 8 + ghost, 4 steps each.
        assert [call.length for call in calls] == [5] * 8 + [5] + [5] * 8
        expected = expected or found
        assert_same(found, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_streams_shorter_than_a_chunk(count: int) -> None:
    layout = schedule(context=3, chunk=4, steps=2)
    policy = SequentialPolicy(layout, latent_shape=SHAPE, anchor=toy_anchor())
    assert len(drive(policy, clip(count), mixing)) == count
