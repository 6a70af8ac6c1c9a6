"""Memory for finished frames: slots that are used again as soon as nobody refers to their pixels.

A slot is not a place in a ring that time runs over: a taker who keeps a frame keeps its slot, and
the stream goes on in another. So pixels never change under a taker's hands, and a stream whose
frames are let go of allocates none.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np

from gas_rt.core import U8

__all__ = ["SLOTS_KEPT", "FramePool", "Lease", "lease_of"]

# The one being written, those waiting to be taken (4 at most, or a burst), the one that a session
# with a ladder would hold, and as many in the taker's hands.
SLOTS_KEPT = 16


class Lease:
    """One use of a slot: ends when the last array on it is gone, or by `release`.

    NumPy keeps the object that an array was made from, and views of views keep that array; so do
    DLPack's consumers. The session may `hold` a frame that it has handed out.
    """

    __slots__ = ("__weakref__", "_buffer", "_held", "_pool", "_released")

    def __init__(self, pool: FramePool, buffer: U8) -> None:
        self._pool: FramePool | None = pool
        self._buffer = buffer
        self._held = self._released = False

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._buffer.__array_interface__

    def release(self) -> None:
        """Give the slot back though arrays may still refer to it. May be repeated.

        One that is held goes back when it is let go of.
        """
        self._released = True
        if not self._held:
            self._end()

    def hold(self) -> None:
        """Keep the pixels though they are released; before anybody has them who may do so."""
        self._held = True

    def let_go(self) -> None:
        """No more `hold`."""
        # Either of two threads that end a use together sees what the other has set, for each sets
        # its own mark first.
        self._held = False
        if self._released:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._back(self._buffer)


class FramePool:
    """Slots for the frames of one session, of one size at a time."""

    def __init__(self, *, kept: int = SLOTS_KEPT) -> None:
        assert kept >= 1
        self._free: deque[U8] = deque(maxlen=kept)  # what is beyond goes back to the system
        # Slots come back wherever the last array happens to die, in a thread that may hold any
        # lock, so there is none here: appends and these counters are atomic.
        self._lends, self._returns, self._makes = (itertools.count(1) for _ in range(3))
        self._lent = self._returned = self._made = 0

    @property
    def made(self) -> int:
        """Slots that memory was taken for; does not rise while frames are let go of."""
        return self._made

    @property
    def held(self) -> int:
        """Slots in use: by the stages, by frames that wait, and by frames that somebody kept."""
        return self._lent - self._returned

    def pixels(self, width: int, height: int) -> tuple[U8, U8]:
        """rgb [height, width, 3] and alpha [height, width] to write a frame into, of one slot."""
        buffer = self._slot(width * height * 4)
        flat = np.asarray(Lease(self, buffer))
        colours = width * height * 3
        return flat[:colours].reshape(height, width, 3), flat[colours:].reshape(height, width)

    def _slot(self, size: int) -> U8:
        self._lent = next(self._lends)
        while True:
            try:
                buffer = self._free.pop()
            except IndexError:
                self._made = next(self._makes)
                return np.empty(size, np.uint8)
            if buffer.size == size:  # one of another size is let go of: the stream's has changed
                return buffer

    def _back(self, buffer: U8) -> None:
        self._returned = next(self._returns)
        self._free.append(buffer)


def lease_of(pixels: U8) -> Lease | None:
    """The lease that an array's memory belongs to; None for memory of its own."""
    owner: Any = pixels
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, Lease) else None
