"""Replay: the frames of a recording, made again by the same stages on one thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gas_rt.core import Frame
from gas_rt.errors import SessionError
from gas_rt.stream.closing import Closing
from gas_rt.stream.decoding import field_picture
from gas_rt.stream.denoising import DenoiseStage
from gas_rt.stream.recording import DECODED, DENOISED, Admitted, Recording, Shown, digest_of
from gas_rt.stream.stages import Chain, Job, Made, Stage

__all__ = ["Replay"]


class Replay(Closing):
    """Iterates the frames of a recording as they were shown, each once and in order. One pass.

    Nothing is decided: which poses are worked on, how far and on which rung, and what is shown of
    them, is the recording's. Closes the stages at its end; who may leave off before closes it, or
    uses ``with``.

    Attributes
    ----------
    identical, differing : numbers of frames so far whose pixels are, or are not, those recorded.
    """

    def __init__(self, recording: Recording, stages: Sequence[Stage]) -> None:
        self.recording = recording
        self.identical: list[int] = []
        self.differing: list[int] = []
        gates = [k for k, stage in enumerate(stages) if isinstance(stage, DenoiseStage)]
        gate = gates[0] if gates else len(stages)
        self._stages = Chain(stages)
        self._feed, self._gate, self._end = (
            Chain(part) for part in (stages[:gate], stages[gate : gate + 1], stages[gate + 1 :])
        )
        self._rows = {row.index: row for row in recording.admitted}
        self._due = deque(recording.shown)
        self._fed: dict[int, Job] = {}  # what feeds the denoiser made of a pose
        self._made: dict[int, Job] = {}
        self._last: Frame | None = None
        self._started = self._closed = False

    def __len__(self) -> int:
        return len(self.recording.shown)

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that was handed out while the session was recorded, or until `close`."""
        if self._started:
            raise SessionError("a replay can be iterated once; call model.replay() again")
        if self._closed:
            raise SessionError("the replay is closed; call model.replay() again")
        self._started = True
        with self:
            for frame in self._frames():
                yield frame
                if self._closed:
                    return

    def close(self) -> None:
        """Free the stages; iteration, on the same thread, stops. May be repeated."""
        if not self._closed:
            self._closed = True
            self._stages.close()

    def _frames(self) -> Iterator[Frame]:
        generation = 0
        for row in self.recording.admitted:
            if row.fresh:
                self._keep(self._finished())
                self._gate.reset()
                self._end.reset()
            if row.generation != generation:
                generation = row.generation
                self._stages.reset()
            now = time.monotonic_ns()
            job = Job(row.index, row.generation, row.request, now, now, at_ns=now)
            self._keep(self._made_of(job, row))
            yield from self._shown()
        self._keep(self._finished())
        yield from self._shown()
        if self._due:
            due = self._due[0]
            raise SessionError(
                f"replay: frame {due.index} was shown as {due.level!r} when it was recorded and is "
                "not made now; replay it with the gas-rt and the model that recorded it"
            )

    def _made_of(self, job: Job, row: Admitted) -> Iterator[Job | None]:
        for fed in self._feed.process(job):
            if fed is not None:
                self._fed[fed.index] = fed
                if row.reached >= DENOISED:
                    yield from self._decoded(self._gate.process(fed))

    def _finished(self) -> Iterator[Job | None]:
        """What the window and the decoder hold back, as the end of a stream."""
        yield from self._decoded(self._gate.finish())
        yield from self._end.finish()

    def _decoded(self, clean: Made) -> Iterator[Job | None]:
        for job in clean:
            if job is not None and self._rows[job.index].reached >= DECODED:
                yield from self._end.process(job)

    def _keep(self, made: Made) -> None:
        for job in made:
            if job is not None:
                self._made[job.index] = job

    def _shown(self) -> Iterator[Frame]:
        """The frames that were shown next, as far as they exist by now."""
        while self._due:
            due = self._due[0]
            frame = self._frame(due)
            if frame is None:
                break
            self._due.popleft()
            if due.digest:
                same = digest_of(frame) == due.digest
                (self.identical if same else self.differing).append(due.index)
            self._last = frame
            yield frame
        oldest = self._due[0].index if self._due else None
        for kept in (self._fed, self._made):
            for index in [i for i in kept if oldest is None or i < oldest]:
                del kept[index]

    def _frame(self, due: Shown) -> Frame | None:
        """What was shown, by its level; None if it has not been made yet."""
        now = time.monotonic_ns()
        if due.level == "held":
            shown = self._last
            if shown is None:
                return None
            return Frame(shown.rgb, shown.alpha, due.index, shown.request, shown.timings, "held")
        fed = self._fed.get(due.index)
        field = field_picture(fed) if due.level == "field" and fed is not None else None
        if fed is not None and field is not None:
            return replace(fed, payload=field).frame(now)
        job = self._made.get(due.index)
        if job is None or job.payload.level != due.level:
            return None
        return job.frame(now)
