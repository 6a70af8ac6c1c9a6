"""The stages of a pipeline's workers, each of which goes from one avatar's to the next at a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gas_rt.stream.stages import Job, Stage, interrupt

__all__ = ["Lanes"]


class Lanes:
    """Per worker: the stage it runs, and how far it followed cuts and resets.

    `failed` is told of a stage that did not close.
    """

    def __init__(
        self, stages: Sequence[Stage], *, failed: Callable[[str, BaseException], None]
    ) -> None:
        # By worker, then by segment. What is done with is let go of, and its avatar with it.
        self._stages: list[dict[int, Stage]] = [{0: stage} for stage in stages]
        self._newest = 0
        self._segment = [0] * len(stages)
        self._seen = [0] * len(stages)  # the generation of each worker's last job
        self._failed = failed

    @property
    def newest(self) -> int:
        """The segment that poses are offered for."""
        return self._newest

    def add(self, stages: Sequence[Stage]) -> None:
        """Stages of the segment after."""
        assert len(stages) == len(self._segment), "another avatar has the same stages"
        for lane, stage in zip(self._stages, stages, strict=True):
            lane[self._newest + 1] = stage
        self._newest += 1

    def segment(self, k: int) -> int:
        """The one that worker `k` is at."""
        return self._segment[k]

    def stage(self, k: int) -> Stage:
        """What worker `k` runs."""
        return self._stages[k][self._segment[k]]

    def made(self, k: int, job: Job) -> Iterator[Job | None]:
        """What stage `k` makes of `job`; after a cut the stage before it first ends."""
        if job.segment != self._segment[k]:
            if job.generation == self._seen[k]:
                yield from self.stage(k).finish()
            passed = range(self._segment[k], job.segment)  # several if no pose came between cuts
            self._segment[k], self._seen[k] = job.segment, job.generation
            for segment in passed:
                self._close(self._stages[k].pop(segment))
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

    def interrupt(self) -> None:
        """Let no stage wait for another session any more; from any thread."""
        for lane in self._stages:
            interrupt(list(lane.values()))  # workers take theirs out as they close

    def close(self, k: int) -> None:
        """Close what worker `k` runs, and would have run after a cut."""
        while self._stages[k]:
            self._close(self._stages[k].pop(min(self._stages[k])))

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
