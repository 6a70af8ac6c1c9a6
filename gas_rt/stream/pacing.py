"""Cadence and deadlines: state machines that take the time as an argument."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cadence", "DeadlineMeter", "Pacer", "period_of"]

# A tick this much too late is not caught up with: the cadence starts anew from it. One period
# keeps short stalls on the grid and turns a long one into a single gap instead of a burst.
REANCHOR_PERIODS = 1
# Of a period: what a thread may take to wake up, how far one late frame may put the ones after it
# off, and how much of that each frame makes good.
WAKE_UP_SHARE = 0.05
PUT_OFF_SHARE = 0.5
EASE_SHARE = 0.001


def period_of(fps: float) -> int:
    """Nanoseconds between two frames at `fps`."""
    return round(1e9 / fps)


@dataclass
class Pacer:
    """Says when the next frame may start, so that starts lie on a grid of `period_ns`."""

    period_ns: int
    next_ns: int | None = None

    def wait_ns(self, now_ns: int) -> int:
        """How long to wait before the next start; 0 if it is due."""
        early_ns = 0 if self.next_ns is None else self.next_ns - now_ns
        # Further ahead than a period is what only a clock that went back makes of it.
        return early_ns if 0 < early_ns <= self.period_ns else 0

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


@dataclass
class Cadence(Pacer):
    """A pacer of frames that are ready at uneven times: as late as it takes to keep them even.

    On a grid that began with a frame that was ready early, all others would be late, each by
    another time. So the grid follows what is late and eases back a little with every frame: what
    keeps being late is waited for, and what was late once costs age for a while only.
    """

    def show(self, now_ns: int, *, ready_ns: int) -> None:
        """Record a frame that was ready at `ready_ns` and is handed out at or after its due time.

        Whoever polls seldom takes it late, which does not make the ones after it late.
        """
        tick = self.start(now_ns)
        late_ns = min(ready_ns, now_ns) - tick
        if late_ns > WAKE_UP_SHARE * self.period_ns:
            tick += min(late_ns, round(PUT_OFF_SHARE * self.period_ns))
        self.next_ns = tick + self.period_ns - round(EASE_SHARE * self.period_ns)


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
