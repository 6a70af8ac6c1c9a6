"""When frames are handed out, and what is in the place of one that is late. Pure, under a lock."""

from __future__ import annotations

from gas_rt.stream.pacing import Cadence
from gas_rt.stream.plans import Lateness, QueuePlan
from gas_rt.stream.queues import BoundedQueue
from gas_rt.stream.stages import Job

__all__ = ["Showing"]


class Showing:
    """The end of a pipeline: takes jobs with their pictures, says which is due.

    The caller counts them; what this gives back as displaced or stood in for is for it to count.
    """

    def __init__(self, plan: QueuePlan, *, period_ns: int, lateness: Lateness | None) -> None:
        self._plan = plan
        self._period_ns = period_ns
        self._late = lateness
        self._pacer = Cadence(period_ns) if plan.paced else None
        self._ready_last_ns: int | None = None
        self._limit = max(plan.frames, plan.burst)
        # `put` keeps to the limit, but for frames that it leaves for their age.
        room = 0 if lateness is None else lateness.ladder.flight
        self.frames: BoundedQueue[Job] = BoundedQueue(
            self._limit + room, drop_oldest=plan.drop_oldest
        )

    def put(self, job: Job) -> list[Job]:
        """Take in a frame that is ready, if there is room; the ones it displaces."""
        displaced: list[Job] = []
        if not self._plan.drop_oldest:
            self.frames.offer(job)
            return displaced
        limit = self._limit
        if job.burst is not None:
            # A burst stays together; what is left of the one before it gives way, but for one
            # frame whose turn is about to come.
            newest = self.frames.newest()
            spread = newest is not None and bool(newest.burst) and self._late is not None
            limit = max(self._plan.frames + spread, job.burst + 1)
        while len(self.frames) >= limit and not self._keeps_age(job.at_ns):
            old = self.frames.take()
            assert old is not None
            displaced.append(old)
        old = self.frames.offer(job).displaced
        return displaced if old is None else [*displaced, old]

    def _keeps_age(self, now_ns: int) -> bool:
        """Whether the next frame is of a lower level and no older than full ones usually are.

        Those wait for less. To skip what is left of the frames before would take the age away that
        full frames need when they come again, and the picture would stand still for it.
        """
        next_one = self.frames.peek()
        if self._late is None or next_one is None or next_one.payload.level == "full":
            return False
        return now_ns - next_one.pushed_ns <= self._late.standby.usual_ns

    def skipped(self, now_ns: int) -> list[Job]:
        """Frames to leave out, since nobody took any for a while: all but the newest."""
        skipped = []
        if self._pacer is not None and self._pacer.is_behind(now_ns):
            while len(self.frames) > 1 and (old := self.frames.take()) is not None:
                skipped.append(old)
        return skipped

    def early_ns(self, job: Job, now_ns: int) -> int:
        """How long a frame that is ready waits for its time."""
        early_ns = job.not_before_ns - now_ns
        if early_ns > 2 * self._period_ns:  # no tick is so far ahead: the clock went back
            early_ns = 0
        if self._pacer is not None:
            early_ns = max(early_ns, self._pacer.wait_ns(now_ns))
        elif self._late is not None and (handed_ns := self._late.standby.handed_ns) is not None:
            # Frames that were made at once show poses a period apart, and so do fields that were
            # waiting for their frames: whatever is younger than full frames has to wait for those.
            young = now_ns - job.pushed_ns < self._late.standby.usual_ns
            if job.burst or (young and job.payload.level != "full"):
                early_ns = max(early_ns, min(handed_ns + self._period_ns - now_ns, self._period_ns))
        return early_ns

    def note_ready(self, now_ns: int, *, busy_since_ns: int | None, in_time: bool = True) -> None:
        """Tell the ladder the pace: the time without work between two frames does not count.

        One that stands in says that the frame was late, however soon after the last it is shown.
        """
        last, self._ready_last_ns = self._ready_last_ns, now_ns
        if self._late is not None and last is not None:
            begun = last if busy_since_ns is None else max(last, busy_since_ns)
            least_ns = 0 if in_time else self._late.ladder.late_ns
            self._late.ladder.frame(max(least_ns, now_ns - begun), now_ns)

    def late_in_ns(self, now_ns: int, *, busy_since_ns: int | None) -> int | None:
        """How long until the next frame is late, 0 if it is; None if time alone does not tell."""
        if self._late is None or busy_since_ns is None:
            return None
        late_ns = self._late.ladder.late_ns
        return self._late.standby.expect(
            now_ns, busy_since_ns=busy_since_ns, late_ns=late_ns, period_ns=self._period_ns
        )

    def instead(self, field: Job | None, *, is_late: bool) -> tuple[Job | None, bool]:
        """What is shown in place of the next frame, if anything, and whether it is new."""
        assert self._late is not None
        job, is_new = self._late.standby.instead(field)
        due_ns = self._late.standby.due_ns
        if is_late and job is not None and due_ns is not None and self._pacer is not None:
            self._pacer.put_off(due_ns)  # what is late now stays later
        return job, is_new

    def handed(self, job: Job, now_ns: int, *, in_time: bool) -> None:
        """The frame of `job` was handed out; `in_time` unless it stands in for a late one."""
        if self._pacer is not None:
            self._pacer.show(now_ns, ready_ns=job.at_ns, in_time=in_time)
        if self._late is not None:
            self._late.standby.gone(job.index)
            self._late.standby.handed(job, now_ns, in_time=in_time)

    def reset(self) -> None:
        """A new stream."""
        self._ready_last_ns = None
        if self._pacer is not None:
            self._pacer.reset()
