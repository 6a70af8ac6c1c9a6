"""Playing requests through a session: at a live rate or as fast as it goes, and recording it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from gas_rt.core import Frame, Request
from gas_rt.stream.pacing import period_of
from gas_rt.stream.report import RunRecorder
from gas_rt.stream.session import Session

__all__ = ["play", "recorder_for"]


def recorder_for(session: Session, name: str) -> RunRecorder:
    """A recorder that describes a session."""
    config = session.config
    return RunRecorder(name, config.policy, config.task, config.steps, config.fps, session.backend)


def play(
    session: Session,
    requests: Iterable[Request],
    *,
    recorder: RunRecorder,
    live: bool,
) -> Iterator[Frame]:
    """Push `requests` and yield the frames; `live` pushes at the session's rate, as a source would.

    A pose that a lossless session refuses is offered again when there is room.
    """
    period_ns = period_of(session.config.fps)
    start_ns = time.monotonic_ns()

    def noted(frame: Frame) -> Frame:
        recorder.polled(frame, time.monotonic_ns())
        return frame

    for number, request in enumerate(requests):
        due_ns = start_ns + number * period_ns
        while live and (early_ns := due_ns - time.monotonic_ns()) > 0:
            frame = session.wait(timeout_s=early_ns / 1e9)
            if frame is not None:
                yield noted(frame)
        recorder.pushed(time.monotonic_ns())
        while not session.push_request(request):
            session.wait_to_push()
            frame = session.poll()
            if frame is not None:
                yield noted(frame)
    session.finish()
    for frame in session:
        yield noted(frame)
