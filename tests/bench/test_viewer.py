"""The viewer: cases by hand, and laws that hold for any times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt.bench.viewer import watch

MS = 1_000_000


def at(*ms: float) -> list[int]:
    return [round(m * MS) for m in ms]


def test_frames_in_time_never_stall() -> None:
    seen = watch(at(0, 40, 80, 120), fps=25, buffer_ms=0)
    assert (seen.frames, seen.stalls, seen.stall_ms) == (4, 0, 0.0)


def test_the_buffer_hides_lateness_up_to_its_length() -> None:
    late = at(0, 40, 180, 180, 180)  # the third is 100 ms late
    assert watch(late, fps=25, buffer_ms=100).stalls == 0
    assert watch(late, fps=25, buffer_ms=99).stalls == 1
    seen = watch(late, fps=25, buffer_ms=40)
    assert (seen.stalls, seen.stall_ms, seen.longest_stall_ms) == (1, 60.0, 60.0)


def test_a_stall_is_not_counted_again_in_the_frames_behind_it() -> None:
    seen = watch(at(0, 140, 180, 220, 320), fps=25, buffer_ms=0)
    assert (seen.stalls, seen.stall_ms, seen.longest_stall_ms) == (2, 160.0, 100.0)


def test_a_rate_below_the_viewers_stalls_in_the_end() -> None:
    slow = at(*(50 * k for k in range(100)))  # 10 ms behind per frame: 100 ms last 10 frames
    seen = watch(slow, fps=25, buffer_ms=100)
    assert seen.stalls == 100 - 11
    assert seen.stall_ms == pytest.approx(990 - 100)


def test_nothing_to_see() -> None:
    assert watch([], fps=25, buffer_ms=100).as_dict() == {
        "frames": 0,
        "stalls": 0,
        "stall_ms": 0,
        "longest_stall_ms": 0,
    }


times = st.lists(st.integers(0, 500), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[: k + 1]) * MS for k in range(len(gaps))]
)


@given(times, st.integers(0, 300))
def test_all_stalls_together_are_the_worst_lateness(ready: list[int], buffer_ms: int) -> None:
    seen = watch(ready, fps=25, buffer_ms=buffer_ms)
    lateness = [(t - ready[0]) / MS - buffer_ms - 40 * k for k, t in enumerate(ready)]
    assert seen.stall_ms == pytest.approx(max(0.0, *lateness), abs=1e-3)
    assert seen.stalls <= len(ready)
    assert seen.longest_stall_ms <= seen.stall_ms + 1e-9


@given(times, st.integers(0, 300), st.integers(0, 300))
def test_a_longer_buffer_never_stalls_more(ready: list[int], one: int, two: int) -> None:
    short, long = sorted((one, two))
    assert (
        watch(ready, fps=25, buffer_ms=long).stall_ms
        <= watch(ready, fps=25, buffer_ms=short).stall_ms
    )
