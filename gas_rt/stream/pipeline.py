"""Stages on their own threads, joined by bounded queues; one lock guards all of the bookkeeping.

A worker starts a job only when the queue behind it has room (pull, not push), so at most one
finished result waits per stage and a slow stage shows up as a full pose queue, where `on_late`
decides what happens. Stages run outside the lock.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from gas_rt.core import Frame, Request
from gas_rt.errors import SessionError
from gas_rt.stream.closing import unmasked
from gas_rt.stream.lanes import Lanes
from gas_rt.stream.pacing import Pacer
from gas_rt.stream.plans import Lateness, QueuePlan, promised_age_ns
from gas_rt.stream.queues import BoundedQueue, DropReason, Ledger
from gas_rt.stream.showing import Showing
from gas_rt.stream.slots import FramePool
from gas_rt.stream.stages import Job, Made, Stage
from gas_rt.stream.tracing import Tracer
from gas_rt.stream.watching import Watcher

__all__ = ["Pipeline"]

Clock = Callable[[], int]


HANDOFF = 1  # results waiting between two stages: more would only add age


class Pipeline:
    """Runs jobs through stages; owns their threads, and closes the stages at its end.

    Parameters
    ----------
    stages : in order, each run on a thread of its own; the last one's jobs carry a `Picture`.
    plan : capacities and drop rule.
    period_ns : one frame at the session's rate.
    lateness : None waits for every frame, however late.
    max_age_ns : poses this old are not begun, frames this old not handed out.
    clock : monotonic nanoseconds.
    watchers : are told what happens; a `Tracer` among them is told by the stages too.
    threaded : False starts no threads: a test pulls jobs and puts what is made of them.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        plan: QueuePlan,
        period_ns: int,
        lateness: Lateness | None = None,
        max_age_ns: int | None = None,
        clock: Clock = time.monotonic_ns,
        watchers: Iterable[Watcher] = (),
        threaded: bool = True,
    ) -> None:
        self.ledger = Ledger()
        self.pool = FramePool()
        self._watchers = tuple(watchers)
        self._tracer = next((w for w in self._watchers if isinstance(w, Tracer)), None)
        self.error: SessionError | None = None
        self.version = 0  # counts changes, for whoever waits for the next
        self._clock = clock
        self._plan = plan
        self._period_ns = period_ns
        self._late = lateness
        self._max_age_ns = max_age_ns
        self._lanes = Lanes(stages, failed=self._not_closed)
        self._unclosed: list[tuple[str, BaseException]] = []
        self._showing = Showing(plan, period_ns=period_ns, lateness=lateness)
        count = len(stages)
        self._pacer = Pacer(period_ns) if plan.paced and not plan.ticked else None
        self._generation = 0
        self._finishing = False
        self._closing = False
        self._ended = [False] * count
        self._working = [False] * count
        self._busy_since_ns: int | None = None
        self._idle_since_ns: int | None = None
        self._last_request: Request | None = None
        self._fed_ns: int | None = None
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        gate = 0 if lateness is None else lateness.gate
        self._queues: list[BoundedQueue[Job]] = [
            BoundedQueue(plan.poses, drop_oldest=plan.drop_oldest),
            *(
                BoundedQueue(max(HANDOFF, plan.burst), drop_oldest=True)
                if k == gate
                else BoundedQueue(HANDOFF, drop_oldest=False)
                for k in range(1, count)
            ),
            self._showing.frames,
        ]
        self._queue_names = (*(stage.name for stage in stages), "frames")
        self._threads = [
            threading.Thread(target=self._work, args=(k,), name=f"gas-rt-{stage.name}", daemon=True)
            for k, stage in enumerate(stages)
            if threaded
        ]
        for thread in self._threads:
            thread.start()

    # ---- the edges: none of these waits for a stage -------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the pipeline has ended, by `close` or by a failure."""
        return self._closing

    def offer(self, request: Request, *, captured_ns: int | None, patient: bool = False) -> bool:
        """Hand a request to the first stage; False if the pose queue is full and lossless.

        That is a refusal unless the caller is `patient`, and offers it again when there is room.
        """
        with self._changed:
            self._require_accepting()
            now = self._clock()
            poses = self._queues[0]
            if not poses.has_room and patient:
                return False
            if not poses.has_room:
                self.ledger.refused += 1
                for watcher in self._watchers:
                    watcher.refused(now_ns=now)
                return False
            job = Job(
                index=self.ledger.accept(),
                generation=self._generation,
                request=request,
                # A clock that is a little ahead of ours makes no pose younger than new.
                captured_ns=now if captured_ns is None else min(now, captured_ns),
                pushed_ns=now,
                not_before_ns=now + self._period_ns if self._plan.paced else 0,
                segment=self._lanes.newest,
                at_ns=now,
                tracer=self._tracer,
                pool=self.pool,
            )
            self._last_request = request
            self._wake(now)
            displaced = poses.offer(job).displaced
            for watcher in self._watchers:
                watcher.pushed(job, begin_ns=now, end_ns=self._clock())
            if displaced is not None:
                self._drop(displaced, "stale_pose")
            self._notify()
            return True

    def take(self) -> tuple[Frame | None, int | None]:
        """The next frame if one is due; else None and, if time alone brings one, how long (ns)."""
        field = None
        looked = False
        while True:
            with self._changed:
                self._require_open()
                now = self._clock()
                job, wait_ns = self._due(now)
                if wait_ns != 0:
                    return None, wait_ns
                waiting = self._instead_of(job)
                if field is not None and field.index not in {w.index for w in waiting}:
                    field, looked = None, False  # shown or dropped while it was looked at
                if job is not None and (not waiting or (looked and field is None)):
                    self._showing.frames.take()
                    return self._hand_out(job, now), None
                if looked or not waiting:
                    return self._stand_in(field, now, is_late=job is None), None
                assert self._late is not None
                standby = self._late.standby
            # Fitted to its size out of the lock: whoever pushes would wait for it, and every stage.
            field, looked = standby.field_of(waiting), True

    def cut(self, stages: Sequence[Stage]) -> int:
        """Let `stages` make what is offered from now on; the index of the first such frame.

        Poses before keep their stages, each of which is closed when its last frame has left it.
        """
        with self._changed:
            self._require_accepting()
            self._lanes.add(stages)
            for watcher in self._watchers:
                watcher.cut(self.ledger.accepted, now_ns=self._clock())
            return self.ledger.accepted

    def require_accepting(self) -> None:
        """Raise unless a request may be offered."""
        with self._changed:
            self._require_accepting()

    @property
    def drained(self) -> bool:
        """Whether no further frame will come: told to finish and nothing in flight, or closed."""
        with self._changed:
            return self._closing or (self._finishing and self.ledger.in_flight == 0)

    @property
    def promised_age_ms(self) -> float | None:
        """See `promised_age_ns`; None without a ladder."""
        if self._late is None:
            return None
        ladder = self._late.ladder
        return promised_age_ns(self._plan, flight=ladder.flight, late_ns=ladder.late_ns) / 1e6

    @property
    def has_frame(self) -> bool:
        """Whether a frame has been made and not taken."""
        with self._changed:
            return len(self._queues[-1]) > 0

    @property
    def has_room(self) -> bool:
        """Whether a push would be accepted."""
        with self._changed:
            return self._queues[0].has_room

    @property
    def in_flight(self) -> int:
        """Accepted poses that are still in a queue or a stage."""
        with self._changed:
            return self.ledger.in_flight

    def finish(self) -> None:
        """Accept no more poses; what is in flight still comes out."""
        with self._changed:
            self._finishing = True
            self._notify()

    def reset(self) -> None:
        """Drop everything in flight."""
        with self._changed:
            self._require_open()
            self._generation += 1
            self._flush("reset")
            if self._pacer is not None:
                self._pacer.reset()
            self._showing.reset()
            if self._busy_since_ns is not None:
                self._busy_since_ns = self._clock()  # a new stream's first frame is not late yet
            self._notify()

    def close(self) -> None:
        """Drop everything in flight, end the threads and free the stages. May be repeated.

        Raises one SessionError, once, of all stages that failed to close; a `GasRtWarning` says
        so where `error` came before.
        """
        with self._changed:
            self._closing = True
            self._flush("closed")
            self._notify()
        self._lanes.interrupt()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._changed:
            unclosed, self._unclosed = self._unclosed, []
        if unclosed:
            said = "; ".join(f"{what}: {type(why).__name__}: {why}" for what, why in unclosed)
            with unmasked(self.error):
                raise SessionError(
                    f"the session closed, but {said}; what that held may stay in use"
                ) from unclosed[0][1]

    def wait(self, until: Callable[[], bool], *, timeout_s: float | None) -> bool:
        """Block until `until()` (evaluated under the lock), the end, or the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing or until(), timeout_s)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change, under the lock; returns what stops it."""
        with self._changed:
            self._listeners.append(listener)

        def stop() -> None:
            with self._changed:
                self._listeners.remove(listener)

        return stop

    def ledger_copy(self) -> Ledger:
        """The counts at one instant."""
        with self._changed:
            return copy.deepcopy(self.ledger)

    def raise_error(self) -> None:
        """Raise what ended the pipeline, if a stage failed."""
        if self.error is not None:
            raise self.error

    # ---- the workers ---------------------------------------------------------------------

    def _work(self, k: int) -> None:
        doing = "starting"
        try:
            while (job := self._next_job(k)) is not None:
                doing = f"frame {job.index}"
                self._hand_on(k, self._lanes.made(k, job), generation=job.generation)
            doing = "the end of the stream"
            self._finish(k)
        except BaseException as error:  # whatever it is, the session must end, not hang
            self.fail(f"stage {self._lanes.stage(k).name!r} failed on {doing}", error)
        finally:
            self._lanes.close(k)

    def _finish(self, k: int) -> None:
        """Let stage `k` hand on what it holds back; then none of its jobs will come."""
        with self._changed:
            current, closing = self._generation, self._closing
            self._working[k] = True
        if closing:
            return
        self._hand_on(k, self._lanes.finish(k, current), generation=current)
        with self._changed:
            self._ended[k], self._working[k] = True, False
            self._notify()

    def _next_job(self, k: int) -> Job | None:
        """Wait for a job; None once none will come: the stages before ended, or it closes."""
        with self._changed:
            while not self._closing:
                job, wait_ns = self.pull(k)
                if job is not None:
                    return job
                if not len(self._queues[k]) and (self._ended[k - 1] if k else self._finishing):
                    return None
                self._changed.wait(None if wait_ns is None else wait_ns / 1e9)
        return None

    def pull(self, k: int) -> tuple[Job | None, int | None]:
        """Under the lock: a job that stage `k` may begin now, or how long (ns) until it may."""
        source, now = self._queues[k], self._clock()
        self._working[k] = False
        while (job := source.peek()) is not None:
            if k == 0 and self._is_old(job, now):
                self._drop(job, "old_pose")
            elif k == 0 or self._late is None or job.pause or self.ledger.is_open(job.index):
                break
            else:
                self._leave_out(job)
            source.take()  # dropped just now, or its field was shown already
            self._notify()
        if job is None:
            return self._pause(k, now)
        wait_ns = self._wait_ns(k, now)
        if wait_ns is None or wait_ns > 0:
            return None, wait_ns
        source.take()
        job = self._entered(job, k)
        if self._feeds_gate(k):
            self._fed_ns = now
        if k == 0 and self._pacer is not None:
            job = job.due(self._pacer.start(now) + self._pacer.period_ns)
        self._working[k] = True
        self._notify()
        return job, None

    def _wait_ns(self, k: int, now: int) -> int | None:
        """How long until stage `k` may begin a job that waits; None: until something changes."""
        target = self._queues[k + 1]
        if not target.has_room:
            return None
        wait_ns = self._pacer.wait_ns(now) if k == 0 and self._pacer is not None else 0
        if self._feeds_gate(k) and len(target) >= HANDOFF and self._fed_ns is not None:
            # The gate is behind: prepare poses at the stream's rate, not as fast as they come.
            wait_ns = max(wait_ns, min(self._fed_ns - now, 0) + self._period_ns)
        return wait_ns

    def _pause(self, k: int, now: int) -> tuple[Job | None, int | None]:
        """What stage `k` does while there is no job for it: after a while, end the window."""
        if any(self._working) or any(len(queue) for queue in self._queues[:-1]):
            return None, None
        if self._idle_since_ns is None:
            self._idle_since_ns = now
            self._notify()  # to the first stage, which looks how long to wait
        late = self._late
        if late is None:
            self._busy_since_ns = None
            return None, None
        if not late.ladder.gathers:
            self._busy_since_ns = None
        if k or self.ledger.in_flight <= len(self._queues[-1]):
            return None, None  # what is left only waits to be taken
        left_ns = min(self._idle_since_ns, now) + round(late.ladder.config.pause_s * 1e9) - now
        if left_ns > 0:
            return None, left_ns
        self._wake(now)
        self._working[0] = True
        assert self._last_request is not None
        job = Job(-1, self._generation, self._last_request, now, now, pause=True)
        return self._entered(replace(job, segment=self._lanes.segment(0)), 0), None

    def _wake(self, now: int) -> None:
        """There is work from now on."""
        self._idle_since_ns = None
        if self._busy_since_ns is None:
            self._busy_since_ns = now

    def _feeds_gate(self, k: int) -> bool:
        return self._late is not None and k + 1 == self._late.gate

    def _hand_on(self, k: int, jobs: Made, *, generation: int) -> None:
        target = self._queues[k + 1]

        def may_go_on() -> bool:
            return self._closing or target.has_room or generation != self._generation

        for job in jobs:
            with self._changed:
                if job is not None:
                    job = job.left(self._clock())
                    self._changed.wait_for(may_go_on)
                if self._closing or generation != self._generation:
                    return  # counted as dropped when the flush happened
                if job is not None:
                    self.put(k + 1, job)

    # ---- under the lock --------------------------------------------------------------------

    def put(self, k: int, job: Job) -> None:
        """Into queue `k`, which has room: in front of stage `k`, or that of the frames."""
        if k == len(self._queues) - 1:
            self._put_frame(job)
        else:
            if self._late is not None and self.ledger.is_open(job.index):
                self._late.standby.fed(job)
            queue = self._queues[k]
            if queue.drop_oldest:
                # As many poses wait for the gate as it takes at once.
                assert self._late is not None
                while len(queue) >= self._late.ladder.burst and (old := queue.take()) is not None:
                    self._displaced(old)
            queue.offer(job)
        self._notify()

    def _put_frame(self, job: Job) -> None:
        if not self.ledger.is_open(job.index):
            return  # something else was shown in its place
        now = self._clock()
        self._showing.note_ready(now, busy_since_ns=self._busy_since_ns)
        job = job.waited("handoff", (now - job.at_ns) / 1e6, now)  # and is ready at `at_ns`
        for displaced in self._showing.put(job):
            self._drop(displaced, "unpolled_frame")

    def _is_old(self, job: Job, now: int) -> bool:
        return self._max_age_ns is not None and now - job.captured_ns > self._max_age_ns

    def _ready(self, now: int) -> Job | None:
        """The next frame that was made, without those that came too late to be shown."""
        frames = self._showing.frames
        while (job := frames.peek()) is not None and self._is_old(job, now):
            frames.take()
            self._drop(job, "old_frame")
            self._notify()
        for skipped in self._showing.skipped(now):
            self._drop(skipped, "unpolled_frame")
        return frames.peek()

    def _due(self, now: int) -> tuple[Job | None, int | None]:
        """The next frame, if one was made; how long until it, or something instead, is shown."""
        job = self._ready(now)
        if job is None:
            return None, self._late_in_ns(now)
        return job, max(0, self._showing.early_ns(job, now))

    def _late_in_ns(self, now: int) -> int | None:
        """How long until the next frame is late; 0 if it is, None if time does not tell."""
        wait_ns = self._showing.late_in_ns(now, busy_since_ns=self._busy_since_ns)
        if not self.ledger.in_flight or wait_ns is None:
            return None
        if wait_ns == 0:
            assert self._late is not None
            for old in self._late.standby.outdated(lambda job: self._is_old(job, now)):
                self._count_out(old, "old_frame")
                self._notify()
        return wait_ns

    def _instead_of(self, job: Job | None) -> list[Job]:
        """Poses whose fields may be shown before the next frame, or while there is none.

        Before a frame those that the window never took, where it shows no more than they do.
        """
        if self._late is None:
            return []
        if job is None:
            return self._late.standby.waiting()
        return self._late.standby.before(job.index) if job.payload.level == "field" else []

    def _stand_in(self, field: Job | None, now: int, *, is_late: bool) -> Frame | None:
        """What is shown while no frame is there: `field`, the last frame, or nothing."""
        job, is_new = self._showing.instead(field, is_late=is_late)
        if job is None:
            return None
        if is_new:
            self._showing.note_ready(now, busy_since_ns=self._busy_since_ns, in_time=not is_late)
        job = job.waited("late" if is_new else "held", (now - job.at_ns) / 1e6, now)
        return self._hand_out(job, now, counts=is_new, in_time=False)

    def _hand_out(self, job: Job, now: int, *, counts: bool = True, in_time: bool = True) -> Frame:
        """The frame of `job`, ready at its `at_ns`; one that `counts` repeats no other."""
        if counts:
            self.ledger.deliver(job.index)
        self._showing.handed(job, now, in_time=in_time)
        for old in self._late.standby.before(job.index) if self._late is not None else ():
            self._count_out(old, "stale_pose")
        frame = job.frame(job.at_ns)
        for watcher in self._watchers:
            watcher.delivered(frame, begin_ns=now, end_ns=self._clock())
        self._notify()
        return frame

    def _entered(self, job: Job, k: int) -> Job:
        """`job` as stage `k` takes it."""
        now = self._clock()
        if job.pause:
            gate = 0 if self._late is None else self._late.gate
            for watcher in self._watchers if k == gate else ():
                watcher.paused(now_ns=now)
            return job
        for watcher in self._watchers:
            watcher.entered(job, k, now_ns=now)
        return job.entered("handoff" if k else "queue", now)

    def _leave_out(self, job: Job) -> None:
        """The stages that `job` has not come to never see it."""
        for watcher in self._watchers if not job.pause else ():
            watcher.left_out(job)

    def _drop(self, job: Job, reason: DropReason) -> None:
        """`job` was taken out of its queue, and does not go on."""
        self._count_out(job, reason)
        self._leave_out(job)

    def _displaced(self, job: Job) -> None:
        """A newer pose came before the window took `job`: its field may be shown yet."""
        assert self._late is not None
        self._leave_out(job)
        for old in self._late.standby.left_out(job, limit=self._late.ladder.flight):
            self._count_out(old, "stale_pose")

    def _count_out(self, job: Job, reason: DropReason) -> None:
        """The pose of `job` gets no frame, wherever it is, unless something was shown for it."""
        if self.ledger.drop(job.index, reason):
            for watcher in self._watchers:
                watcher.dropped(job, reason, now_ns=self._clock())
        if self._late is not None:
            self._late.standby.gone(job.index)

    def fail(self, what: str, error: BaseException) -> None:
        """End the pipeline with one error; later ones change nothing."""
        with self._changed:
            if self.error is None and not self._closing:
                self.error = SessionError(
                    f"the session ended: {what}: {type(error).__name__}: {error}; "
                    "open another session"
                )
                self.error.__cause__ = error
            self._closing = True
            self._flush("failed")
            self._notify()
        self._lanes.interrupt()

    def _not_closed(self, what: str, error: BaseException) -> None:
        """A stage failed to close: after a cut that ends the session, at its end `close` tells."""
        with self._changed:
            if self._finishing or self._closing:
                self._unclosed.append((what, error))
            else:
                self.fail(what, error)

    def _require_open(self) -> None:
        self.raise_error()
        if self._closing:
            raise SessionError("the session is closed; open another with model.session()")

    def _require_accepting(self) -> None:
        self._require_open()
        if self._finishing:
            raise SessionError("push: the session was told to finish(); open another session")

    def _flush(self, reason: DropReason) -> None:
        # Everything accepted and not delivered is lost here, also what a stage is working on or
        # holding back: such a job's generation is then out of date and it vanishes uncounted.
        lost = self.ledger.in_flight
        self.ledger.drop_all(reason)
        for watcher in self._watchers:
            watcher.flushed(reason, lost, now_ns=self._clock())
        for queue in self._queues:
            queue.remove(lambda _: True)
        if self._late is not None:
            self._late.standby.reset()
            self._late.ladder.reset()

    def _notify(self) -> None:
        self.version += 1
        if self._watchers:
            lengths = {n: len(q) for n, q in zip(self._queue_names, self._queues, strict=True)}
            for watcher in self._watchers:
                watcher.queued(lengths, now_ns=self._clock())
        self._changed.notify_all()
        for listener in self._listeners:
            listener()
