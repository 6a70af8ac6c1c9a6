"""`diagonal`: a rolling queue in which every frame is one level cleaner than the one behind it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from gas_rt.core import F32, Task, Window
from gas_rt.diffusion.live import Flying, LivePolicy
from gas_rt.diffusion.sigmas import SIGMA_MIN
from gas_rt.diffusion.windows import Call, FinalFrame, Role, Schedule, Slot
from gas_rt.errors import InputError

__all__ = ["DiagonalPolicy"]


@dataclass
class _Chunk:
    """Frames that entered together: all at level `level` of their own schedule."""

    flying: list[Flying]
    schedule: Schedule
    level: int = 0

    @property
    def calls_left(self) -> int:
        return self.schedule.window.steps - self.level

    @property
    def clean(self) -> bool:
        return self.calls_left == 0

    def levels(self) -> tuple[float, float]:
        """sigma and sigma_next of the next call."""
        if self.clean:
            return SIGMA_MIN, SIGMA_MIN
        return self.schedule.sigmas[self.level], self.schedule.sigmas[self.level + 1]


class DiagonalPolicy(LivePolicy):
    """Every call admits a chunk, takes each chunk in flight down one level, and emits the oldest.

    Start: before its first frame the stream was the anchor, held. Slots of the ramp that no frame
    has reached yet hold it, noised to the slot's level, so that the first call looks like any
    other. Without an anchor they repeat the oldest frame in flight as it stands.
    End: the last frame is held (ghosts enter) until it has left the queue itself.
    A call waits for a whole chunk, so a stream's calls do not depend on when its frames came.

    After a change of schedule, chunks keep the levels they entered with and the window is the
    longest one in flight. Fewer steps: a chunk that is clean before an older one waits for it, as
    context, and both leave in one call. More steps: as many calls emit nothing as there are more.
    """

    name: ClassVar[str] = "diagonal"

    @staticmethod
    def slots_of(window: Window) -> int:
        """[anchor | context | steps × chunk]."""
        return window.length

    def _check_schedule(self, schedule: Schedule) -> None:
        super()._check_schedule(schedule)
        if schedule.window.anchor == 1 and self._given_anchor is None:
            raise InputError(
                "diagonal: Window.anchor is 1, but no anchor was given; pass the reference's "
                "latent, or set it to 0"
            )

    def _clear(self) -> None:
        super()._clear()
        self._queue: deque[_Chunk] = deque()  # oldest, and so cleanest, first

    def _plan(self) -> list[Slot] | None:
        if self.done:
            return None
        if self._pending:
            schedule = self._pending[0][2]
            size = schedule.window.chunk
            group = self._group(size)
            if group is None:
                return None
            if self._fits(schedule):
                self._queue.append(
                    _Chunk(self._take(group, size=size, schedule=schedule), schedule)
                )
        elif not self._ended:
            return None
        else:
            self._hold_last()
        return self._slots()

    def _hold_last(self) -> None:
        """Admit a chunk of ghosts behind the newest frame."""
        schedule = self._queue[-1].schedule
        if self._fits(schedule):
            newest = self._queue[-1].flying[-1].frame
            ghosts = self._ghosts(newest, schedule.window.chunk, schedule=schedule)
            self._queue.append(_Chunk(ghosts, schedule))

    def _fits(self, schedule: Schedule) -> bool:
        """Whether a chunk more finds slots in the longest window in flight, now and later.

        Chunks leave from the front and may take the longest window with them: what is in flight
        behind each that leaves later than all before it must fit too.
        """
        queue = [*self._queue, _Chunk([], schedule)]
        longest_wait = 0
        for k, chunk in enumerate(queue):
            if chunk.calls_left <= longest_wait:
                continue  # leaves together with one before it
            longest_wait = chunk.calls_left
            windows = [behind.schedule.window for behind in queue[k:]]
            if sum(w.chunk for w in windows) > max(w.steps * w.chunk for w in windows):
                return False
        return True

    def _slots(self) -> list[Slot]:
        """[anchor | context | held ramp, where no frame has been yet | in flight]."""
        flight: list[Slot] = []
        for chunk in self._queue:
            sigma, sigma_next = chunk.levels()
            for flying in chunk.flying:
                role: Role = "context" if chunk.clean else "flight"
                role = "padding" if flying.ghost else role
                flight.append(Slot(flying.frame, role, flying.x, sigma, sigma_next))
        lead = max(
            (chunk.schedule for chunk in reversed(self._queue)),
            key=lambda schedule: schedule.window.steps * schedule.window.chunk,
        )
        task = self._queue[0].flying[0].frame.task
        return self._pinned(lead, flight, task=task) + flight

    def _pinned(self, lead: Schedule, flight: list[Slot], *, task: Task) -> list[Slot]:
        """What stands before the frames in flight in a window laid out as `lead` says."""
        w = lead.window
        missing = w.steps * w.chunk - len(flight)
        past = self._recent(w.context + missing, task=task)
        if not past and w.context + missing:
            oldest = flight[0]
            copy = Slot(oldest.frame, "padding", oldest.x, oldest.sigma, oldest.sigma_next)
            return [copy] * (w.context + missing)
        slots = []
        if w.anchor:
            anchor = self._anchor_as(task)
            slots.append(Slot(anchor.frame, "anchor", anchor.latent, SIGMA_MIN, SIGMA_MIN))
        for role, clean in past[: w.context]:
            slots.append(Slot(clean.frame, role, clean.latent, SIGMA_MIN, SIGMA_MIN))
        for place, (_, clean) in enumerate(past[w.context :]):
            level = w.steps - 1 - place // w.chunk
            sigma, sigma_next = lead.sigmas[level : level + 2]
            x = self._noised(clean, sigma)
            slots.append(Slot(clean.frame, "padding", x, sigma, sigma_next))
        return slots

    def _apply(self, call: Call, x_next: F32, x0: F32) -> list[FinalFrame]:
        slot = call.length - sum(len(chunk.flying) for chunk in self._queue)
        for chunk in self._queue:
            for flying in chunk.flying:
                if not chunk.clean:
                    flying.step(x_next[slot])
                slot += 1
            chunk.level += not chunk.clean
        finals: list[FinalFrame] = []
        while self._queue and self._queue[0].clean:
            oldest = self._queue.popleft()
            finals += [FinalFrame(f.frame, f.x) for f in oldest.flying if not f.ghost]
        self._remember(finals)
        return finals
