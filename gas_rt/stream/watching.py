"""What may watch a session: told of every frame's way through the pipeline, deciding nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gas_rt.core import Frame
    from gas_rt.stream.queues import DropReason
    from gas_rt.stream.stages import Job

__all__ = ["Watcher"]


class Watcher:
    """Told what happens, in the order it happens; every method may be left as it is.

    All but `took` are called under the pipeline's lock: they must neither block nor call back.
    Times are those of the session's clock, in ns.
    """

    def pushed(self, job: Job, *, begin_ns: int, end_ns: int) -> None:
        """A request was accepted as `job`."""

    def refused(self, *, now_ns: int) -> None:
        """A request was refused: lossless, and the queue is full."""

    def entered(self, job: Job, stage: int, *, now_ns: int) -> None:
        """Stage number `stage` begins with `job`, which has waited since ``job.at_ns``."""

    def dropped(self, job: Job, reason: DropReason, *, now_ns: int) -> None:
        """`job` will not be delivered."""

    def flushed(self, reason: DropReason, count: int, *, now_ns: int) -> None:
        """All that was in flight will not be delivered."""

    def queued(self, lengths: Mapping[str, int], *, now_ns: int) -> None:
        """How many jobs wait in each queue."""

    def delivered(self, frame: Frame, *, begin_ns: int, end_ns: int) -> None:
        """`frame` was handed out."""

    def took(self, frame: Frame) -> None:
        """`frame` was handed out; outside of the lock, by the thread that took it."""
