"""The bounded queue and the ledger of a session: pure state machines, no lock and no clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

__all__ = ["BoundedQueue", "DropReason", "Ledger", "Offer"]

T = TypeVar("T")

# stale_pose: a newer one came before it was begun. old_pose, old_frame: older than `max_age_ms`
# when it was to be begun, or to be handed out. unpolled_frame: a newer frame came before it was
# taken.
DropReason = Literal[
    "stale_pose", "old_pose", "unpolled_frame", "old_frame", "reset", "closed", "failed"
]


@dataclass(frozen=True)
class Offer(Generic[T]):
    """What became of an item that was offered to a queue."""

    accepted: bool
    displaced: T | None = None


class BoundedQueue(Generic[T]):
    """First in, first out, never longer than `capacity`.

    A full queue refuses the newcomer, or with `drop_oldest` gives up its oldest item for it.
    """

    def __init__(self, capacity: int, *, drop_oldest: bool) -> None:
        assert capacity >= 1
        self.capacity = capacity
        self.drop_oldest = drop_oldest
        self._items: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_room(self) -> bool:
        """Whether an offer would be accepted now."""
        return self.drop_oldest or len(self._items) < self.capacity

    def offer(self, item: T) -> Offer[T]:
        """Put `item` in; say whether it was accepted and what it displaced."""
        displaced = None
        if len(self._items) >= self.capacity:
            if not self.drop_oldest:
                return Offer(accepted=False)
            displaced = self._items.popleft()
        self._items.append(item)
        return Offer(accepted=True, displaced=displaced)

    def peek(self) -> T | None:
        """The oldest item, left in place."""
        return self._items[0] if self._items else None

    def newest(self) -> T | None:
        """The item that was put in last."""
        return self._items[-1] if self._items else None

    def take(self) -> T | None:
        """The oldest item, or None."""
        return self._items.popleft() if self._items else None

    def remove(self, condition: Callable[[T], bool]) -> list[T]:
        """Take out every item for which `condition` holds."""
        removed = [item for item in self._items if condition(item)]
        self._items = deque(item for item in self._items if not condition(item))
        return removed


class Ledger:
    """Where every accepted pose went: ``accepted = delivered + dropped + in flight``, always.

    Poses are counted out by their index, each once: a frame that is made after something else was
    shown in its place, or after a reset, finds its pose gone.
    """

    def __init__(self) -> None:
        self.accepted = self.refused = self.delivered = 0
        self.dropped: Counter[DropReason] = Counter()
        self._open: set[int] = set()

    @property
    def dropped_total(self) -> int:
        """Accepted poses that never became a delivered frame."""
        return sum(self.dropped.values())

    @property
    def in_flight(self) -> int:
        """Accepted poses that are still in a queue or a stage."""
        return len(self._open)

    def accept(self) -> int:
        """Count one accepted pose; its number in the stream, from 0."""
        self.accepted += 1
        self._open.add(self.accepted - 1)
        return self.accepted - 1

    def is_open(self, index: int) -> bool:
        """Whether the pose is in flight."""
        return index in self._open

    def drop(self, index: int, reason: DropReason) -> bool:
        """Count a pose that will not be delivered; False if it was counted out before."""
        if index not in self._open:
            return False
        self._open.remove(index)
        self.dropped[reason] += 1
        return True

    def drop_all(self, reason: DropReason) -> None:
        """Count out everything in flight."""
        if self._open:
            self.dropped[reason] += len(self._open)
            self._open.clear()

    def deliver(self, index: int) -> None:
        """Count one delivered frame."""
        assert index in self._open, "more poses left the session than entered it"
        self._open.remove(index)
        self.delivered += 1
