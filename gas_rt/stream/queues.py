"""The bounded queue and the ledger of a session: pure state machines, no lock and no clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

__all__ = ["BoundedQueue", "DropReason", "Ledger", "Offer"]

T = TypeVar("T")

DropReason = Literal["stale_pose", "unpolled_frame", "reset", "closed", "failed"]


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

    def take(self) -> T | None:
        """The oldest item, or None."""
        return self._items.popleft() if self._items else None

    def remove(self, condition: Callable[[T], bool]) -> list[T]:
        """Take out every item for which `condition` holds."""
        removed = [item for item in self._items if condition(item)]
        self._items = deque(item for item in self._items if not condition(item))
        return removed


@dataclass
class Ledger:
    """Where every accepted pose went: ``accepted = delivered + dropped + in flight``."""

    accepted: int = 0
    refused: int = 0
    delivered: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)

    @property
    def dropped_total(self) -> int:
        """Accepted poses that never became a delivered frame."""
        return sum(self.dropped.values())

    @property
    def in_flight(self) -> int:
        """Accepted poses that are still in a queue or a stage."""
        return self.accepted - self.delivered - self.dropped_total

    def accept(self) -> int:
        """Count one accepted pose; its number in the stream, from 0."""
        self.accepted += 1
        return self.accepted - 1

    def drop(self, reason: DropReason, *, count: int = 1) -> None:
        """Count `count` accepted poses that will not be delivered."""
        if count:
            self.dropped[reason] += count
        assert self.in_flight >= 0, "more poses left the session than entered it"

    def deliver(self) -> None:
        """Count one delivered frame."""
        self.delivered += 1
        assert self.in_flight >= 0, "more poses left the session than entered it"
