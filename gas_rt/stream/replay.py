"""Replay: the frames of a recording, made again by the same stages on one thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence

from gas_rt.core import Frame
from gas_rt.errors import SessionError
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.decoding import field_picture
from gas_rt.stream.recording import Recording, Shown, digest_of
from gas_rt.stream.stages import Chain, Job, Made, Stage

__all__ = ["Replay"]


class Replay:
    """Iterates the frames of a recording as they were shown, each once and in order. One pass.

    Nothing is decided: which poses are worked on, on which rung, and what is shown of them, is
    the recording's. Closes the stages at its end.

    Attributes
    ----------
    identical, differing : numbers of frames so far whose pixels are, or are not, those recorded.
    """

    def __init__(self, recording: Recording, stages: Sequence[Stage]) -> None:
        self.recording = recording
        self.identical: list[int] = []
        self.differing: list[int] = []
        self._first, self._rest = stages[0], Chain(stages[1:])
        self._due = deque(recording.shown)
        self._fed: dict[int, Job] = {}  # what the first stage made of a pose
        self._made: dict[int, Job] = {}
        self._last: Frame | None = None
        self._started = False

    def __len__(self) -> int:
        return len(self.recording.shown)

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that was handed out while the session was recorded."""
        if self._started:
            raise SessionError("a replay can be iterated once; call model.replay() again")
        self._started = True
        try:
            yield from self._frames()
        finally:
            self._first.close()
            self._rest.close()

    def _frames(self) -> Iterator[Frame]:
        generation = 0
        for row in self.recording.admitted:
            if row.generation != generation:
                generation = row.generation
                self._first.reset()
                self._rest.reset()
            now = time.monotonic_ns()
            job = Job(row.index, row.generation, row.request, now, now, at_ns=now)
            self._keep(self._through(self._first.process(job)))
            yield from self._shown()
        self._keep(self._through(self._first.finish()))
        self._keep(self._rest.finish())
        yield from self._shown()
        if self._due:
            due = self._due[0]
            raise SessionError(
                f"replay: frame {due.index} was shown as {due.level!r} when it was recorded and is "
                "not made now; replay it with the gas-rt and the model that recorded it"
            )

    def _through(self, fed: Made) -> Iterator[Job | None]:
        for job in fed:
            if job is not None:
                self._fed[job.index] = job
                yield from self._rest.process(job)

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
        if due.level == "field" and fed is not None and isinstance(fed.payload, Conditioning):
            return fed.after("field", field_picture(fed), elapsed_ns=0).frame(now)
        job = self._made.get(due.index)
        if job is None or job.payload.level != due.level:
            return None
        return job.frame(now)
