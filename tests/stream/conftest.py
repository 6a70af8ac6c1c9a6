"""Toy stages with hand brakes: a test decides when a stage is done, so nothing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from gas_rt.core import BackendReport, Camera, Pose
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.session import Session
from gas_rt.stream.stages import Job, Picture

BACKEND = BackendReport("auto", "toy", "cpu", "fp32")
PATIENCE_S = 20.0  # a hang fails the test instead of the run


class ToyStage:
    """Makes a 2×2 picture whose red channel is the pose's translation along x."""

    def __init__(self, name: str = "toy", *, gated: bool = False) -> None:
        self.name = name
        self.gate = threading.Semaphore(0) if gated else None
        self.started = threading.Semaphore(0)
        self.seen: list[int] = []
        self.resets = 0
        self.closed = False
        self.fail_on: int | None = None
        self.jammed = False

    def process(self, job: Job) -> Iterable[Job]:
        self.started.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE_S)
        self.seen.append(job.index)
        if job.index == self.fail_on:
            raise ValueError("toy trouble")
        value = int(job.request.pose.translation[0])
        rgb = np.full((2, 2, 3), value, np.uint8)
        picture = Picture(rgb, np.full((2, 2), 255, np.uint8), "field")
        return [job.after(self.name, picture, elapsed_ns=1_000_000)]

    def finish(self) -> Iterable[Job]:
        return []

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed = True
        if self.jammed:
            raise OSError(f"{self.name} is jammed")


class VirtualClock:
    """A clock that only a test moves."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def pose(value: float = 0.0) -> Pose:
    return Pose(np.zeros((24, 3), np.float32), np.array([value, 0, 0], np.float32))


@pytest.fixture
def camera() -> Camera:
    k = np.array([[100, 0, 32], [0, 100, 32], [0, 0, 1]], np.float32)
    return Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0, 3], np.float32), 64, 64)


@pytest.fixture
def open_session() -> Iterator[Callable[..., Session]]:
    """Opens sessions on toy stages and closes them after the test, opening their gates."""
    opened: list[tuple[Session, list[ToyStage]]] = []

    def make(stages: list[ToyStage], *, clock: object = None, **config: object) -> Session:
        extra = {} if clock is None else {"clock": clock}
        extra["watchers"] = config.pop("watchers", ())
        session = Session(stages, SessionConfig(**config), backend=BACKEND, **extra)
        opened.append((session, stages))
        return session

    yield make
    for session, stages in opened:
        for stage in stages:
            if stage.gate is not None:
                stage.gate.release(1000)
        session.close()
