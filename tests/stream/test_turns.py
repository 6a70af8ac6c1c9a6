"""Fair turns on one engine: on virtual time, and between real threads without sleeping."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable

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


def test_one_who_gives_up_gets_no_turn_and_keeps_nobody_waiting() -> None:
    turns, asked = Turns(VirtualClock()), threading.Semaphore(0)
    gave_up = threading.Event()
    got: dict[str, bool] = {}
    ask = turns._share.ask

    def told(key: Hashable) -> None:
        ask(key)
        asked.release()

    turns._share.ask = told  # type: ignore[method-assign]

    def work(name: str) -> None:
        with turns.turn(name, given_up=lambda: name == "b" and gave_up.is_set()) as has_turn:
            got[name] = has_turn

    threads = {name: threading.Thread(target=work, args=(name,), daemon=True) for name in "bc"}
    with turns.turn("a") as has_turn:
        assert has_turn
        for name in "bc":
            threads[name].start()
        for _ in "abc":
            assert asked.acquire(timeout=PATIENCE_S)
        gave_up.set()
        turns.leave("b")
        threads["b"].join(PATIENCE_S)
        assert got == {"b": False}  # while a still has it and c waits
        with turns.turn("d", given_up=lambda: True) as has_turn:
            assert not has_turn  # at once, having given up before it asked
    threads["c"].join(PATIENCE_S)
    assert got == {"b": False, "c": True}
    assert turns._share._used_ns.keys() == {"a", "c"}


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_session_closes_while_another_has_the_denoiser_for_long(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    monkeypatch: pytest.MonkeyPatch,
    pipelined: bool,
) -> None:
    request = person.requests(1, side=128)[0]
    turns, waits = diffusion_model._turns, threading.Semaphore(0)
    ask = turns._share.ask

    def told(key: Hashable) -> None:
        ask(key)
        waits.release()

    monkeypatch.setattr(turns._share, "ask", told)
    session = diffusion_model.session(diffusion_avatar, on_late="lossless", pipelined=pipelined)
    closing = threading.Thread(target=session.close, daemon=True)
    with turns.turn("another session"):
        assert waits.acquire(timeout=PATIENCE_S)
        assert session.push_request(request)
        session.finish()
        assert waits.acquire(timeout=PATIENCE_S)  # the session's stage asks too
        closing.start()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        assert turns._share.busy
        stats = session.stats()
        assert stats.dropped_by_reason == {"closed": 1}
        assert stats.delivered == 0
    turns.leave("another session")
    assert turns._share._used_ns == {}
