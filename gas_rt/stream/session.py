"""The session: push poses and cameras in, take frames out, never wait unless asked to."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, get_args

import numpy as np

from gas_rt.core import BackendReport, Camera, Frame, Pose, Request, Task
from gas_rt.errors import GasRtWarning, InputError, SessionError, ShapeError
from gas_rt.stream.closing import Closing, unmasked
from gas_rt.stream.conductor import Conductor
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.ladder import SharedLadder
from gas_rt.stream.pacing import DeadlineMeter, period_of
from gas_rt.stream.pipeline import Clock, Pipeline
from gas_rt.stream.plans import QUEUE_PLANS, Lateness
from gas_rt.stream.recorder import Recorder
from gas_rt.stream.stages import Chain, Job, Picture, Stage, grouped
from gas_rt.stream.standby import Standby
from gas_rt.stream.starvation import PoseClock
from gas_rt.stream.tracing import Tracer
from gas_rt.stream.watching import Watcher

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar

__all__ = ["GATE", "Session", "SessionStats", "Takeover"]

# How far ahead of our clock a capture time may lie: clocks on one machine agree much better, and
# a wall clock handed over by mistake is decades ahead.
CLOCK_SLACK_NS = 1_000_000_000
AGES_KEPT = 4096  # of a session's age-of-pose samples, so that hours of streaming stay flat
GATE = "denoise"  # the stage whose calls take the time


@dataclass(frozen=True)
class SessionStats:
    """Counts since the session opened: ``accepted = delivered + dropped + in_flight``.

    `levels` counts the frames handed out by what made them; those that are ``held`` show a pose
    that was delivered before and are not counted as `delivered` again.
    """

    accepted: int
    refused: int
    delivered: int
    dropped: int
    dropped_by_reason: dict[str, int]
    in_flight: int
    deadline_miss: float
    age_ms: tuple[float, ...]
    levels: dict[str, int]


@dataclass(frozen=True, eq=False)
class Takeover:
    """What makes the frames of another avatar: its stages, and what it says of cameras."""

    stages: Sequence[Stage]
    camera_problems: Callable[[Camera, Pose], list[str]] | None = None


class Session(Closing):
    """A live stream of one avatar. Get one from ``model.session()``; close it, or use ``with``.

    `push` and `poll` may be called from different threads; neither waits for a frame to be made.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        config: SessionConfig,
        *,
        backend: BackendReport,
        camera_problems: Callable[[Camera, Pose], list[str]] | None = None,
        check_request: Callable[[Request, int], None] | None = None,
        on_close: Callable[[Session], None] | None = None,
        ladder: SharedLadder | None = None,
        field_of: Callable[[Job], Picture | None] = lambda job: None,
        takeover: Callable[[Avatar], Takeover] | None = None,
        clock: Clock = time.monotonic_ns,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Opened by ``model.session``. `ladder` is shared with the stages, `field_of` the field of
        a job between two of them; `takeover` makes the stages of another avatar ready.
        """
        self.config = config
        self.backend = backend
        self._clock = clock
        self._camera_problems = camera_problems
        self._check_request = check_request
        self._on_close = on_close
        self._takeover = takeover
        self._warned: set[str] = set()
        self._levels: Counter[str] = Counter()
        self._ages_ms: deque[float] = deque(maxlen=AGES_KEPT)
        self._deadlines = DeadlineMeter(period_of(config.fps))
        self._meters = threading.Lock()
        self._watchers = tuple(watchers)
        self._split = config.split if config.pipelined else "all"
        workers = grouped(stages, self._split)
        lateness = None
        if ladder is not None:
            ladder.watch(self._watchers)
            gates = [k for k, stage in enumerate(workers) if GATE in stage.name.split("+")]
            lateness = Lateness(ladder, Standby(field_of), gates[0] if gates else 0)
        max_age_ns = None if config.max_age_ms is None else round(config.max_age_ms * 1e6)
        self._pipeline = Pipeline(
            workers,
            plan=replace(QUEUE_PLANS[config.on_late], burst=config.burst, ticked=config.resample),
            period_ns=period_of(config.fps),
            lateness=lateness,
            max_age_ns=max_age_ns,
            clock=clock,
            watchers=self._watchers,
        )
        self._conductor = self._conducted() if config.resample else None

    @property
    def trace(self) -> Tracer | None:
        """What happened so far, if the session was opened with ``trace``."""
        return next((w for w in self._watchers if isinstance(w, Tracer)), None)

    @property
    def record(self) -> Recorder | None:
        """What was decided so far, if the session was opened with ``record``."""
        return next((w for w in self._watchers if isinstance(w, Recorder)), None)

    # ---- in --------------------------------------------------------------------------------

    def push(
        self,
        pose: Pose,
        camera: Camera,
        *,
        captured_ns: int | None = None,
        task: Task | None = None,
        steps: int | None = None,
    ) -> bool:
        """Hand over a pose and a camera without waiting.

        Returns False if it was not accepted: lossless, and the queue is full. `captured_ns` is
        when the pose was captured on the clock of ``time.monotonic_ns``, by default now. `task`
        and `steps` are of this frame; by default they are the session's.
        """
        return self.push_request(Request(pose, camera, captured_ns, task, steps))

    def push_request(self, request: Request) -> bool:
        """`push` for a request that is already one object."""
        self._check(request)
        return self._offer(request)

    def push_wait(
        self,
        pose: Pose,
        camera: Camera,
        *,
        timeout_s: float | None = None,
        captured_ns: int | None = None,
        task: Task | None = None,
        steps: int | None = None,
    ) -> bool:
        """`push` that waits up to `timeout_s` (None: as long as it takes) to be accepted."""
        request = Request(pose, camera, captured_ns, task, steps)
        return self.push_wait_request(request, timeout_s=timeout_s)

    def push_wait_request(self, request: Request, *, timeout_s: float | None = None) -> bool:
        """`push_wait` for a request that is already one object."""
        self._check(request)
        end_ns = None if timeout_s is None else self._clock() + round(timeout_s * 1e9)
        while not self._offer(request, patient=True):
            left_s = None if end_ns is None else (end_ns - self._clock()) / 1e9
            if left_s is not None and left_s <= 0:
                return self._offer(request)
            self._pipeline.wait(lambda: self._pipeline.has_room, timeout_s=left_s)
        return True

    def wait_to_push(self) -> None:
        """Wait until a push would be accepted or a frame can be taken, or the session ends.

        For a single thread that pushes and polls: a policy may hold every frame back until
        `finish`, so waiting for a frame alone could take forever.
        """
        pipeline = self._pipeline
        pipeline.wait(lambda: pipeline.has_room or pipeline.has_frame, timeout_s=None)

    async def push_async(
        self,
        pose: Pose,
        camera: Camera,
        *,
        captured_ns: int | None = None,
        task: Task | None = None,
        steps: int | None = None,
    ) -> None:
        """`push_wait` without a timeout that doesn't block the event loop."""
        await self.push_async_request(Request(pose, camera, captured_ns, task, steps))

    async def push_async_request(self, request: Request) -> None:
        """`push_async` for a request that is already one object."""
        self._check(request)
        with self._woken() as changed:
            while True:
                changed.clear()
                if self._offer(request, patient=True):
                    return
                await changed.wait()

    def finish(self) -> None:
        """Promise no more poses: iteration ends once what is in flight has come out."""
        if self._conductor is None:
            self._pipeline.finish()
        else:
            self._conductor.finish()

    def reset(self) -> None:
        """Drop every pose and frame in flight; the next push starts afresh."""
        if self._conductor is not None:
            self._conductor.reset()
        self._pipeline.reset()
        with self._meters:
            self._deadlines.previous_ns = None

    def cut_to(self, avatar: Avatar) -> int:
        """Let another avatar of the model take over; the index of its first frame.

        It is made ready before this returns (call it from a thread that may wait: it takes as long
        as opening a session), while the stream goes on. Poses pushed before keep the avatar they
        were pushed for, and their frames come out first.
        """
        if self._takeover is None:
            raise SessionError("cut_to: this session was not opened by model.session()")
        self._pipeline.require_accepting()  # before anything is loaded for nothing
        made = self._takeover(avatar)
        workers = grouped(made.stages, self._split)
        try:
            first = self._pipeline.cut(workers)
        except BaseException as error:
            with unmasked(error):
                Chain(workers).close()
            raise
        self._camera_problems = made.camera_problems
        return first

    # ---- out -------------------------------------------------------------------------------

    def poll(self) -> Frame | None:
        """The next frame, or None if none is ready. Never waits."""
        return self._take()[0]

    def wait(self, *, timeout_s: float | None = None) -> Frame | None:
        """The next frame; None after `timeout_s`, or when no further frame will come.

        None too if another thread closes the session meanwhile; one that is closed is an error.
        """
        end_ns = None if timeout_s is None else self._clock() + round(timeout_s * 1e9)
        pipeline = self._pipeline
        waited = False
        while True:
            seen = pipeline.version
            try:
                frame, early_ns = self._take()
            except SessionError:
                if waited and self.closed:
                    return None
                raise
            if frame is not None or pipeline.drained:
                return frame
            left_s = None if end_ns is None else (end_ns - self._clock()) / 1e9
            if left_s is not None and left_s <= 0:
                return None
            if early_ns is not None:  # by then there is one without any change
                left_s = early_ns / 1e9 if left_s is None else min(left_s, early_ns / 1e9)
            pipeline.wait(lambda seen=seen: pipeline.version != seen, timeout_s=left_s)  # type: ignore[misc]
            waited = True

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they become ready, until `finish` and the last of them, or `close`."""
        while not self.closed:
            try:
                frame = self.wait()
            except SessionError:
                if self.closed:  # by another thread, while we waited
                    return
                raise
            if frame is None:
                return
            yield frame

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """As iteration, without blocking the event loop."""
        with self._woken() as changed:
            while not self.closed:
                changed.clear()
                try:
                    frame, early_ns = self._take()
                except SessionError:
                    if self.closed:  # by another thread, since we looked
                        return
                    raise
                if frame is not None:
                    yield frame
                elif self._pipeline.drained:
                    return
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(
                            changed.wait(), None if early_ns is None else early_ns / 1e9
                        )

    # ---- the end ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the session has ended, by `close` or because a stage failed and was reported."""
        return self._pipeline.closed and self._pipeline.error is None

    @property
    def age_bound_ms(self) -> float | None:
        """How old a pose is at most when its frame can be had; None where nothing is promised.

        Holds for a session with a ladder, from its second frame on, while poses come and frames
        are taken as they can be had. The time that the first stage takes for a pose comes to it;
        ``held`` frames show a pose again and grow older. docs/streaming.md says why.
        """
        return self._pipeline.promised_age_ms

    def close(self) -> None:
        """Drop what is in flight, end the threads, free the stages. May be repeated.

        Waits for no other session. If stages fail to close, all the rest is closed before one
        SessionError says so; after another error of the session it is a `GasRtWarning`.
        """
        if self._conductor is not None:
            self._conductor.close()
        try:
            self._pipeline.close()
        finally:  # the model need not keep the session for that, nor its files go unwritten
            tell, self._on_close = self._on_close, None  # two threads may close at once
            if tell is not None:
                tell(self)

    def _ended_by(self) -> BaseException | None:
        return self._pipeline.error

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A thread of its own, and to its end: the loop's may all be waiting for this session.
        pool = ThreadPoolExecutor(1, "gas-rt-close")
        try:
            with unmasked(error or self._ended_by()):
                await asyncio.shield(asyncio.wrap_future(pool.submit(self.close)))
        finally:
            pool.shutdown(wait=False)
        self._tell_end(kind)

    @property
    def frames_held(self) -> int:
        """Frames' memory in use: being made, waiting to be taken, and kept by who took them; one
        more in a session with a ladder, which may have to hold it.

        What keeps frames for ever shows here: it rises without end.
        """
        return self._pipeline.pool.held

    def stats(self) -> SessionStats:
        """Counts and the ages of the latest frames."""
        ledger = self._pipeline.ledger_copy()
        with self._meters:
            deadline_miss, ages_ms = self._deadlines.miss_ratio, tuple(self._ages_ms)
            levels = dict(self._levels)
        return SessionStats(
            accepted=ledger.accepted,
            refused=ledger.refused,
            delivered=ledger.delivered,
            dropped=ledger.dropped_total,
            dropped_by_reason={str(k): n for k, n in ledger.dropped.items()},
            in_flight=ledger.in_flight,
            deadline_miss=deadline_miss,
            age_ms=ages_ms,
            levels=levels,
        )

    # ---- inside ----------------------------------------------------------------------------

    @contextmanager
    def _woken(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that every change in the pipeline sets."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop may have closed under us
                loop.call_soon_threadsafe(changed.set)

        stop = self._pipeline.listen(wake)
        try:
            yield changed
        finally:
            stop()

    def _conducted(self) -> Conductor:
        pipeline = self._pipeline
        period_ns = period_of(self.config.fps)
        return Conductor(
            PoseClock(period_ns=period_ns, starvation=self.config.starvation),
            offer=lambda request: pipeline.offer(request, captured_ns=request.captured_ns),
            finish=pipeline.finish,
            fail=pipeline.fail,
            clock=self._clock,
            watchers=self._watchers,
        )

    def _offer(self, request: Request, *, patient: bool = False) -> bool:
        if self._conductor is None:
            captured_ns = None if request.captured_ns is None else int(request.captured_ns)
            return self._pipeline.offer(request, captured_ns=captured_ns, patient=patient)
        self._pipeline.require_accepting()
        self._conductor.sample(request)
        return True

    def _take(self) -> tuple[Frame | None, int | None]:
        frame, early_ns = self._pipeline.take()
        if frame is not None:
            with self._meters:
                self._deadlines.frame(frame.timings.ready_ns)
                self._ages_ms.append(frame.timings.age_ms)
                self._levels[frame.level] += 1
            for watcher in self._watchers:
                watcher.took(frame)
        return frame, early_ns

    def _check(self, request: Request) -> None:
        if not isinstance(request, Request):
            raise ShapeError(f"push: expected a gas_rt.Request, got {type(request).__name__}")
        if not isinstance(request.pose, Pose) or not isinstance(request.camera, Camera):
            raise ShapeError(
                "push: expected a gas_rt.Pose and a gas_rt.Camera, got "
                f"{type(request.pose).__name__} and {type(request.camera).__name__}"
            )
        if request.task is not None and request.task not in get_args(Task):
            raise InputError(f"task: expected one of {list(get_args(Task))}, got {request.task!r}")
        captured_ns = request.captured_ns
        if captured_ns is not None:
            if not isinstance(captured_ns, int | np.integer) or isinstance(captured_ns, bool):
                raise InputError(
                    "captured_ns: expected whole nanoseconds of time.monotonic_ns(), got "
                    f"{captured_ns!r}"
                )
            ahead_ns = int(captured_ns) - self._clock()
            if ahead_ns > CLOCK_SLACK_NS:
                raise InputError(
                    f"captured_ns: lies {ahead_ns / 1e9:.1f} s in the future; "
                    "take it from time.monotonic_ns()"
                )
        if self._check_request is not None:
            self._check_request(request, self._pipeline.in_flight)
        if self._camera_problems is not None:
            for problem in self._camera_problems(request.camera, request.pose):
                kind = problem.partition(" ")[0]
                if kind not in self._warned:
                    self._warned.add(kind)
                    warnings.warn(problem, GasRtWarning, stacklevel=3)
