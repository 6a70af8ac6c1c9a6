"""Sessions of one model share its engine: who runs the next denoiser call.

Without an order the fastest asker takes the engine again before the others wake, and two calls at
once would use twice the threads that the model was given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

__all__ = ["FairShare", "Turns"]


class FairShare:
    """Gives the turn to whoever waits and has had the least time. Pure; time is an argument.

    Time is counted from where the last turn began on this account, so that one that was away comes
    back with no credit for what it did not ask for (start-time fair queueing).
    """

    def __init__(self) -> None:
        self._used_ns: dict[Hashable, float] = {}
        self._waiting: dict[Hashable, int] = {}  # to the number of its request
        self._asked = 0
        self._now_ns = 0.0  # on the accounts, not of a clock
        self._busy: Hashable | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody has the turn."""
        return self._busy is not None

    def ask(self, key: Hashable) -> None:
        """`key` waits for a turn."""
        assert key not in self._waiting, "one thread of a session asks"
        self._used_ns[key] = max(self._used_ns.get(key, 0.0), self._now_ns)
        self._waiting[key] = self._asked
        self._asked += 1

    def next(self) -> Hashable | None:
        """Who may begin now; None while somebody has the turn, or nobody waits."""
        if self._busy is not None or not self._waiting:
            return None
        return min(self._waiting, key=lambda key: (self._used_ns[key], self._waiting[key]))

    def begin(self, key: Hashable) -> None:
        """`key`, who is next, has the turn."""
        assert key == self.next()
        del self._waiting[key]
        self._busy = key
        self._now_ns = self._used_ns[key]

    def end(self, key: Hashable, elapsed_ns: float) -> None:
        """`key` gives the turn back after `elapsed_ns`."""
        assert key == self._busy
        self._busy = None
        if key in self._used_ns:
            self._used_ns[key] += elapsed_ns

    def leave(self, key: Hashable) -> None:
        """`key` asks no more."""
        self._waiting.pop(key, None)
        self._used_ns.pop(key, None)


class Turns:
    """A `FairShare` between the threads of a model's sessions."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._share = FairShare()
        self._clock = clock
        self._changed = threading.Condition()

    @contextmanager
    def turn(
        self, key: Hashable, *, given_up: Callable[[], bool] = lambda: False
    ) -> Iterator[bool]:
        """Wait for a turn and have it; False, without one, once `key` has `given_up`.

        Whoever makes that true calls `leave`, which ends the wait.
        """
        with self._changed:
            self._share.ask(key)
            self._changed.wait_for(lambda: given_up() or self._share.next() == key)
            has_turn = not given_up()
            if has_turn:
                self._share.begin(key)
        if not has_turn:
            self.leave(key)
            yield False
            return
        begun_ns = self._clock()
        try:
            yield True
        finally:
            with self._changed:
                self._share.end(key, max(0, self._clock() - begun_ns))
                self._changed.notify_all()

    def leave(self, key: Hashable) -> None:
        """`key` asks no more; a turn that it has goes on."""
        with self._changed:
            self._share.leave(key)
            self._changed.notify_all()
