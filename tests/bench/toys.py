"""A session on a clock that only it moves: one server that takes a fixed time per frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gas_rt.bench.drive import Clocks
from gas_rt.core import Camera, Frame, FrameTimings, Pose, Request
from gas_rt.stream.session import SessionStats

MS = 1_000_000
START_NS = 5_000_000_000


def request() -> Request:
    k = np.array([[100, 0, 32], [0, 100, 32], [0, 0, 1]], np.float32)
    eye = np.eye(3, dtype=np.float32)
    camera = Camera(k, eye, np.array([0, 0, 3], np.float32), 64, 48)
    return Request(Pose(np.zeros((24, 3), np.float32)), camera)


class VirtualTime:
    """Monotonic time and processor time; work costs both, waiting only the first."""

    def __init__(self) -> None:
        self.now = START_NS
        self.cpu = 0

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: self.cpu, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


class QueueingSession:
    """Serves poses one after the other, `service_ms` each; `slots` may wait, none in lossless.

    `freshest` keeps the newest pose only, as a full queue gives up its oldest.
    """

    def __init__(
        self,
        time: VirtualTime,
        *,
        service_ms: float,
        slots: int = 1,
        drop_oldest: bool = True,
        stages_ms: Mapping[str, float] | None = None,
        level: str = "full",
    ) -> None:
        self.time = time
        self.service_ns = round(service_ms * MS)
        self.slots = slots
        self.drop_oldest = drop_oldest
        self.stages_ms = dict(stages_ms or {"work": service_ms})
        self.level = level
        self.waiting: deque[tuple[int, Request, int]] = deque()
        self.busy: tuple[int, Request, int] | None = None
        self.done_ns = 0
        self.ready: deque[Frame] = deque()
        self.accepted = self.refused = self.dropped = self.delivered = 0
        self.pushed_at: list[int] = []
        self.closed = False

    def push_request(self, given: Request) -> bool:
        self._advance()
        if len(self.waiting) >= self.slots:
            if not self.drop_oldest:
                self.refused += 1
                return False
            self.waiting.popleft()
            self.dropped += 1
        self.waiting.append((self.accepted, given, self.time.now))
        self.accepted += 1
        self.pushed_at.append(self.time.now)
        self._advance()
        return True

    def poll(self) -> Frame | None:
        self._advance()
        if not self.ready:
            return None
        self.delivered += 1
        return self.ready.popleft()

    def wait(self, *, timeout_s: float | None = None) -> Frame | None:
        assert timeout_s is not None
        end = self.time.now + round(timeout_s * 1e9)
        self._advance()
        if not self.ready:
            soon = self.busy is not None and self.done_ns <= end
            self.time.now = self.done_ns if soon else end
        return self.poll()

    def wait_to_push(self) -> None:
        self._advance()
        if len(self.waiting) >= self.slots and not self.ready:
            self.time.now = max(self.time.now, self.done_ns)
            self._advance()

    def finish(self) -> None:
        """Nothing more will come."""

    def __iter__(self) -> Iterator[Frame]:
        while self.busy is not None or self.waiting or self.ready:
            if not self.ready:
                self.time.now = max(self.time.now, self.done_ns)
            if (frame := self.poll()) is not None:
                yield frame

    def stats(self) -> SessionStats:
        in_flight = self.accepted - self.delivered - self.dropped
        reasons = {"stale_pose": self.dropped} if self.dropped else {}
        return SessionStats(
            self.accepted,
            self.refused,
            self.delivered,
            self.dropped,
            reasons,
            in_flight,
            0.0,
            (),
            {},
        )

    def __enter__(self) -> QueueingSession:
        return self

    def __exit__(self, *error: Any) -> None:
        self.closed = True

    def _advance(self) -> None:
        while True:
            if self.busy is not None:
                if self.done_ns > self.time.now:
                    return
                index, given, pushed = self.busy
                captured = given.captured_ns if given.captured_ns is not None else pushed
                timings = FrameTimings(captured, pushed, self.done_ns, self.stages_ms)
                rgb = np.zeros((48, 64, 3), np.uint8)
                frame = Frame(rgb, rgb[..., 0], index, given, timings, self.level)  # type: ignore[arg-type]
                self.ready.append(frame)
                self.time.cpu += self.service_ns
                self.busy, begin = None, self.done_ns
            elif not self.waiting:
                return
            else:
                begin = self.time.now
            if self.waiting:
                self.busy = self.waiting.popleft()
                self.done_ns = begin + self.service_ns
