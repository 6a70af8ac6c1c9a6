"""The stages of a pipeline's workers, each of which goes from one avatar's to the next at a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gas_rt.stream.stages import Job, Stage

__all__ = ["Lanes"]


class Lanes:
    """Per worker: the stage it runs, and how far it followed cuts and resets.

    `failed` is told of a stage that did not close.
    """

    def __init__(
        self, stages: Sequence[Stage], *, failed: Callable[[str, BaseException], None]
    ) -> None:
        self._lanes: list[list[Stage]] = [list(stages)]  # by segment
        self._segment = [0] * len(stages)
        self._seen = [0] * len(stages)  # the generation of each worker's last job
        self._failed = failed

    @property
    def newest(self) -> int:
        """The segment that poses are offered for."""
        return len(self._lanes) - 1

    def add(self, stages: Sequence[Stage]) -> None:
        """Stages of the segment after."""
        assert len(stages) == len(self._segment), "another avatar has the same stages"
        self._lanes.append(list(stages))

    def segment(self, k: int) -> int:
        """The one that worker `k` is at."""
        return self._segment[k]

    def stage(self, k: int) -> Stage:
        """What worker `k` runs."""
        return self._lanes[self._segment[k]][k]

    def made(self, k: int, job: Job) -> Iterator[Job | None]:
        """What stage `k` makes of `job`; after a cut the stage before it first ends."""
        if job.segment != self._segment[k]:
            before = self.stage(k)
            if job.generation == self._seen[k]:
                yield from before.finish()
            self._close(before)
            for passed in self._lanes[self._segment[k] + 1 : job.segment]:
                self._close(passed[k])  # no pose came between two cuts
            self._segment[k], self._seen[k] = job.segment, job.generation
        stage = self._current(k, job.generation)
        if not job.pause:
            yield from stage.process(job)
            return
        yield from stage.finish()
        stage.reset()
        yield job

    def finish(self, k: int, generation: int) -> Iterator[Job | None]:
        """What stage `k` holds back at the end of the stream."""
        yield from self._current(k, generation).finish()

    def close(self, k: int) -> None:
        """Close what worker `k` runs, and would have run after a cut."""
        rest = [lane[k] for lane in self._lanes[self._segment[k] :]]
        self._segment[k] = len(self._lanes)
        for stage in rest:
            self._close(stage)

    def _current(self, k: int, generation: int) -> Stage:
        """The stage of worker `k`, which has forgotten what a reset dropped."""
        stage = self.stage(k)
        if generation != self._seen[k]:
            self._seen[k] = generation
            stage.reset()
        return stage

    def _close(self, stage: Stage) -> None:
        try:
            stage.close()
        except BaseException as error:  # whatever it is, the session must end, not hang
            self._failed(f"stage {stage.name!r} failed to close", error)
