"""What may watch a session: told of every frame's way through the pipeline, deciding nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gas_rt.core import Frame
    from gas_rt.stream.queues import DropReason
    from gas_rt.stream.stages import Job
    from gas_rt.stream.starvation import Source

__all__ = ["Watcher"]


class Watcher:
    """Told what happens, in the order it happens; every method may be left as it is.

    All but `took`, `decided` and `source` are called under the pipeline's lock; none may block or
    call back. Times are those of the session's clock, in ns.
    """

    def pushed(self, job: Job, *, begin_ns: int, end_ns: int) -> None:
        """A request was accepted as `job`."""

    def refused(self, *, now_ns: int) -> None:
        """A request was refused: lossless, and the queue is full."""

    def entered(self, job: Job, stage: int, *, now_ns: int) -> None:
        """Stage number `stage` begins with `job`, which has waited since ``job.at_ns``."""

    def dropped(self, job: Job, reason: DropReason, *, now_ns: int) -> None:
        """`job` will not be delivered; stages may work on it yet, as context of others."""

    def left_out(self, job: Job) -> None:
        """No further stage works on `job`: it was dropped, or its field was shown in its place."""

    def decided(self, index: int, rung: int, *, is_field: bool, now_ns: int) -> None:
        """The denoiser takes frame `index`, by the ladder's `rung`; by the thread that denoises."""

    def paused(self, *, now_ns: int) -> None:
        """Poses stopped: what the window holds is finished, and the next pose begins another."""

    def cut(self, index: int, *, now_ns: int) -> None:
        """Another avatar takes over with frame `index`."""

    def source(self, source: Source, *, now_ns: int) -> None:
        """Where poses come from changed; by the thread that ticks."""

    def flushed(self, reason: DropReason, count: int, *, now_ns: int) -> None:
        """All that was in flight will not be delivered."""

    def queued(self, lengths: Mapping[str, int], *, now_ns: int) -> None:
        """How many jobs wait in each queue."""

    def delivered(self, frame: Frame, *, begin_ns: int, end_ns: int) -> None:
        """`frame` was handed out."""

    def took(self, frame: Frame) -> None:
        """`frame` was handed out; outside of the lock, by the thread that took it."""
