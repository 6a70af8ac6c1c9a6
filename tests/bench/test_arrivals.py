"""Arrivals: on their grid, in order, seeded, and never a matter of the session."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt.bench.arrivals import arrival_times_ns
from gas_rt.errors import InputError


def test_without_jitter_they_lie_on_the_grid() -> None:
    assert arrival_times_ns(0.2, fps=25).tolist() == [
        0,
        40_000_000,
        80_000_000,
        120_000_000,
        160_000_000,
    ]


def test_jitter_is_seeded_and_keeps_the_rate() -> None:
    one, again = (arrival_times_ns(40, fps=25, jitter_ms=8, seed=3) for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, arrival_times_ns(40, fps=25, jitter_ms=8, seed=4))
    off_ms = (one - arrival_times_ns(40, fps=25)) / 1e6
    assert 6 < off_ms.std() < 10
    assert abs(off_ms.mean()) < 1


@given(
    seconds=st.floats(0.01, 20),
    fps=st.floats(1, 120),
    jitter_ms=st.floats(0, 500),
    seed=st.integers(0, 99),
)
def test_they_are_in_order_from_the_start_on(
    seconds: float, fps: float, jitter_ms: float, seed: int
) -> None:
    times = arrival_times_ns(seconds, fps=fps, jitter_ms=jitter_ms, seed=seed)
    assert len(times) == max(1, round(seconds * fps))
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": 0}, "seconds: expected a number above 0, got 0"),
        ({"seconds": float("nan")}, "seconds"),
        ({"fps": -1}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"jitter_ms": -1}, "jitter_ms: expected 0 or more"),
        ({"seconds": 1e9}, "shorten the run"),
    ],
)
def test_bad_input(change: dict[str, float], said: str) -> None:
    given_ = {"seconds": 1.0, "fps": 25.0, **change}
    with pytest.raises(InputError, match=said):
        arrival_times_ns(given_.pop("seconds"), **given_)
