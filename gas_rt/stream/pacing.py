"""Cadence and deadlines: state machines that take the time as an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Cadence", "DeadlineMeter", "Pacer", "period_of"]

# A tick this much too late is not caught up with: the cadence starts anew from it. One period
# keeps short stalls on the grid and turns a long one into a single gap instead of a burst.
REANCHOR_PERIODS = 1
# Of a period: what a thread may take to wake up, how far one late frame may put the ones after it
# off, and how much farther, since late frames come together and the next is later yet.
WAKE_UP_SHARE = 0.05
PUT_OFF_SHARE = 0.5
MORE_SHARE = 0.2
# Of a period, what frames of a stream that has just begun are granted to vary by, and how much of
# it each of the first ones is handed out later: too little to be seen.
HEAD_START_SHARE = 0.3
STRETCH_SHARE = 0.075
# What none of so many frames in a row needed, but for a share of a period, is given back; so much
# of a period with each.
REMEMBERED = 250
SPARE_SHARE = 0.1
EASE_SHARE = 0.02


def period_of(fps: float) -> int:
    """Nanoseconds between two frames at `fps`."""
    return round(1e9 / fps)


@dataclass
class Pacer:
    """Says when the next frame may start, so that starts lie on a grid of `period_ns`."""

    AHEAD_PERIODS: ClassVar[int] = 1
    period_ns: int
    next_ns: int | None = None

    def wait_ns(self, now_ns: int) -> int:
        """How long to wait before the next start; 0 if it is due."""
        early_ns = 0 if self.next_ns is None else self.next_ns - now_ns
        # Further ahead is what only a clock that went back makes of it.
        return early_ns if 0 < early_ns <= self.AHEAD_PERIODS * self.period_ns else 0

    def is_behind(self, now_ns: int) -> bool:
        """Whether a start now would be too late to be caught up with."""
        late_ns = 0 if self.next_ns is None else now_ns - self.next_ns
        return late_ns > REANCHOR_PERIODS * self.period_ns

    def start(self, now_ns: int) -> int:
        """Record a start at or after its due time; returns the tick it belongs to."""
        tick = now_ns if self.next_ns is None else self.next_ns
        if not -self.period_ns < now_ns - tick <= REANCHOR_PERIODS * self.period_ns:
            tick = now_ns
        self.next_ns = tick + self.period_ns
        return tick

    def reset(self) -> None:
        """Forget the grid; the next start founds a new one."""
        self.next_ns = None


class Cadence(Pacer):
    """A pacer of frames that are ready at uneven times: as late as it takes to keep them even.

    On a grid that began with a frame that was ready early, all others would be late, each by
    another time. So the grid starts with some time to spare, follows what is late, and gives back
    what ten seconds of frames (at 25 fps) had to spare: what is late again and again is waited
    for, and what was late once costs age for a while only.
    """

    AHEAD_PERIODS = 2  # since one that was put off may be more than a period ahead

    def __init__(self, period_ns: int) -> None:
        super().__init__(period_ns)
        self.reset()

    def reset(self) -> None:
        """Forget the grid and what frames needed."""
        super().reset()
        self._moved_ns = 0  # by how much the grid was moved in all
        # At each frame, less what the grid had been moved by then.
        self._spare_ns: deque[int] = deque(maxlen=REMEMBERED)
        self._head_start_ns = self._share(HEAD_START_SHARE)

    def put_off(self, to_ns: int) -> None:
        """The next frame is due at `to_ns`, the ones after it as much later."""
        if self.next_ns is None:
            self.next_ns = to_ns
        else:
            self._move(to_ns - self.next_ns)

    def show(self, now_ns: int, *, ready_ns: int, in_time: bool = True) -> None:
        """Record a frame that was ready at `ready_ns` and is handed out at or after its due time.

        Whoever polls seldom takes it late, which does not make the ones after it late. One that is
        not `in_time` stands in for a frame that was late.
        """
        due_ns = self.next_ns
        tick = self.start(now_ns)
        if tick != due_ns:  # a new grid
            self._spare_ns.clear()
        spare_ns = tick - min(ready_ns, now_ns)
        self._spare_ns.append((spare_ns if in_time else 0) - self._moved_ns)
        if -spare_ns > self._share(WAKE_UP_SHARE):
            late_ns = min(-spare_ns, self._share(PUT_OFF_SHARE))
            self._move(late_ns + self._share(MORE_SHARE))
        elif self._head_start_ns > 0:
            later_ns = min(self._head_start_ns, self._share(STRETCH_SHARE))
            self._head_start_ns -= later_ns
            self._move(later_ns)
        elif len(self._spare_ns) == REMEMBERED:
            needless_ns = min(self._spare_ns) + self._moved_ns - self._share(SPARE_SHARE)
            self._move(-min(max(0, needless_ns), self._share(EASE_SHARE)))

    def _move(self, by_ns: int) -> None:
        assert self.next_ns is not None
        self.next_ns += by_ns
        self._moved_ns += by_ns

    def _share(self, of_period: float) -> int:
        return round(of_period * self.period_ns)


@dataclass
class DeadlineMeter:
    """Counts frames that came later than one period after the frame before."""

    period_ns: int
    previous_ns: int | None = None
    frames: int = 0
    missed: int = 0

    def frame(self, ready_ns: int) -> bool:
        """Record a frame; True if it missed its deadline. The first frame has none."""
        late = self.previous_ns is not None and ready_ns - self.previous_ns > self.period_ns
        self.previous_ns = ready_ns
        self.frames += 1
        self.missed += late
        return late

    @property
    def miss_ratio(self) -> float:
        """Missed deadlines over deadlines; 0 before the second frame."""
        return self.missed / (self.frames - 1) if self.frames > 1 else 0.0
