"""The ladder: late is answered by fewer steps, then by the field alone, and back up again.

Pure: the time and what calls cost are arguments. It says what the next pose is made by; that a
frame which is late already is never waited for is `standby`'s part.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gas_rt.errors import InputError
from gas_rt.stream.watching import Watcher

__all__ = ["Ladder", "LadderConfig", "Rung", "RungSource", "ScriptedLadder", "SharedLadder"]

COST_MEMORY = 0.3  # share of a new measurement in the running mean; four calls forget the past
# A lower rung is there to keep the rate: periods that its frames may take on average.
LOWER_TOLERANCE = 1.0
HICCUP_SHARE = 0.5  # of a period, what one frame may add: it is over before a rung could answer it
FRESH_CALLS = 2  # of a rung just climbed to, before its cost is believed


@dataclass(frozen=True)
class LadderConfig:
    """When a session steps down, and when it tries to come back.

    Attributes
    ----------
    late_after : periods (1/fps) after the frame before at which a frame counts as late and what
        stands by is shown in its place: the field of the oldest pose in flight, else the last
        frame again.
    tolerance : frames may take this many periods on average before the session steps down.
    patience : periods by which it may have fallen behind that before it does.
    margin : share of a period that the rung above may take, by measured cost, to be tried.
    settle_s : how long a rung is kept before the one above is tried. Doubles, up to
        `settle_max_s`, each time that the one above did not hold, so that it does not oscillate.
    pause_s : when poses stop for this long, what the window holds is finished at once and the
        next pose begins a new one.
    """

    late_after: float = 1.35
    tolerance: float = 1.05
    patience: float = 1.5
    margin: float = 0.85
    settle_s: float = 1.0
    settle_max_s: float = 16.0
    pause_s: float = 0.5

    def __post_init__(self) -> None:
        limits = (
            ("late_after", self.late_after, 1.0, 100.0),
            ("tolerance", self.tolerance, 1.0, 100.0),
            ("patience", self.patience, 0.0, 1000.0),
            ("margin", self.margin, 0.0, 1.0),
            ("settle_s", self.settle_s, 0.0, 3600.0),
            ("pause_s", self.pause_s, 0.0, 3600.0),
            ("settle_max_s", self.settle_max_s, self.settle_s, 3600.0),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise InputError(
                    f"LadderConfig.{name}: expected {low:g} to {high:g}, got {value!r}"
                )


@dataclass(frozen=True)
class Rung:
    """What frames cost on a rung.

    Attributes
    ----------
    calls : of the denoiser for each new frame.
    burst : frames that become clean in one call.
    held : poses that a frame waits for before it is clean.
    """

    calls: float
    burst: int = 1
    held: int = 0


class Ladder:
    """Rung 0 is what the session asked for, ``len(rungs)`` the field alone.

    With no rungs, as in a session whose policy is the field, there is nothing to step down to.
    """

    def __init__(self, rungs: Sequence[Rung], *, period_ns: int, config: LadderConfig) -> None:
        self.config = config
        self.rungs = tuple(rungs)
        self.field = len(self.rungs)
        self.rung = 0
        self._period_ns = period_ns
        self._settle_ns = config.settle_s * 1e9
        self._cost_ns: float | None = None
        self.reset()

    @property
    def burst(self) -> int:
        """Frames that the present rung makes at once."""
        return self.rungs[self.rung].burst if self.rung < self.field else 1

    @property
    def gathers(self) -> bool:
        """Whether a lower rung waits for several poses, which the session did not ask for."""
        return 0 < self.rung < self.field and self.burst > self.rungs[0].burst

    @property
    def late_ns(self) -> int:
        """How long after the frame before one counts as late."""
        return round(self.config.late_after * self._period_ns)

    def reset(self) -> None:
        """A new stream on the same rung: nothing of its pace is known."""
        self._debt_ns = 0.0
        self._interval_ns = float(self._period_ns)  # between poses, as they are offered
        self._pose: tuple[int, int] | None = None
        self._paused = False  # before that pose
        self._changed_ns: int | None = None
        self._climbed = False  # the last change was upwards, and has not held yet
        self._fresh: list[float] = []  # costs of calls since then

    def call(self, cost_ns: float) -> None:
        """Note what one denoiser call took."""
        known = self._cost_ns
        self._cost_ns = cost_ns if known is None else known + COST_MEMORY * (cost_ns - known)
        if len(self._fresh) < FRESH_CALLS:
            self._fresh.append(cost_ns)

    def frame(self, gap_ns: int, now_ns: int) -> None:
        """Note that a frame became ready, `gap_ns` of work after the one before it.

        The time in which no pose was there to work on is not part of the gap.
        """
        if self._filling(now_ns):
            return
        late_ns = min(gap_ns - self._tolerance * self._period_ns, HICCUP_SHARE * self._period_ns)
        owed = self._debt_ns + late_ns
        self._debt_ns = max(0.0, owed)
        if self._debt_ns > (self.config.patience + self.burst - 1) * self._period_ns:
            self._down(now_ns)

    def next_rung(self, *, index: int, pushed_ns: int, now_ns: int) -> int:
        """What the pose `index`, pushed at `pushed_ns`, is made by."""
        self._note_pose(index, pushed_ns)
        if self._changed_ns is None:
            self._changed_ns = now_ns
        if now_ns < self._changed_ns:  # the clock went back
            self._changed_ns = now_ns
        if self._climbed and self._too_slow():
            self._down(now_ns)
        elif self.rung and now_ns - self._changed_ns >= self._settle_ns and self._affordable():
            self._move(self.rung - 1, now_ns)
            self._climbed = True
        elif self._climbed and now_ns - self._changed_ns >= 2 * self.config.settle_s * 1e9:
            self._climbed = False  # it held
            self._settle_ns = self.config.settle_s * 1e9
        return self.rung

    # ---- inside ----------------------------------------------------------------------------

    @property
    def _tolerance(self) -> float:
        return min(self.config.tolerance, LOWER_TOLERANCE) if self.rung else self.config.tolerance

    def _note_pose(self, index: int, pushed_ns: int) -> None:
        """The rate of poses, of those too that were dropped before they came here."""
        if self._pose is not None:
            poses, passed = index - self._pose[0], pushed_ns - self._pose[1]
            # One long gap is a pause and says nothing of the rate; two in a row are the rate.
            paused, self._paused = self._paused, passed > self.config.pause_s * 1e9
            if poses > 0 and passed >= 0 and (paused or not self._paused):
                self._interval_ns += COST_MEMORY * (passed / poses - self._interval_ns)
        self._pose = index, pushed_ns

    def _load(self, rung: int, cost_ns: float) -> float:
        """Share of the time between two frames that a rung's calls take."""
        return self.rungs[rung].calls * cost_ns / max(self._period_ns, self._interval_ns)

    def _too_slow(self) -> bool:
        if self.rung == self.field or len(self._fresh) < FRESH_CALLS:
            return False
        return self._load(self.rung, min(self._fresh)) > self._tolerance

    def _affordable(self) -> bool:
        """Whether the rung above may be tried. From the field it always is: nothing else tells."""
        if self.rung == self.field or self._cost_ns is None:
            return True
        return self._load(self.rung - 1, self._cost_ns) <= self.config.margin

    def _filling(self, now_ns: int) -> bool:
        """Whether the window was begun anew so lately that its frames are not due yet.

        Until then what stands by is shown at a slower pace, which is how the stream falls back by
        the poses that a window holds.
        """
        if not self._climbed or self.rung == self.field or self._changed_ns is None:
            return False
        slower = self.config.late_after - 1
        frames = (self.rungs[self.rung].held + 2) / max(slower, 0.1)
        return now_ns - self._changed_ns < frames * self.config.late_after * self._period_ns

    def _down(self, now_ns: int) -> None:
        if self.rung == self.field:
            self._debt_ns = 0.0
            return
        if self._climbed:
            self._settle_ns = min(2 * self._settle_ns, self.config.settle_max_s * 1e9)
        self._move(self._lower(), now_ns)
        self._climbed = False

    def _lower(self) -> int:
        """The next rung down that the measured cost lets hold, or the field."""
        cost = self._cost_ns
        for rung in range(self.rung + 1, self.field):
            if cost is None or self._load(rung, cost) <= 1:
                return rung
        return self.field

    def _move(self, rung: int, now_ns: int) -> None:
        self.rung = rung
        self._changed_ns = now_ns
        self._debt_ns = 0.0
        self._fresh = []


class RungSource(Protocol):
    """What tells the denoise stage by which rung each pose is made."""

    @property
    def field(self) -> int:
        """The rung that is the field alone."""
        ...

    def next_rung(self, *, index: int, pushed_ns: int, now_ns: int) -> int:
        """The rung of the pose `index`; asked once for each that comes to the stage."""
        ...

    def call(self, cost_ns: float) -> None:
        """Note what one denoiser call took."""
        ...


class ScriptedLadder:
    """The rungs that were decided once, by pose, so that the same frames can be made again."""

    def __init__(self, rungs: Mapping[int, int], *, field: int) -> None:
        self._rungs = dict(rungs)
        self.field = field

    def next_rung(self, *, index: int, pushed_ns: int, now_ns: int) -> int:
        """As decided; 0 for poses of which nothing was noted."""
        return self._rungs.get(index, 0)

    def call(self, cost_ns: float) -> None:
        """Nothing follows from it."""


class SharedLadder:
    """A `Ladder` that the pipeline and the denoise stage use from their threads."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()

    def watch(self, watchers: Iterable[Watcher]) -> None:
        """Tell `watchers` the rung of each pose that comes to the denoise stage, in order."""
        self._watchers = tuple(watchers)

    @property
    def config(self) -> LadderConfig:
        """What it was opened with."""
        return self._ladder.config

    @property
    def field(self) -> int:
        """The rung that is the field alone."""
        return self._ladder.field

    @property
    def flight(self) -> int:
        """The most poses that a window holds."""
        return max((rung.held + 1 for rung in self._ladder.rungs), default=0)

    @property
    def late_ns(self) -> int:
        """As of `Ladder`."""
        return self._ladder.late_ns

    @property
    def burst(self) -> int:
        """As of `Ladder`."""
        with self._lock:
            return self._ladder.burst

    @property
    def gathers(self) -> bool:
        """As of `Ladder`."""
        with self._lock:
            return self._ladder.gathers

    def reset(self) -> None:
        """As of `Ladder`."""
        with self._lock:
            self._ladder.reset()

    def call(self, cost_ns: float) -> None:
        """As of `Ladder`."""
        with self._lock:
            self._ladder.call(cost_ns)

    def frame(self, gap_ns: int, now_ns: int) -> None:
        """As of `Ladder`."""
        with self._lock:
            self._ladder.frame(gap_ns, now_ns)

    def next_rung(self, *, index: int, pushed_ns: int, now_ns: int) -> int:
        """As of `Ladder`."""
        with self._lock:
            rung = self._ladder.next_rung(index=index, pushed_ns=pushed_ns, now_ns=now_ns)
        for watcher in self._watchers:
            watcher.decided(index, rung, is_field=rung == self.field, now_ns=now_ns)
        return rung
