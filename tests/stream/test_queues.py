"""The bounded queue and the ledger, for any order of events."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from gas_rt.stream.queues import BoundedQueue, Ledger


@given(
    capacity=st.integers(1, 4),
    drop_oldest=st.booleans(),
    events=st.lists(st.sampled_from(["offer", "take"]), max_size=60),
)
def test_queue_matches_a_plain_model_and_never_exceeds_its_capacity(
    capacity: int, drop_oldest: bool, events: list[str]
) -> None:
    queue: BoundedQueue[int] = BoundedQueue(capacity, drop_oldest=drop_oldest)
    model: deque[int] = deque()
    accepted = taken = displaced = 0
    for number, event in enumerate(events):
        if event == "offer":
            full = len(model) == capacity
            offer = queue.offer(number)
            assert offer.accepted == (drop_oldest or not full)
            if offer.accepted:
                accepted += 1
                assert offer.displaced == (model.popleft() if full else None)
                displaced += full
                model.append(number)
        else:
            expected = model.popleft() if model else None
            assert queue.take() == expected
            taken += expected is not None
        assert len(queue) == len(model) <= capacity
    assert accepted == taken + displaced + len(queue)


def test_remove_keeps_the_order_of_the_rest() -> None:
    queue: BoundedQueue[int] = BoundedQueue(5, drop_oldest=False)
    for number in range(5):
        queue.offer(number)
    assert queue.remove(lambda n: n % 2 == 0) == [0, 2, 4]
    assert [queue.take(), queue.take(), queue.take()] == [1, 3, None]


@given(events=st.lists(st.tuples(st.sampled_from("adcr"), st.integers(0, 12)), max_size=60))
def test_ledger_counts_each_pose_out_once(events: list[tuple[str, int]]) -> None:
    ledger, inside = Ledger(), set[int]()
    for event, index in events:
        if event == "a":
            inside.add(ledger.accept())
        elif event == "d":
            assert ledger.drop(index, "stale_pose") == (index in inside)
            inside.discard(index)
        elif event == "c" and index in inside:
            ledger.deliver(index)
            inside.remove(index)
        elif event == "r":
            ledger.drop_all("reset")
            inside.clear()
        assert ledger.in_flight == len(inside)
        assert ledger.accepted == ledger.delivered + ledger.dropped_total + ledger.in_flight
        assert all(ledger.is_open(k) == (k in inside) for k in range(13))
