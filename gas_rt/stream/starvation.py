"""When poses stop: the avatar holds, then breathes, and comes back smoothly. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Literal

import numpy as np

from gas_rt.body.rotations import compose
from gas_rt.core import Pose, Request
from gas_rt.errors import InputError
from gas_rt.stream.pacing import Pacer
from gas_rt.stream.resample import Resampler, blended

__all__ = ["PoseClock", "Source", "Starvation"]

# Where the poses of a resampled stream come from: the tracker; nobody, so that the last one is held
# or breathed around; or in between, on the way back to the tracker.
Source = Literal["tracker", "hold", "breathe", "return"]

# SMPL's spine, from the hips up; each takes a share of the lean of a breath.
SPINE = (3, 6, 9)
COLLARS = ((13, 1.0), (14, -1.0))  # left and right, which turn about z in opposite ways
EASE_S = 2.0  # over which breathing sets in
AHEAD_KEPT = 1024  # samples of the next second, which is how far ahead a session lets them lie


@dataclass(frozen=True)
class Starvation:
    """What the avatar does while no poses come.

    Attributes
    ----------
    hold_s : it stays in the last pose for this long.
    breathe : it then breathes around that pose; False lets it stay.
    breath_s, breath_rad : one breath, and how far the chest leans in it.
    return_s : when poses come again, it moves to them over this time instead of jumping.
    """

    hold_s: float = 1.0
    breathe: bool = True
    breath_s: float = 4.0
    breath_rad: float = 0.02
    return_s: float = 0.4

    def __post_init__(self) -> None:
        limits = (
            ("hold_s", self.hold_s, 0.0, 3600.0),
            ("breath_s", self.breath_s, 0.5, 60.0),
            ("breath_rad", self.breath_rad, 0.0, 0.5),
            ("return_s", self.return_s, 0.0, 10.0),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise InputError(f"Starvation.{name}: expected {low:g} to {high:g}, got {value!r}")

    def breathing(self, pose: Pose, seconds: float) -> Pose:
        """`pose` after breathing for `seconds`: the spine leans back and the collars rise."""
        ease = min(1.0, seconds / EASE_S)
        swing = 0.5 * (1 - math.cos(2 * math.pi * seconds / self.breath_s))
        angle = ease * swing * self.breath_rad
        rotations = pose.rotations.astype(np.float64)
        for joint in SPINE:
            rotations[joint] = compose(rotations[joint], np.array([-angle / len(SPINE), 0, 0]))
        for joint, side in COLLARS:
            rotations[joint] = compose(rotations[joint], np.array([0, 0, side * angle / 2]))
        return Pose(rotations.astype(np.float32), pose.translation)


class PoseClock:
    """Says at each tick of the stream what is to be shown, whatever the tracker's rate.

    A sample whose capture time lies ahead, by a tracker's clock that is, counts from that time on:
    before, what is shown is made of earlier samples, or nothing is. So no pose has a negative age.
    Without `starvation` there is nothing to show once the last sample was.
    """

    def __init__(self, *, period_ns: int, starvation: Starvation | None) -> None:
        self._starvation = starvation
        self._pacer = Pacer(period_ns)
        self._resampler = Resampler()
        self.reset()

    def reset(self) -> None:
        """Forget what came; the cadence begins anew with the next sample."""
        self._resampler.reset()
        self._pacer.reset()
        self._ahead: list[tuple[int, Request]] = []  # by capture time, which is not yet
        self.source: Source = "tracker"  # of the latest tick's pose
        self._last: Pose | None = None  # shown
        self._shown_ns: int | None = None  # capture time of it, if it was a sample's
        self._returning: tuple[Pose, int] | None = None  # from which pose, and since when

    def sample(self, request: Request, *, captured_ns: int, now_ns: int) -> None:
        """A pose of the tracker."""
        insort(self._ahead, (captured_ns, request), key=itemgetter(0))
        self._come_of_age(now_ns)
        del self._ahead[AHEAD_KEPT:]  # the furthest, or none would ever come to its time

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until the next tick; None before the first sample."""
        self._come_of_age(now_ns)
        if self._resampler.newest is None:
            return self._ahead[0][0] - now_ns if self._ahead else None
        return self._pacer.wait_ns(now_ns)

    @property
    def all_shown(self) -> bool:
        """Whether the newest sample has been shown, or there is none."""
        newest_ns, shown_ns = self._resampler.newest_ns, self._shown_ns
        shown = newest_ns is None or (shown_ns is not None and shown_ns >= newest_ns)
        return shown and not self._ahead

    def tick(self, now_ns: int) -> Request | None:
        """The request of the tick that is due at `now_ns`; None where there is nothing to show."""
        self._come_of_age(now_ns)
        newest_ns = self._resampler.newest_ns
        if newest_ns is None:
            return None
        self._pacer.start(now_ns)
        time_ns = now_ns - self._resampler.delay_ns
        known = self._resampler.at(time_ns)
        assert known.captured_ns is not None
        away_ns = time_ns - newest_ns
        if away_ns <= 0 or self._shown_ns is None or self._shown_ns < newest_ns:
            self._come_back(known.captured_ns, now_ns)
            self._shown_ns = known.captured_ns
            pose = self._on_the_way(known.pose, now_ns)
            self.source = "tracker" if self._returning is None else "return"
        elif self._starvation is None:
            return None
        else:
            pose = self._alone(self._on_the_way(known.pose, now_ns), away_ns)
            known = replace(known, captured_ns=now_ns)
        self._last = pose
        return replace(known, pose=pose)

    def _come_of_age(self, now_ns: int) -> None:
        """Take in the samples whose capture time has come."""
        due = bisect_right(self._ahead, now_ns, key=itemgetter(0))
        for captured_ns, request in self._ahead[:due]:
            self._resampler.add(request, captured_ns=captured_ns)
        del self._ahead[:due]

    def _come_back(self, captured_ns: int, now_ns: int) -> None:
        """Note if the samples before this one stopped for longer than the avatar holds."""
        starvation, before_ns = self._starvation, self._shown_ns
        if starvation is None or before_ns is None or self._last is None:
            return
        if captured_ns - before_ns > starvation.hold_s * 1e9:
            self._returning = self._last, now_ns

    def _on_the_way(self, pose: Pose, now_ns: int) -> Pose:
        if self._returning is None or self._starvation is None:
            return pose
        start, since_ns = self._returning
        whole_ns = self._starvation.return_s * 1e9
        part = (now_ns - since_ns) / whole_ns if whole_ns else 1.0
        if not 0 <= part < 1:
            self._returning = None
            return pose
        return blended(start, pose, part * part * (3 - 2 * part))

    def _alone(self, pose: Pose, away_ns: int) -> Pose:
        """What it does around the last pose while nothing comes."""
        starvation = self._starvation
        assert starvation is not None
        idle_s = away_ns / 1e9 - starvation.hold_s
        self.source = "hold" if idle_s <= 0 or not starvation.breathe else "breathe"
        return pose if self.source == "hold" else starvation.breathing(pose, idle_s)
