"""The window policy at work: frames wait in it until the denoiser has made them clean."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from gas_rt.core import F32, Level, Request, Task
from gas_rt.diffusion import Call, FrameSpec, Schedule, WindowPolicy
from gas_rt.engine import Graph
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.ladder import RungSource
from gas_rt.stream.stages import Job
from gas_rt.stream.turns import Turns

__all__ = ["DenoiseStage", "Denoised", "Steps", "WindowDenoiser"]

log = logging.getLogger("gas_rt")


@dataclass(frozen=True, eq=False)
class Denoised:
    """A frame that left the policy.

    Attributes
    ----------
    latent : [C, h, w] as generated; None if the denoiser failed on it, or was left out.
    conditioning : its own.
    level : whether it had the steps that were asked for.
    """

    latent: F32 | None
    conditioning: Conditioning
    level: Level = "full"


@dataclass(frozen=True)
class Steps:
    """How frames are denoised: by the steps they ask for, and by those of the ladder's rungs.

    Attributes
    ----------
    usual : steps of requests that don't say theirs.
    schedules : by number of steps.
    rungs : numbers of steps, the usual ones first.
    """

    usual: int
    schedules: Mapping[int, Schedule]
    rungs: tuple[int, ...]

    def of(self, request: Request, rung: int) -> tuple[Schedule, Level]:
        """The schedule of a request on a rung above the field, and what its frame is called."""
        asked = self.usual if request.steps is None else request.steps
        steps = asked if rung == 0 else min(asked, self.rungs[rung])
        return self.schedules[steps], "full" if steps == asked else "fewer_steps"


@dataclass(frozen=True, eq=False)
class WindowDenoiser:
    """The denoiser of one avatar: runs a policy's call on the graph that it needs.

    Attributes
    ----------
    unguided, guided : the graph without and with the second branch; `guided` is None where no
        frame is ever guided. One graph is both where guidance is distilled: it takes guidance
        always.
    reference, embedding : [1, C, h, w] unscaled and [1, D], the photo's.
    """

    unguided: Graph
    guided: Graph | None
    reference: F32
    embedding: F32

    def __call__(self, call: Call, condition: F32) -> tuple[F32, F32]:
        """x_next and x0 [F, C, h, w] of a call whose frames have `condition` [F, C0, h, w]."""
        inputs = {
            "x": call.x,
            "sigma": call.sigma,
            "sigma_next": call.sigma_next,
            "reference": self.reference,
            "embedding": self.embedding,
            "condition": condition,
            "switcher": call.switcher,
        }
        guidance = call.guidance
        if (guidance == 1).all() and self.guided is not self.unguided:
            out = self.unguided.run(inputs)
        else:
            assert self.guided is not None, "a frame is guided, but guidance is 1 in the bundle"
            out = self.guided.run({**inputs, "guidance": guidance})
        return out["x_next"], out["x0"]


@dataclass
class StepTimes:
    """How long a frame's steps took, told apart by their noise levels."""

    steps_ns: list[float] = field(default_factory=list)
    sigma: float | None = None

    def add(self, sigma: float, elapsed_ns: float) -> None:
        """A call in which the frame was at `sigma`; `parity` has several at one level."""
        if sigma != self.sigma:
            self.sigma = sigma
            self.steps_ns.append(0.0)
        self.steps_ns[-1] += elapsed_ns


class DenoiseStage:
    """Admits conditioned jobs to a policy, runs the calls it asks for, hands on what is clean.

    A frame's conditioning is kept while a window can still read it. An answer that is not finite
    costs the frames the policy holds: they go on as the field's picture, and it starts anew.

    `pinned` holds the conditions [C0, h, w] of frames that are no request's, by handle: the
    anchor's. `guidance_of` says how strongly a request of a task is guided; `task` is that of
    requests that don't say theirs. `steps` None keeps the policy's schedule; `ladder` says by
    which of its rungs each job is made. On the lowest the policy is left alone and jobs go on as
    the field's pictures, after all that it held. `turns` says when the denoiser is free for it.
    """

    name = "denoise"

    def __init__(
        self,
        policy: WindowPolicy,
        denoiser: WindowDenoiser,
        *,
        pinned: Mapping[Hashable, F32],
        guidance_of: Callable[[Task, Request], float],
        task: Task,
        seed: int,
        steps: Steps | None = None,
        ladder: RungSource | None = None,
        turns: Turns | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.restarts = 0
        self._steps = steps
        self._ladder = ladder
        self._turns = turns
        self._interrupted = False
        self._clock = time.monotonic_ns if clock is None else clock
        self._levels: dict[int, Level] = {}
        self._policy = policy
        self._denoiser = denoiser
        self._guidance_of = guidance_of
        self._task = task
        self._seed = seed
        self._pinned = dict(pinned)
        self._conditions = dict(self._pinned)
        self._jobs: dict[int, Job] = {}  # by frame index: admitted and not final
        self._spent: dict[int, StepTimes] = {}

    def process(self, job: Job) -> Iterator[Job | None]:
        """The jobs that are clean now, with a `Denoised`."""
        conditioning = job.payload
        assert isinstance(conditioning, Conditioning)
        rung = self._rung(job)
        if self._ladder is not None and rung == self._ladder.field:
            yield from self._let_go()
            yield replace(job, payload=Denoised(None, conditioning)).in_burst(0)
            return
        level: Level = "full"
        if self._steps is not None:
            schedule, level = self._steps.of(job.request, rung)
            self._policy.change_schedule(schedule)
        task = job.request.task or self._task
        frame = FrameSpec(
            index=job.index,
            handle=job.index,
            task=task,
            seed=self._seed,
            guidance=self._guidance_of(task, job.request),
        )
        self._policy.admit(frame)
        self._conditions[job.index] = conditioning.condition
        self._jobs[job.index], self._spent[job.index] = job, StepTimes()
        self._levels[job.index] = level
        yield from self._run()

    def _rung(self, job: Job) -> int:
        if self._ladder is None:
            return 0
        return self._ladder.next_rung(
            index=job.index, pushed_ns=job.pushed_ns, now_ns=self._clock()
        )

    def _let_go(self) -> Iterator[Job]:
        """Give back all that the policy holds, undenoised, and begin a new window."""
        lost = self._policy.reset()
        self._conditions = dict(self._pinned)
        for place, frame in enumerate(lost):
            yield self._left(frame.index, None).in_burst(place)

    def finish(self) -> Iterator[Job | None]:
        """What the policy still holds."""
        if self._jobs:
            self._policy.end()
            yield from self._run()

    def reset(self) -> None:
        """Drop every frame; the next one begins a new stream."""
        self._policy.reset()
        self._conditions = dict(self._pinned)
        self._jobs.clear()
        self._spent.clear()
        self._levels.clear()

    def interrupt(self) -> None:
        """Wait for no turn any more: a call that has none is not made."""
        self._interrupted = True
        if self._turns is not None:
            self._turns.leave(self)

    def close(self) -> None:
        """Let go of the frames and of the turns."""
        self.reset()
        if self._turns is not None:
            self._turns.leave(self)

    def _run(self) -> Iterator[Job | None]:
        while (call := self._policy.next_call()) is not None:
            asked_ns = self._clock()
            yield None
            condition = np.stack([self._conditions[handle] for handle in call.handles])
            with self._turn() as has_turn:
                if not has_turn:
                    return  # what the policy holds is dropped with the session
                start = self._clock()
                x_next, x0 = self._denoiser(call, condition)
                self._share(call, start, self._clock())
            if self._ladder is not None:
                self._ladder.call(max(0, self._clock() - asked_ns))
            if not (np.isfinite(x_next).all() and np.isfinite(x0).all()):
                yield from self._fall_back(call)
                return
            for place, final in enumerate(self._policy.complete(call, x_next, x0)):
                yield self._left(final.frame.index, final.latent).in_burst(place)
            readable = {frame.handle for frame in self._policy.readable} | self._pinned.keys()
            self._conditions = {h: c for h, c in self._conditions.items() if h in readable}

    def _turn(self) -> AbstractContextManager[bool]:
        if self._turns is None:
            return nullcontext(True)
        return self._turns.turn(self, given_up=lambda: self._interrupted)

    def _share(self, call: Call, begin_ns: int, end_ns: int) -> None:
        """Charge a call to the frames in it that it brings forward, each the same."""
        levels = zip(call.frames, call.roles, call.sigma.tolist(), strict=True)
        moved = {
            frame.index: sigma
            for frame, role, sigma in levels
            if role in ("flight", "anchor") and frame.index in self._jobs
        }
        for index, sigma in moved.items():
            self._spent[index].add(sigma, (end_ns - begin_ns) / len(moved))
        tracer = next((job.tracer for job in self._jobs.values()), None)
        if tracer is not None:
            tracer.span(
                self.name, begin_ns, end_ns, frames=list(moved), call=call.number, slots=call.length
            )

    def _left(self, index: int, latent: F32 | None) -> Job:
        job, spent = self._jobs.pop(index), self._spent.pop(index)
        done = Denoised(latent, job.payload, self._levels.pop(index))
        for step, elapsed_ns in enumerate(spent.steps_ns, start=1):
            job = job.after(f"{self.name} {step}", done, elapsed_ns=round(elapsed_ns))
        return replace(job, payload=done)

    def _fall_back(self, call: Call) -> Iterator[Job]:
        self.restarts += 1
        if self.restarts == 1:
            log.warning(
                "denoise: call %d made NaN or infinity; its frames show the field and the policy "
                "starts anew (said once; run with precision 'fp32' if it goes on)",
                call.number,
            )
        yield from self._let_go()
