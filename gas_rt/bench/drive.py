"""Driving a session while measuring it: open loop at a given rate, or as fast as it goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gas_rt.core import Frame, Request
from gas_rt.stream.session import SessionStats

__all__ = ["Clocks", "Driven", "Recording", "Sample", "drive_live", "drive_saturated"]


class Driven(Protocol):
    """What of a session a driver uses."""

    def push_request(self, request: Request) -> bool:
        """See `gas_rt.Session.push_request`."""
        ...

    def poll(self) -> Frame | None:
        """See `gas_rt.Session.poll`."""
        ...

    def wait(self, *, timeout_s: float | None = None) -> Frame | None:
        """See `gas_rt.Session.wait`."""
        ...

    def wait_to_push(self) -> None:
        """See `gas_rt.Session.wait_to_push`."""
        ...

    def stats(self) -> SessionStats:
        """See `gas_rt.Session.stats`."""
        ...


@dataclass(frozen=True)
class Clocks:
    """Where the time comes from: monotonic, the processor time of this whole process, a pause."""

    now_ns: Callable[[], int] = time.monotonic_ns
    cpu_ns: Callable[[], int] = time.process_time_ns
    sleep_s: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Sample:
    """One frame as it was handed out.

    `index` is its pose's in the stream, which a ``held`` frame shares with one before. `cpu_ns` is
    the process's processor time then. `age_ms` ends when the frame was handed out, which for a
    paced session is later than when it was made.
    """

    index: int
    captured_ns: int
    polled_ns: int
    cpu_ns: int
    level: str
    stages_ms: dict[str, float]

    @property
    def age_ms(self) -> float:
        """From the pose's arrival to here."""
        return (self.polled_ns - self.captured_ns) / 1e6


@dataclass
class Recording:
    """What one drive of a session gave.

    Attributes
    ----------
    first_push_ns, first_poll_ns : of the whole drive, warm-up included.
    samples : the frames after the warm-up.
    warm_up : frames that were handed out before.
    push_late_ms : of a live drive, by how much the driver itself was late with each push.
    accepted, refused : pushes of the whole drive, as counted here by what they returned.
    dropped, in_flight : poses, as the session counts them at its end.
    """

    first_push_ns: int | None = None
    first_poll_ns: int | None = None
    samples: list[Sample] = field(default_factory=list)
    warm_up: int = 0
    push_late_ms: list[float] = field(default_factory=list)
    accepted: int = 0
    refused: int = 0
    dropped: int = 0
    dropped_by_reason: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0

    @property
    def first_frame_ms(self) -> float | None:
        """First push to first poll."""
        if self.first_push_ns is None or self.first_poll_ns is None:
            return None
        return (self.first_poll_ns - self.first_push_ns) / 1e6

    @property
    def span_ns(self) -> int:
        """From the first sample to the last."""
        return self.samples[-1].polled_ns - self.samples[0].polled_ns if self.samples else 0

    @property
    def fps(self) -> float | None:
        """Frames per second over the samples."""
        return (len(self.samples) - 1) / (self.span_ns / 1e9) if self.span_ns else None

    @property
    def core_s_per_frame(self) -> float | None:
        """Processor seconds of this process per frame; ours, the backend's and the driver's."""
        if len(self.samples) < 2:
            return None
        used_ns = self.samples[-1].cpu_ns - self.samples[0].cpu_ns
        return used_ns / 1e9 / (len(self.samples) - 1)

    @property
    def levels(self) -> Counter[str]:
        """Samples by what made them."""
        return Counter(sample.level for sample in self.samples)


class _Taker:
    """Notes frames as they are handed out."""

    def __init__(self, clocks: Clocks, *, warm_up: int) -> None:
        self.clocks = clocks
        self.left = warm_up
        self.taken = Recording()

    def push(self, session: Driven, request: Request) -> None:
        if self.taken.first_push_ns is None:
            self.taken.first_push_ns = self.clocks.now_ns()
        if session.push_request(request):
            self.taken.accepted += 1
        else:
            self.taken.refused += 1

    def take(self, frame: Frame) -> None:
        now_ns = self.clocks.now_ns()
        if self.taken.first_poll_ns is None:
            self.taken.first_poll_ns = now_ns
        if self.left:
            self.left -= 1
            self.taken.warm_up += 1
            return
        timings = frame.timings
        self.taken.samples.append(
            Sample(
                index=frame.index,
                captured_ns=timings.captured_ns,
                polled_ns=now_ns,
                cpu_ns=self.clocks.cpu_ns(),
                level=frame.level,
                stages_ms=timings.stages_ms,
            )
        )

    def done(self, session: Driven) -> Recording:
        stats = session.stats()
        self.taken.dropped, self.taken.in_flight = stats.dropped, stats.in_flight
        self.taken.dropped_by_reason = dict(stats.dropped_by_reason)
        return self.taken


def drive_live(
    session: Driven,
    requests: Iterator[Request],
    arrivals_ns: Sequence[int],
    *,
    warm_up: int,
    clocks: Clocks,
    polls: Callable[[int], bool] = lambda elapsed_ns: True,
) -> Recording:
    """Push at `arrivals_ns` after now, whatever the session does, and take frames as they come.

    A pose counts as captured when it was to arrive, so that a driver that the system holds up does
    not hide it. The drive ends with the last arrival: what is still in flight is not taken, since
    without poses behind it, it would come out faster than in a stream.

    Parameters
    ----------
    warm_up : frames that are taken and not measured.
    polls : of the ns since the start; where it is False, no frame is taken: a consumer that stops.
    """
    taker = _Taker(clocks, warm_up=warm_up)
    start_ns = clocks.now_ns()
    for offset_ns in arrivals_ns:
        due_ns = start_ns + int(offset_ns)
        while (early_ns := due_ns - clocks.now_ns()) > 0:
            if not polls(clocks.now_ns() - start_ns):
                clocks.sleep_s(early_ns / 1e9)
            elif (frame := session.wait(timeout_s=early_ns / 1e9)) is not None:
                taker.take(frame)
        taker.taken.push_late_ms.append((clocks.now_ns() - due_ns) / 1e6)
        taker.push(session, replace(next(requests), captured_ns=due_ns))
        while polls(clocks.now_ns() - start_ns) and (frame := session.poll()) is not None:
            taker.take(frame)
    return taker.done(session)


def drive_saturated(
    session: Driven,
    requests: Iterator[Request],
    *,
    warm_up: int,
    measured_ns: int,
    clocks: Clocks,
    frames_min: int = 2,
) -> Recording:
    """Keep a lossless session's pose queue full for `measured_ns` after the warm-up.

    At least `frames_min` frames are measured, so that a slow machine gives a rate too.
    """
    taker = _Taker(clocks, warm_up=warm_up)
    samples = taker.taken.samples
    while taker.taken.span_ns < measured_ns or len(samples) < frames_min:
        session.wait_to_push()
        if (frame := session.poll()) is not None:
            taker.take(frame)
        else:
            taker.push(session, next(requests))
    return taker.done(session)
