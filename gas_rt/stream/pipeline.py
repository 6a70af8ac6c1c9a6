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
from dataclasses import dataclass

from gas_rt.core import Frame, OnLate, Request
from gas_rt.errors import SessionError
from gas_rt.stream.pacing import Pacer
from gas_rt.stream.queues import BoundedQueue, DropReason, Ledger
from gas_rt.stream.slots import FramePool
from gas_rt.stream.stages import Chain, Job, Made, Stage
from gas_rt.stream.tracing import Tracer
from gas_rt.stream.watching import Watcher

__all__ = ["QUEUE_PLANS", "Pipeline", "QueuePlan"]

Clock = Callable[[], int]


@dataclass(frozen=True)
class QueuePlan:
    """Capacities of a session's queues, and what happens to a pose or frame when one is full."""

    poses: int
    frames: int
    drop_oldest: bool
    paced: bool = False


# freshest: one slot each, so nothing older than the newest waits. lossless: four, enough to ride
# out a scheduling hiccup, and 4 frames of added age at most. paced: as freshest, but one frame
# may wait for its presentation time while the next is made.
QUEUE_PLANS: dict[OnLate, QueuePlan] = {
    "freshest": QueuePlan(poses=1, frames=1, drop_oldest=True),
    "lossless": QueuePlan(poses=4, frames=4, drop_oldest=False),
    "paced": QueuePlan(poses=1, frames=2, drop_oldest=True, paced=True),
}
HANDOFF = 1  # results waiting between two stages: more would only add age


class Pipeline:
    """Runs jobs through stages; owns their threads, and closes the stages at its end.

    Parameters
    ----------
    stages : in order; the last one's jobs carry a `Picture`.
    plan : capacities and drop rule.
    period_ns : one frame at the session's rate.
    pipelined : False runs all stages on one thread, to measure what overlap brings.
    clock : monotonic nanoseconds.
    watchers : are told what happens; a `Tracer` among them is told by the stages too.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        plan: QueuePlan,
        period_ns: int,
        pipelined: bool = True,
        clock: Clock = time.monotonic_ns,
        watchers: Iterable[Watcher] = (),
    ) -> None:
        self.ledger = Ledger()
        self.pool = FramePool()
        self._watchers = tuple(watchers)
        self._tracer = next((w for w in self._watchers if isinstance(w, Tracer)), None)
        self.error: SessionError | None = None
        self._clock = clock
        self._stages: list[Stage] = list(stages) if pipelined else [Chain(stages)]
        self._pacer = Pacer(period_ns) if plan.paced else None
        self._generation = 0
        self._finishing = False
        self._ended = [False] * len(self._stages)
        self._closing = False
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._queues: list[BoundedQueue[Job]] = [
            BoundedQueue(plan.poses, drop_oldest=plan.drop_oldest),
            *(BoundedQueue(HANDOFF, drop_oldest=False) for _ in self._stages[1:]),
            BoundedQueue(plan.frames, drop_oldest=plan.drop_oldest),
        ]
        self._ready_ns: dict[int, int] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(k,), name=f"gas-rt-{stage.name}", daemon=True)
            for k, stage in enumerate(self._stages)
        ]
        for thread in self._threads:
            thread.start()

    # ---- the edges: none of these waits for a stage -------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the pipeline has ended, by `close` or by a failure."""
        return self._closing

    def offer(self, request: Request, *, captured_ns: int | None) -> bool:
        """Hand a request to the first stage; False if the pose queue is full and lossless."""
        with self._changed:
            self._require_open()
            if self._finishing:
                raise SessionError("push: the session was told to finish(); open another session")
            now = self._clock()
            poses = self._queues[0]
            if not poses.has_room:
                self.ledger.refused += 1
                for watcher in self._watchers:
                    watcher.refused(now_ns=now)
                return False
            job = Job(
                index=self.ledger.accept(),
                generation=self._generation,
                request=request,
                captured_ns=now if captured_ns is None else captured_ns,
                pushed_ns=now,
                at_ns=now,
                tracer=self._tracer,
                pool=self.pool,
            )
            displaced = poses.offer(job).displaced
            for watcher in self._watchers:
                watcher.pushed(job, begin_ns=now, end_ns=self._clock())
            if displaced is not None:
                self._drop(displaced, "stale_pose")
            self._notify()
            return True

    def take(self) -> tuple[Frame | None, int | None]:
        """The next frame if one is due; else None and, if one waits for its time, how long (ns)."""
        with self._changed:
            self._require_open()
            frames = self._queues[-1]
            job = frames.peek()
            if job is None:
                return None, None
            now = self._clock()
            early_ns = job.not_before_ns - now
            if early_ns > 0:
                return None, early_ns
            frames.take()
            self.ledger.deliver()
            frame = job.frame(self._ready_ns.pop(job.index))
            for watcher in self._watchers:
                watcher.delivered(frame, begin_ns=now, end_ns=self._clock())
            self._notify()
            return frame, None

    @property
    def drained(self) -> bool:
        """Whether no further frame will come: told to finish and nothing in flight, or closed."""
        with self._changed:
            return self._closing or (self._finishing and self.ledger.in_flight == 0)

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
            self._notify()

    def close(self) -> None:
        """Drop everything in flight, end the threads and free the stages. May be repeated."""
        with self._changed:
            self._closing = True
            self._flush("closed")
            self._notify()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

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
        stage = self._stages[k]
        generation = 0
        doing = "starting"
        try:
            while (job := self._next_job(k)) is not None:
                doing = f"frame {job.index}"
                if job.generation != generation:
                    generation = job.generation
                    stage.reset()
                self._hand_on(k, stage.process(job), generation=generation)
            doing = "the end of the stream"
            self._finish(k, generation)
        except BaseException as error:  # whatever it is, the session must end, not hang
            self._fail(f"stage {stage.name!r} failed on {doing}", error)
        finally:
            try:
                stage.close()
            except BaseException as error:
                self._fail(f"stage {stage.name!r} failed to close", error)

    def _finish(self, k: int, generation: int) -> None:
        """Let stage `k` hand on what it holds back; then none of its jobs will come."""
        with self._changed:
            current, closing = self._generation, self._closing
        if closing:
            return
        if current != generation:  # what it holds back was dropped by a reset
            self._stages[k].reset()
        self._hand_on(k, self._stages[k].finish(), generation=current)
        with self._changed:
            self._ended[k] = True
            self._notify()

    def _next_job(self, k: int) -> Job | None:
        """Wait for a job, room behind the stage, and in a paced session the tick.

        None once no job will come: the stages before have ended, or the session closes.
        """
        source, target = self._queues[k], self._queues[k + 1]
        with self._changed:
            while not self._closing:
                if not len(source) and (self._ended[k - 1] if k else self._finishing):
                    return None
                if len(source) and target.has_room:
                    pacer = self._pacer if k == 0 else None
                    wait_ns = pacer.wait_ns(self._clock()) if pacer else 0
                    if not wait_ns:
                        job = source.take()
                        assert job is not None
                        job = self._entered(job, k)
                        if pacer:
                            tick_ns = pacer.start(self._clock())
                            job = job.due(tick_ns + pacer.period_ns)
                        self._notify()
                        return job
                    self._changed.wait(wait_ns / 1e9)
                else:
                    self._changed.wait()
        return None

    def _hand_on(self, k: int, jobs: Made, *, generation: int) -> None:
        last = k == len(self._stages) - 1
        for job in jobs:
            with self._changed:
                if self._closing or generation != self._generation:
                    return  # counted as dropped when the flush happened
                if job is None:
                    continue
                job = job.left(self._clock())
                target = self._queues[k + 1]
                self._changed.wait_for(
                    lambda queue=target: (  # type: ignore[misc]
                        self._closing or queue.has_room or generation != self._generation
                    )
                )
                if self._closing or generation != self._generation:
                    return
                if last:
                    now = self._ready_ns[job.index] = self._clock()
                    job = job.waited("handoff", (now - job.at_ns) / 1e6, now)
                displaced = target.offer(job).displaced
                if displaced is not None:
                    self._ready_ns.pop(displaced.index, None)
                    self._drop(displaced, "unpolled_frame")
                self._notify()

    def _fail(self, what: str, error: BaseException) -> None:
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

    # ---- under the lock --------------------------------------------------------------------

    def _require_open(self) -> None:
        self.raise_error()
        if self._closing:
            raise SessionError("the session is closed; open another with model.session()")

    def _entered(self, job: Job, k: int) -> Job:
        """`job` as stage `k` takes it."""
        now = self._clock()
        for watcher in self._watchers:
            watcher.entered(job, k, now_ns=now)
        return job.entered("handoff" if k else "queue", now)

    def _drop(self, job: Job, reason: DropReason) -> None:
        self.ledger.drop(reason)
        for watcher in self._watchers:
            watcher.dropped(job, reason, now_ns=self._clock())

    def _flush(self, reason: DropReason) -> None:
        # Everything accepted and not delivered is lost here, also what a stage is working on or
        # holding back: such a job's generation is then out of date and it vanishes uncounted.
        lost = self.ledger.in_flight
        self.ledger.drop(reason, count=lost)
        for watcher in self._watchers:
            watcher.flushed(reason, lost, now_ns=self._clock())
        for queue in self._queues:
            queue.remove(lambda _: True)
        self._ready_ns.clear()

    def _notify(self) -> None:
        if self._watchers:
            names = (*(stage.name for stage in self._stages), "frames")
            lengths = {name: len(q) for name, q in zip(names, self._queues, strict=True)}
            for watcher in self._watchers:
                watcher.queued(lengths, now_ns=self._clock())
        self._changed.notify_all()
        for listener in self._listeners:
            listener()
