"""Fair turns on one engine: on virtual time, and between real threads without sleeping."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt import Avatar, Model
from gas_rt.stream.turns import FairShare, Turns
from tests.stream.conftest import PATIENCE_S, VirtualClock
from tests.toy_person import ToyPerson


def simulate(costs: dict[str, float], *, turns: int, eager: str | None = None) -> Counter[str]:
    """Everybody asks again as soon as served; `eager` is the first to ask each time."""
    share, used = FairShare(), Counter[str]()
    for key in costs:
        share.ask(key)
    for _ in range(turns):
        key = share.next()
        assert isinstance(key, str)
        share.begin(key)
        assert share.next() is None
        share.end(key, costs[key])
        used[key] += costs[key]  # type: ignore[assignment]
        for name in sorted(costs, key=lambda n: n != eager):
            if name == key:
                share.ask(name)
    return used


def test_equal_calls_go_round() -> None:
    used = simulate({"a": 10, "b": 10, "c": 10}, turns=300)
    assert set(used.values()) == {1000}


def test_time_is_shared_and_not_calls() -> None:
    """One whose calls take four times as long gets a quarter of the calls."""
    used = simulate({"a": 10, "b": 40}, turns=500, eager="b")
    assert used["a"] == pytest.approx(used["b"], abs=40)


@given(costs=st.lists(st.floats(1, 100), min_size=2, max_size=6), turns=st.integers(50, 400))
def test_nobody_falls_behind_by_more_than_the_longest_call(costs: list[float], turns: int) -> None:
    used = simulate({str(k): cost for k, cost in enumerate(costs)}, turns=turns)
    shares = [used[str(k)] for k in range(len(costs))]
    assert max(shares) - min(shares) <= 2 * max(costs)


def test_who_was_away_gets_no_credit_for_it() -> None:
    share = FairShare()
    for name in ("a", "b"):
        share.ask(name)
    served = []
    for k in range(100):
        key = share.next()
        assert key is not None
        share.begin(key)
        share.end(key, 10)
        served.append(key)
        if key == "a" or k >= 50:  # b pauses at first
            share.ask(key)
        elif k == 49:
            share.ask("b")
        if k == 49 and "b" not in share._waiting:
            share.ask("b")
    late = Counter(served[52:])
    assert abs(late["a"] - late["b"]) <= 2


def test_one_who_leaves_is_waited_for_no_more() -> None:
    share = FairShare()
    for name in ("a", "b"):
        share.ask(name)
    share.begin("a")
    share.leave("a")  # its session closes while a call runs
    share.end("a", 10)
    assert share.next() == "b"
    share.leave("b")
    assert share.next() is None
    assert share._used_ns == {}


def test_turns_are_given_one_at_a_time_and_after_a_failure_too() -> None:
    turns, inside = Turns(VirtualClock()), threading.Lock()
    order: list[int] = []
    problems: list[str] = []

    def work(name: int) -> None:
        for _ in range(50):
            try:
                with turns.turn(name):
                    if not inside.acquire(blocking=False):
                        problems.append("two at once")
                        continue
                    order.append(name)
                    inside.release()
                    if len(order) % 7 == 0:
                        raise ValueError("toy trouble")
            except ValueError:
                pass
        turns.leave(name)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert problems == []
    assert Counter(order) == Counter(dict.fromkeys(range(4), 50))


def test_sessions_of_one_model_never_denoise_at_once(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    requests = person.requests(10, side=128)
    inside, most = 0, 0
    guard = threading.Lock()
    sessions = [
        diffusion_model.session(diffusion_avatar, on_late="lossless", seed=k) for k in range(3)
    ]
    for session in sessions:
        stage = session._pipeline._lanes.stage(1)
        real = stage._denoiser.unguided  # type: ignore[attr-defined]

        class Watched:
            def run(self, inputs: object, real: object = real) -> object:
                nonlocal inside, most
                with guard:
                    inside += 1
                    most = max(most, inside)
                try:
                    return real.run(inputs)  # type: ignore[attr-defined]
                finally:
                    with guard:
                        inside -= 1

        for name in ("unguided", "guided"):
            object.__setattr__(stage._denoiser, name, Watched())  # type: ignore[attr-defined]
    frames: dict[int, list[np.ndarray]] = {}

    def use(k: int) -> None:
        with sessions[k] as session:
            for request in requests:
                session.push_wait_request(request)
            session.finish()
            frames[k] = [frame.rgb for frame in session]

    threads = [threading.Thread(target=use, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert most == 1
    assert {k: len(v) for k, v in frames.items()} == {0: 10, 1: 10, 2: 10}
    assert diffusion_model._turns._share._used_ns == {}  # all have left
