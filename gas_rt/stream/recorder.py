"""Records a session's decisions as they are taken."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gas_rt.stream.recording import FRAMES_MAX, Admitted, Recording, SessionMark, Shown, digest_of
from gas_rt.stream.stages import Picture
from gas_rt.stream.watching import Watcher

if TYPE_CHECKING:
    from gas_rt.core import Frame
    from gas_rt.stream.queues import DropReason
    from gas_rt.stream.stages import Job

__all__ = ["Recorder"]

log = logging.getLogger("gas_rt")


class Recorder(Watcher):
    """Keeps what entered the stages and what was shown, up to `frames` poses.

    Then it stops, and what it has can be replayed: no frame follows from a later pose than those
    that had entered when it was shown.
    """

    def __init__(self, session: SessionMark, *, frames: int = FRAMES_MAX) -> None:
        self._session = session
        self._frames_max = frames
        self._lock = threading.Lock()
        self._admitted: list[Admitted] = []
        self._rungs: dict[int, int] = {}
        self._shown: list[Shown] = []
        self._waiting: dict[int, Admitted] = {}  # that have not gone beyond the first stage
        self._digests_due: dict[int, int] = {}  # id of a frame on its way out: its place in shown
        self.full = False

    def recording(self) -> Recording:
        """What was recorded so far."""
        with self._lock:
            admitted = tuple(
                Admitted(a.index, a.generation, self._rungs.get(a.index, 0), a.request)
                for a in self._admitted
            )
            return Recording(self._session, admitted, tuple(self._shown))

    def write(self, path: str | Path) -> None:
        """Write what was recorded so far."""
        self.recording().save(path)

    def decided(self, index: int, rung: int) -> None:
        """The ladder chose the rung that frame `index` is made on; unless told, it is 0."""
        with self._lock:
            if not self.full:
                self._rungs[index] = rung

    # ---- told by the pipeline ----------------------------------------------------------------

    def entered(self, job: Job, stage: int, *, now_ns: int) -> None:
        """The first stage takes a pose."""
        with self._lock:
            if stage:
                self._waiting.pop(job.index, None)
                return
            if len(self._admitted) >= self._frames_max:
                self._stop(f"{self._frames_max} poses are recorded, which is the most")
            if not self.full:
                row = Admitted(job.index, job.generation, 0, job.request)
                self._admitted.append(row)
                self._waiting[job.index] = row

    def dropped(self, job: Job, reason: DropReason, *, now_ns: int) -> None:
        """A frame's end: if no policy has seen it, nothing follows from it."""
        with self._lock:
            row = self._waiting.pop(job.index, None)
            if row is not None and not isinstance(job.payload, Picture):
                self._admitted.remove(row)

    def flushed(self, reason: DropReason, count: int, *, now_ns: int) -> None:
        """The stages begin anew, so that nothing follows from what was in flight."""
        with self._lock:
            self._waiting.clear()

    def stop(self, why: str) -> None:
        """Record no more: what comes cannot be replayed, what came before can."""
        with self._lock:
            self._stop(why)

    def _stop(self, why: str) -> None:
        if not self.full:
            self.full = True
            log.warning("record: stopped: %s", why)

    def delivered(self, frame: Frame, *, begin_ns: int, end_ns: int) -> None:
        """A frame was handed out."""
        with self._lock:
            self._waiting.pop(frame.index, None)
            if not self.full:
                self._digests_due[id(frame)] = len(self._shown)
                self._shown.append(Shown(frame.index, frame.level))

    def took(self, frame: Frame) -> None:
        """Its pixels, outside of the pipeline's lock."""
        with self._lock:
            place = self._digests_due.pop(id(frame), None)
        if place is not None:
            shown = Shown(frame.index, frame.level, digest_of(frame))
            with self._lock:
                self._shown[place] = shown
