"""What is shown where the next frame is late: its field, or the last frame once more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gas_rt.stream.slots import lease_of
from gas_rt.stream.stages import Job, Picture

__all__ = ["FIRST_FRAME_NS", "Standby"]

# Before the first frame a window fills, which is no lateness; a machine that takes longer than
# this for it shows the field meanwhile.
FIRST_FRAME_NS = 500_000_000
# Of what a full frame is older than they usually are: it may have been late, and the next not.
RISE_SHARE = 0.02
GRACE_SHARE = 0.05  # of a period: what a frame of fewer steps may be late by


class Standby:
    """Keeps the jobs whose field has been rendered and whose frame was not shown yet.

    It asks for the time since the last frame was handed out, in which there was work all along:
    a stream whose poses stop is not late.
    """

    def __init__(self, picture_of: Callable[[Job], Picture | None]) -> None:
        """`picture_of`: the field of a job that has passed the first stage, at its size."""
        self._picture_of = picture_of
        self._jobs: dict[int, Job] = {}
        self._left_out: list[int] = []  # of those, the ones that no stage has any more
        self._last: Job | None = None
        self._handed_ns: int | None = None
        self._due_ns: int | None = None  # when the next one is late
        self._usual_ns = 0  # age of full frames
        self._standing_in = self._last_less = False  # at the last frame

    def fed(self, job: Job) -> None:
        """The first stage is done with `job`."""
        self._jobs[job.index] = job

    def gone(self, index: int) -> None:
        """The job needs no more frame: it was shown or dropped."""
        if self._jobs.pop(index, None) is not None and index in self._left_out:
            self._left_out.remove(index)

    def left_out(self, job: Job, *, limit: int) -> list[Job]:
        """`job` will not be made, but its field may be shown yet; those beyond `limit` of such."""
        if job.index in self._jobs:
            self._left_out.append(job.index)
        return [self._jobs[index] for index in self._left_out[:-limit]]

    def before(self, index: int) -> list[Job]:
        """Jobs that will not be made and are older than the frame `index`."""
        return [self._jobs[old] for old in self._left_out if old < index]

    def handed(self, job: Job, now_ns: int, *, in_time: bool) -> None:
        """The frame of `job`, whose payload is its picture, is about to be handed out."""
        self._keep(job)
        self._handed_ns = now_ns
        if not in_time and self._due_ns is not None:
            self._handed_ns = min(now_ns, self._due_ns)  # however long it took somebody to come
        self._standing_in = not in_time
        self._last_less = not in_time or job.payload.level != "full"
        if in_time and job.payload.level == "full":
            age_ns = now_ns - job.pushed_ns
            risen_ns = self._usual_ns + round(RISE_SHARE * (age_ns - self._usual_ns))
            self._usual_ns = min(age_ns, risen_ns) if self._usual_ns else age_ns

    def outdated(self, is_old: Callable[[Job], bool]) -> list[Job]:
        """Forget what is too old to be shown; the jobs that have not been."""
        if self._last is not None and is_old(self._last):
            self._keep(None)
        old = [job for job in self._jobs.values() if is_old(job)]
        for job in old:
            self.gone(job.index)
        return old

    @property
    def due_ns(self) -> int | None:
        """When the frame after the last one was, or will be, late."""
        return self._due_ns

    @property
    def usual_ns(self) -> int:
        """How old poses usually are when their full frames are handed out."""
        return self._usual_ns

    @property
    def handed_ns(self) -> int | None:
        """When the last frame was handed out."""
        return self._handed_ns

    def expect(self, now_ns: int, *, busy_since_ns: int, late_ns: int, period_ns: int) -> int:
        """Set `due_ns`, when the next frame is late; how long until then, 0 if it is late.

        Where one has stood in, the next does so a period later, and little later after a frame of
        fewer steps, so that the picture moves on at the stream's rate; unless its pose would be
        younger than poses are when their full frames are ready, which would then come too late for
        ever.
        """
        if self._handed_ns is None:
            due_ns = busy_since_ns + max(FIRST_FRAME_NS, late_ns)
        else:
            if self._last_less and self._jobs:
                oldest = self._jobs[min(self._jobs)]
                if self._handed_ns + period_ns - oldest.pushed_ns >= self._usual_ns:
                    grace = 0.0 if self._standing_in else GRACE_SHARE
                    late_ns = min(late_ns, period_ns + round(grace * period_ns))
            due_ns = min(max(self._handed_ns, busy_since_ns), now_ns) + late_ns
        self._due_ns = due_ns
        return max(0, due_ns - now_ns)

    def waiting(self) -> list[Job]:
        """The jobs that need a frame yet, oldest first."""
        return [self._jobs[index] for index in sorted(self._jobs)]

    def field_of(self, waiting: Sequence[Job]) -> Job | None:
        """The first of them that has a field, with its picture. Needs no lock, and takes time."""
        for job in waiting:
            picture = self._picture_of(job)
            if picture is not None:
                return replace(job, payload=picture)
        return None

    def instead(self, field: Job | None = None) -> tuple[Job | None, bool]:
        """A job with the picture to show now, and whether it is of a pose not shown before.

        That is `field`, one that is waiting, or the last frame once more, or there is nothing.
        """
        if field is not None:
            return replace(self._jobs[field.index], payload=field.payload), True
        if self._last is None:
            return None, False
        return self._last.copied(level="held"), False

    def reset(self) -> None:
        """Forget the stream."""
        self._jobs.clear()
        self._left_out.clear()
        self._keep(None)
        self._handed_ns = None
        self._due_ns, self._usual_ns, self._standing_in = None, 0, False
        self._last_less = False

    def _keep(self, job: Job | None) -> None:
        """May show `job` again, and what it kept before no more."""
        before, self._last = self._last, job
        # Whoever takes a frame may release it, and its memory is then another's: not this one's,
        # not yet. A copy would take time, and whoever pushes or polls would wait for it.
        if before is not None and (lease := lease_of(before.payload.rgb)) is not None:
            lease.let_go()
        if job is not None and (lease := lease_of(job.payload.rgb)) is not None:
            lease.hold()
