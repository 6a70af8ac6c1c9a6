"""What a stage of a session is, and the job it works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from gas_rt.core import U8, Frame, FrameTimings, Level, Request
from gas_rt.errors import InputError
from gas_rt.stream.slots import FramePool, lease_of

if TYPE_CHECKING:
    from gas_rt.stream.tracing import Tracer

__all__ = ["Chain", "Interruptible", "Job", "Made", "Picture", "Stage", "grouped", "interrupt"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture: rgb [H, W, 3] and alpha [H, W], uint8."""

    rgb: U8
    alpha: U8
    level: Level


@dataclass(frozen=True, eq=False)
class Job:
    """One accepted request on its way through the stages.

    `payload` is what the stage before made of it; `generation` counts the session's resets, so
    that work begun before a reset can be told from work after it; `segment` counts its cuts, each
    with stages of its own. `burst` is the frame's place among those that became clean in one call.
    A job that is a `pause` shows nothing: it follows the last pose before one through the stages.
    `at_ns` is up to when its time is accounted for in `stages_ms` and `waits_ms`; `begun_ms` is the
    work behind it when it entered its stage.
    """

    index: int
    generation: int
    request: Request
    captured_ns: int
    pushed_ns: int
    not_before_ns: int = 0
    segment: int = 0
    burst: int | None = None
    pause: bool = False
    payload: Any = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    waits_ms: dict[str, float] = field(default_factory=dict)
    at_ns: int = 0
    begun_ms: float = 0.0
    tracer: Tracer | None = None
    pool: FramePool | None = None

    def after(
        self, stage: str, payload: Any, *, elapsed_ns: int, began_ns: int | None = None
    ) -> Job:
        """The same job after `stage` took `elapsed_ns` to make `payload`.

        With `began_ns`, a trace shows it.
        """
        if self.tracer is not None and began_ns is not None and elapsed_ns:
            self.tracer.span(stage, began_ns, began_ns + elapsed_ns, frames=(self.index,))
        stages_ms = {**self.stages_ms, stage: elapsed_ns / 1e6}
        return replace(self, payload=payload, stages_ms=stages_ms)

    def entered(self, wait: str, now_ns: int) -> Job:
        """The same job as it enters a stage, after a wait."""
        waited = self.waited(wait, (now_ns - self.at_ns) / 1e6, now_ns)
        return replace(waited, begun_ms=self.work_ms)

    def left(self, now_ns: int) -> Job:
        """The same job as it leaves a stage: what was not its own work there was a wait."""
        passed_ms = (now_ns - self.at_ns) / 1e6 - (self.work_ms - self.begun_ms)
        return self.waited("window", passed_ms, now_ns)

    def waited(self, wait: str, elapsed_ms: float, now_ns: int) -> Job:
        """The same job, accounted for up to now."""
        # A clock that was set back, or one that toys have to themselves, must not make it negative.
        waits_ms = {**self.waits_ms, wait: self.waits_ms.get(wait, 0.0) + max(0.0, elapsed_ms)}
        return replace(self, waits_ms=waits_ms, at_ns=now_ns)

    def pixels(self) -> tuple[U8, U8]:
        """rgb [H, W, 3] and alpha [H, W] to write the frame into, at its request's size."""
        return self._pixels(self.request.camera.width, self.request.camera.height)

    def copied(self, *, level: Level) -> Job:
        """The same job with its finished picture in memory of its own, of the session's too."""
        picture = self.payload
        assert isinstance(picture, Picture)
        rgb, alpha = self._pixels(picture.alpha.shape[1], picture.alpha.shape[0])
        np.copyto(rgb, picture.rgb)
        np.copyto(alpha, picture.alpha)
        return replace(self, payload=Picture(rgb, alpha, level))

    def _pixels(self, width: int, height: int) -> tuple[U8, U8]:
        if self.pool is not None:
            return self.pool.pixels(width, height)
        return np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)

    @property
    def work_ms(self) -> float:
        """The frame's share of all work so far."""
        return sum(self.stages_ms.values())

    def due(self, not_before_ns: int) -> Job:
        """The same job, whose frame is not to be shown before `not_before_ns`."""
        return replace(self, not_before_ns=not_before_ns)

    def in_burst(self, place: int) -> Job:
        """The same job, the `place`-th of those that were made at once."""
        return replace(self, burst=place)

    def frame(self, ready_ns: int) -> Frame:
        """The frame of a job whose payload is a finished picture."""
        picture = self.payload
        assert isinstance(picture, Picture), "the last stage must make a Picture"
        rgb, alpha = picture.rgb.view(), picture.alpha.view()
        rgb.flags.writeable = alpha.flags.writeable = False
        timings = FrameTimings(
            self.captured_ns, self.pushed_ns, ready_ns, self.stages_ms, self.waits_ms
        )
        lease = lease_of(picture.rgb)
        return Frame(rgb, alpha, self.index, self.request, timings, picture.level, lease)


# What a stage makes of a job. None is a checkpoint: nothing is ready, and whoever iterates may
# give the rest up, because the session was closed or reset meanwhile.
Made = Iterable[Job | None]


class Stage(Protocol):
    """One step of a session, run on one thread at a time.

    `process` may make fewer jobs than it was given, and later ones for them: a window policy
    holds frames back until they are clean. It may be lazy.
    """

    name: str

    def process(self, job: Job) -> Made:
        """The jobs that are ready for the next stage now that `job` has arrived."""
        ...

    def finish(self) -> Made:
        """The jobs that were held back: no more will come."""
        ...

    def reset(self) -> None:
        """Forget jobs that were held back."""
        ...

    def close(self) -> None:
        """Free what the stage owns."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """A stage whose work may wait for somebody else's, whom the end of its session can't hurry."""

    def interrupt(self) -> None:
        """From any thread: end such a wait, now and from now on. What waited makes no job."""
        ...


def interrupt(stages: Iterable[Stage]) -> None:
    """Interrupt the stages that can be."""
    for stage in stages:
        if isinstance(stage, Interruptible):
            stage.interrupt()


class Chain:
    """Several stages run one after the other on one thread."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.name = "+".join(stage.name for stage in stages)
        self._stages = tuple(stages)

    def process(self, job: Job) -> Made:
        """Run `job` through every stage."""
        return self._from(0, [job])

    def finish(self) -> Made:
        """Finish every stage in turn, running what it held back through those behind it."""
        for k, stage in enumerate(self._stages, start=1):
            yield from self._from(k, stage.finish())

    def _from(self, k: int, made: Made) -> Iterator[Job | None]:
        for job in made:
            if job is None or k == len(self._stages):
                yield job
            else:
                yield from self._from(k + 1, self._stages[k].process(job))

    def reset(self) -> None:
        """Reset every stage."""
        for stage in self._stages:
            stage.reset()

    def interrupt(self) -> None:
        """Interrupt every stage."""
        interrupt(self._stages)

    def close(self) -> None:
        """Close every stage."""
        with ExitStack() as closing:  # one that fails to keeps no other open
            for stage in reversed(self._stages):
                closing.callback(stage.close)


def grouped(stages: Sequence[Stage], split: str | None) -> list[Stage]:
    """The stages as they share threads: ``a+b|c`` runs a and b on one, c on another.

    None leaves each on a thread of its own; ``all`` puts all of them on one.
    """
    if split is None:
        return list(stages)
    if split == "all":
        return [Chain(stages)]
    names = [stage.name for stage in stages]
    groups = [group.split("+") for group in split.split("|")]
    if [name for group in groups for name in group] != names:
        raise InputError(
            f"split: expected {' '.join(names)!r} in this order, joined by '+' (one thread) or "
            f"'|' (another thread), or 'all', got {split!r}"
        )
    rest = iter(stages)
    joined = [[next(rest) for _ in group] for group in groups]
    return [Chain(group) if len(group) > 1 else group[0] for group in joined]
