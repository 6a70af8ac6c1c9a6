"""Records a session's decisions as they are taken."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gas_rt.stream.denoising import Denoised
from gas_rt.stream.recording import (
    DENOISED,
    FIELD_ONLY,
    FRAMES_MAX,
    Admitted,
    Recording,
    SessionMark,
    Shown,
    digest_of,
)
from gas_rt.stream.stages import Picture
from gas_rt.stream.watching import Watcher

if TYPE_CHECKING:
    from gas_rt.core import Frame
    from gas_rt.stream.stages import Job

__all__ = ["Recorder"]

log = logging.getLogger("gas_rt")


class Recorder(Watcher):
    """Keeps what entered the stages and what was shown, up to `frames` poses and frames.

    Then it stops, and what it has can be replayed: no frame follows from a later pose than those
    that had entered when it was shown. A cut ends it too, but for what is shown yet of the poses
    before.
    """

    def __init__(self, session: SessionMark, *, frames: int = FRAMES_MAX) -> None:
        self._session = session
        self._frames_max = frames
        self._lock = threading.Lock()
        self._admitted: dict[int, Admitted] = {}  # by index, in the order of poses
        self._paused = False  # since the denoiser took a pose
        self._cut: int | None = None  # the first frame of another avatar
        self._shown: list[Shown] = []
        self._digests_due: dict[int, int] = {}  # id of a frame on its way out: its place in shown
        self.full = False

    def recording(self) -> Recording:
        """What was recorded so far."""
        with self._lock:
            return Recording(self._session, tuple(self._admitted.values()), tuple(self._shown))

    def write(self, path: str | Path) -> None:
        """Write what was recorded so far."""
        self.recording().save(path)

    # ---- told by the pipeline and the ladder -------------------------------------------------

    def entered(self, job: Job, stage: int, *, now_ns: int) -> None:
        """The first stage takes a pose."""
        with self._lock:
            if stage or (self._cut is not None and job.index >= self._cut):
                return
            if len(self._admitted) >= self._frames_max:
                self._stop(f"{self._frames_max} poses are recorded, which is the most")
            if not self.full:
                self._admitted[job.index] = Admitted(job.index, job.generation, 0, job.request)

    def decided(self, index: int, rung: int, *, is_field: bool, now_ns: int) -> None:
        """The ladder chose the rung that frame `index` is made on; unless told, it is 0."""
        with self._lock:
            row = self._admitted.get(index)
            if row is not None and not self.full:
                self._admitted[index] = replace(row, rung=rung, fresh=self._paused)
                self._paused = False

    def paused(self, *, now_ns: int) -> None:
        """The window ends in front of the next pose that the denoiser takes."""
        with self._lock:
            self._paused = True

    def left_out(self, job: Job) -> None:
        """How far a pose came. What posed it may remember it, so it stays in the recording."""
        with self._lock:
            row = self._admitted.get(job.index)
            if row is None or self.full or isinstance(job.payload, Picture):
                return
            reached = DENOISED if isinstance(job.payload, Denoised) else FIELD_ONLY
            self._admitted[job.index] = replace(row, reached=reached)

    def cut(self, index: int, *, now_ns: int) -> None:
        """Frames of another avatar are not recorded."""
        with self._lock:
            if self._cut is None:
                self._cut = index
                log.warning(
                    "record: another avatar takes over with frame %d; the recording ends before it",
                    index,
                )

    def _stop(self, why: str) -> None:
        if not self.full:
            self.full = True
            log.warning("record: stopped: %s", why)

    def delivered(self, frame: Frame, *, begin_ns: int, end_ns: int) -> None:
        """A frame was handed out."""
        with self._lock:
            if frame.index not in self._admitted:
                return
            # Held frames are shown without a pose of their own, so these may be the more.
            if len(self._shown) >= self._frames_max:
                self._stop(f"{self._frames_max} shown frames are recorded, which is the most")
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
