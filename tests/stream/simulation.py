"""A session's pipeline on virtual time: every stage takes as long as a test says, nothing sleeps.

The stages, the policy, the ladder and the pipeline are the real ones; only threads and clock are
replaced, by a loop that moves on to the next instant at which something happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gas_rt.core import F32, Camera, Frame, OnLate, Request, Window
from gas_rt.diffusion import ANCHOR_INDEX, Anchor, FrameSpec, Schedule, open_policy
from gas_rt.engine.rungs import calls_per_frame, flight_of
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.denoising import Denoised, DenoiseStage, Steps, WindowDenoiser
from gas_rt.stream.ladder import Ladder, LadderConfig, Rung, RungSource, SharedLadder
from gas_rt.stream.pacing import period_of
from gas_rt.stream.pipeline import Pipeline
from gas_rt.stream.plans import QUEUE_PLANS, Lateness
from gas_rt.stream.stages import Job, Picture, Stage
from gas_rt.stream.standby import Standby
from gas_rt.stream.watching import Watcher
from tests.stream.conftest import VirtualClock, pose

MS = 1_000_000
LATENT = (2, 2, 2)
CAMERA = Camera(
    np.array([[100, 0, 32], [0, 100, 32], [0, 0, 1]], np.float32),
    np.eye(3, dtype=np.float32),
    np.array([0, 0, 3], np.float32),
    64,
    64,
)
Cost = Callable[[int], float]  # milliseconds that work begun at an instant (ns) takes

# gas-mini's live profile and what its levels allow below it.
LEVELS = {4: (40.0, 34.0, 28.0, 22.0, 0.002), 2: (40.0, 28.0, 0.002), 1: (40.0, 0.002)}
LIVE = {
    steps: Schedule(Window(anchor=1, context=3, chunk=4 // steps, steps=steps), sigmas)
    for steps, sigmas in LEVELS.items()
}
RUNGS = tuple(
    Rung(
        calls_per_frame("diagonal", schedule.window),
        burst=schedule.window.chunk,
        held=flight_of("diagonal", schedule.window) - 1,
    )
    for schedule in LIVE.values()
)


class SimGraph:
    """A denoiser of little arithmetic that depends on all it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        s, after = (inputs[k].reshape(-1, 1, 1, 1) for k in ("sigma", "sigma_next"))
        x = inputs["x"]
        mixed = x / (s + 1) + inputs["condition"][:, :1]
        x0 = np.tanh(mixed + mixed.mean(0)).astype(np.float32)
        self.calls.append(tuple(x.shape))
        return {"x_next": (x0 + after / s * (x - x0)).astype(np.float32), "x0": x0}


class SimStage:
    """Feeds or decodes, instantly; the simulation charges the time."""

    def __init__(self, name: str, make: Callable[[Job], Any]) -> None:
        self.name = name
        self._make = make
        self.closed = False

    def process(self, job: Job) -> Iterable[Job]:
        return [job.after(self.name, self._make(job), elapsed_ns=0)]

    def finish(self) -> Iterable[Job]:
        return []

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def conditioned(job: Job) -> Conditioning:
    grey = np.full((2, 2, 3), job.index % 200, np.uint8)
    return Conditioning(np.full((3, 2, 2), np.cos(job.index), np.float32), None, grey, grey[..., 0])


def decoded(job: Job) -> Picture:
    made = job.payload
    assert isinstance(made, Denoised)
    level = made.level if made.latent is not None else "field"
    return Picture(made.conditioning.rgb.copy(), made.conditioning.alpha.copy(), level)


def field_of(job: Job) -> Picture | None:
    made = job.payload.conditioning if isinstance(job.payload, Denoised) else job.payload
    if not isinstance(made, Conditioning):
        return None
    return Picture(made.rgb.copy(), made.alpha.copy(), "field")


def denoise_stage(
    graph: SimGraph, *, ladder: RungSource | None, clock: VirtualClock, policy: str = "diagonal"
) -> DenoiseStage:
    latent = np.full(LATENT, 0.3, np.float32)
    anchor = Anchor(FrameSpec(ANCHOR_INDEX, ANCHOR_INDEX, "pose", 4, 1.0), latent)
    denoiser = WindowDenoiser(
        graph,  # type: ignore[arg-type]
        None,
        np.full((1, *LATENT), 0.1, np.float32),
        np.zeros((1, 3), np.float32),
    )
    return DenoiseStage(
        open_policy(policy, LIVE[4], latent_shape=LATENT, anchor=anchor),
        denoiser,
        pinned={ANCHOR_INDEX: np.full((3, 2, 2), 0.5, np.float32)},
        guidance_of=lambda task, request: 1.0,
        task="pose",
        seed=4,
        steps=Steps(4, LIVE, (4, 2, 1)),
        ladder=ladder,
        clock=clock,
    )


@dataclass
class Shown:
    """A frame that was handed out, and when; `clock_ns` is what the session's clock said."""

    at_ns: int
    clock_ns: int
    frame: Frame


class _Decided(Watcher):
    """Notes rungs by pose."""

    def __init__(self, rungs: dict[int, int]) -> None:
        self._rungs = rungs

    def decided(self, index: int, rung: int, *, is_field: bool, now_ns: int) -> None:
        self._rungs[index] = rung


@dataclass
class Simulation:
    """Poses in at their times, polls every `poll_ms` ms, and the stages' costs."""

    on_late: OnLate = "freshest"
    fps: float = 25.0
    feed_ms: Cost = lambda now: 8.0
    call_ms: Cost = lambda now: 25.0
    decode_ms: Cost = lambda now: 6.0
    poll_ms: float = 2.0
    config: LadderConfig | None = field(default_factory=LadderConfig)
    max_age_ms: float | None = None
    shown: list[Shown] = field(default_factory=list)
    polls: Callable[[int], bool] = lambda now: True
    watchers: list[Watcher] = field(default_factory=list)
    stages: Callable[[SharedLadder | None, VirtualClock], list[Stage]] | None = None
    rungs: list[Rung] = field(default_factory=lambda: list(RUNGS))
    request: Callable[[int], Request] = lambda k: Request(pose(k), CAMERA)
    field_of: Callable[[Job], Picture | None] = lambda job: field_of(job)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.start_ns = self.clock()
        self.graph = SimGraph()
        self.decided: dict[int, int] = {}  # the rung of every pose that came to the window
        self.latents: dict[int, F32] = {}  # of every frame that left it
        period_ns = period_of(self.fps)
        ladder = None
        if self.config is not None:
            self.ladder = Ladder(self.rungs, period_ns=period_ns, config=self.config)
            ladder = SharedLadder(self.ladder)
            ladder.watch([_Decided(self.decided), *self.watchers])
        stages: list[Stage]
        if self.stages is not None:
            stages = self.stages(ladder, self.clock)
        else:
            stages = [
                SimStage("feed", conditioned),
                denoise_stage(self.graph, ladder=ladder, clock=self.clock),
                SimStage("decode", self._decoded),
            ]
        self.pipeline = Pipeline(
            stages,
            plan=replace(QUEUE_PLANS[self.on_late], burst=4),
            period_ns=period_ns,
            lateness=None if ladder is None else Lateness(ladder, Standby(self.field_of), 1),
            max_age_ns=None if self.max_age_ms is None else round(self.max_age_ms * MS),
            clock=self.clock,
            watchers=self.watchers,
            threaded=False,
        )
        # Per worker: when it goes on, with which items made, of which generation.
        self._at: list[int] = [0] * 3
        self._made: list[Iterator[Job | None] | None] = [None] * 3
        self._item: list[Job | None] = [None] * 3
        self._generation = [0] * 3
        self._wake: list[int] = []
        self._now = self.start_ns  # what the clock would say had nobody set it
        self._jumped = 0

    def _decoded(self, job: Job) -> Picture:
        if job.payload.latent is not None:
            self.latents[job.index] = job.payload.latent
        return decoded(job)

    def run(self, poses_ms: Iterable[float], *, until_ms: float, after_push: Any = None) -> None:
        """Push a pose at each of `poses_ms` and go on until `until_ms`, since the start."""
        poses = [self.start_ns + round(t * MS) for t in poses_ms]
        end = self.start_ns + round(until_ms * MS)
        poll_at, pushed = self._now, 0
        while self._now < end:
            now = self._now
            while pushed < len(poses) and poses[pushed] <= now:
                self.pipeline.offer(self.request(pushed), captured_ns=None)
                pushed += 1
                if after_push is not None:
                    after_push(pushed)
            self._work(now)
            if poll_at <= now:
                if self.polls(now):
                    self._poll(now)
                poll_at = now + round(self.poll_ms * MS)
            times = [poll_at, *self._wake]
            times += [at for at, made in zip(self._at, self._made, strict=True) if made]
            times += poses[pushed : pushed + 1]
            self._now = max(now + 1, min(t for t in times if t > now))
            self.clock.now_ns = self._now + self._jumped

    def close(self) -> None:
        """Close the stages, which no thread does here at its end."""
        for k in range(3):
            self.pipeline._lanes.close(k)

    def jump_ms(self, by_ms: float) -> None:
        """Set the session's clock forth or back; nothing else notices."""
        self._jumped += round(by_ms * MS)
        self.clock.now_ns = self._now + self._jumped

    def _poll(self, now: int) -> None:
        frame, _ = self.pipeline.take()
        if frame is not None:
            for watcher in self.watchers:
                watcher.took(frame)
            self.shown.append(Shown(now, self.clock(), frame))

    def _work(self, now: int) -> None:
        self._wake = []
        moved = True
        while moved:
            moved = False
            for k in (2, 1, 0):
                moved |= self._advance(k, now)

    def _advance(self, k: int, now: int) -> bool:
        pipeline = self.pipeline
        if self._made[k] is None:
            with pipeline._changed:
                job, wait_ns = pipeline.pull(k)
            if job is None:
                if wait_ns:
                    self._wake.append(now + wait_ns)
                return False
            self._made[k], self._generation[k] = pipeline._lanes.made(k, job), job.generation
            cost = (self.feed_ms, lambda now: 0.0, self.decode_ms)[k](now)
            if job.pause or (k == 2 and job.payload.latent is None):
                cost = 0.1
            self._at[k] = now + round(cost * MS)
            return True
        if self._at[k] > now:
            return False
        return self._go_on(k, now)

    def _go_on(self, k: int, now: int) -> bool:
        pipeline, made = self.pipeline, self._made[k]
        assert made is not None
        if self._item[k] is None:
            item = next(made, self)
            if item is self:
                self._made[k] = None
                return True
            if item is None:  # a call begins
                self._at[k] = now + round(self.call_ms(now) * MS)
                return True
            assert isinstance(item, Job)
            self._item[k] = item.left(self.clock())
        with pipeline._changed:
            if self._generation[k] != pipeline._generation:
                self._made[k] = self._item[k] = None
                return True
            if not pipeline._queues[k + 1].has_room:
                return False
            pipeline.put(k + 1, self._item[k])  # type: ignore[arg-type]
        self._item[k] = None
        return True

    # ---- what was seen -----------------------------------------------------------------------

    def levels(self, *, after_ms: float = 0, before_ms: float = 1e12) -> list[str]:
        """Of the frames shown between two times."""
        return [s.frame.level for s in self._between(after_ms, before_ms)]

    def gaps_ms(self, *, after_ms: float = 0, before_ms: float = 1e12) -> list[float]:
        """Between frames handed out."""
        times = [s.at_ns for s in self._between(after_ms, before_ms)]
        return [(b - a) / MS for a, b in pairwise(times)]

    def ages_ms(self, *, after_ms: float = 0, before_ms: float = 1e12) -> list[float]:
        """Of the poses that were on screen, when they came there."""
        return [
            (s.at_ns - s.frame.timings.captured_ns) / MS for s in self._between(after_ms, before_ms)
        ]

    def _between(self, after_ms: float, before_ms: float) -> list[Shown]:
        low, high = (self.start_ns + t * MS for t in (after_ms, before_ms))
        return [s for s in self.shown if low <= s.at_ns < high]


def every(ms: float, *, until_ms: float) -> list[float]:
    """Times a fixed distance apart."""
    return list(np.arange(0, until_ms, ms))
