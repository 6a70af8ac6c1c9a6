"""The session's contract on toy stages: late rules, accounting, failure, reset, iteration."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from gas_rt.core import Camera, Pose, Request
from gas_rt.errors import GasRtWarning, InputError, SessionError, ShapeError
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.frames import FrameStream
from gas_rt.stream.session import Session, Takeover
from gas_rt.stream.stages import Job
from tests.stream.conftest import BACKEND, PATIENCE_S, ToyStage, VirtualClock, pose

OpenSession = Callable[..., Session]


def values(frames: list[object]) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in frames]  # type: ignore[attr-defined]


def stage_threads() -> list[str]:
    stages = {"gas-rt-a", "gas-rt-b", "gas-rt-toy", "gas-rt-body", "gas-rt-field"}
    return [thread.name for thread in threading.enumerate() if thread.name in stages]


def balanced(session: Session) -> bool:
    stats = session.stats()
    return stats.accepted == stats.delivered + stats.dropped + stats.in_flight


def test_lossless_delivers_every_pose_in_order(open_session: OpenSession, camera: Camera) -> None:
    session = open_session([ToyStage("a"), ToyStage("b")], on_late="lossless")
    got = []
    for value in range(20):
        while not session.push(pose(value), camera):
            got.append(session.wait(timeout_s=PATIENCE_S))
    session.finish()
    got += list(session)
    assert values(got) == list(range(20))
    assert [frame.index for frame in got] == list(range(20))
    stats = session.stats()
    assert (stats.accepted, stats.delivered, stats.dropped, stats.in_flight) == (20, 20, 0, 0)


def test_lossless_refuses_when_full_and_push_wait_waits_for_room(
    open_session: OpenSession, camera: Camera
) -> None:
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="lossless")
    assert session.push(pose(0), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)  # 0 is in the stage, the queue is empty
    assert [session.push(pose(v), camera) for v in range(1, 6)] == [True] * 4 + [False]
    assert session.stats().refused == 1
    assert not session.push_wait(pose(5), camera, timeout_s=0)
    timer = threading.Timer(0, stage.gate.release, args=(2,))  # type: ignore[union-attr]
    timer.start()
    assert session.push_wait(pose(5), camera, timeout_s=PATIENCE_S)
    timer.join()
    assert balanced(session)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_push_that_waits_is_not_counted_as_refused(
    open_session: OpenSession, camera: Camera, asynchronous: bool
) -> None:
    session = open_session([ToyStage("a"), ToyStage("b")], on_late="lossless")
    requests = [Request(pose(value), camera) for value in range(30)]
    stream = FrameStream(session, requests)

    async def collect() -> list[object]:
        async def live():  # type: ignore[no-untyped-def]
            for request in requests:
                yield request

        return [frame async for frame in FrameStream(session, live())]

    got = asyncio.run(collect()) if asynchronous else list(stream)
    assert values(got) == list(range(30))
    assert session.stats().refused == 0


def test_a_push_that_waits_in_vain_is_refused_once(
    open_session: OpenSession, camera: Camera
) -> None:
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="lossless")
    for value in range(5):
        assert session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
    assert session.stats().refused == 0
    assert not session.push_wait(pose(5), camera, timeout_s=0)
    assert session.stats().refused == 1


def test_freshest_keeps_only_the_newest_pose(open_session: OpenSession, camera: Camera) -> None:
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="freshest")
    session.push(pose(0), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)
    for value in range(1, 8):
        assert session.push(pose(value), camera)
    stage.gate.release()  # type: ignore[union-attr]
    assert session.wait(timeout_s=PATIENCE_S) is not None
    session.finish()
    stage.gate.release()  # type: ignore[union-attr]
    assert values(list(session)) == [7]
    stats = session.stats()
    assert stats.dropped_by_reason.get("stale_pose", 0) == 6
    assert (stats.accepted, stats.delivered, stats.in_flight) == (8, 2, 0)


def test_freshest_replaces_a_frame_nobody_polled(open_session: OpenSession, camera: Camera) -> None:
    stage = ToyStage()
    session = open_session([stage], on_late="freshest")
    for value in range(3):
        session.push(pose(value), camera)
        session._pipeline.wait(
            lambda n=value: len(stage.seen) == n + 1 and session._pipeline.has_frame,  # type: ignore[misc]
            timeout_s=PATIENCE_S,
        )
    session._pipeline.wait(
        lambda: session._pipeline.ledger.dropped["unpolled_frame"] == 2, timeout_s=PATIENCE_S
    )
    frame = session.poll()
    assert frame is not None
    assert (frame.index, values([frame])) == (2, [2])
    assert session.poll() is None
    assert session.stats().dropped_by_reason == {"unpolled_frame": 2}
    assert balanced(session)


def test_paced_shows_a_frame_one_period_after_its_tick(
    open_session: OpenSession, camera: Camera
) -> None:
    clock = VirtualClock()
    session = open_session([ToyStage()], on_late="paced", fps=25, clock=clock)
    session.push(pose(1), camera)
    session._pipeline.wait(lambda: session._pipeline.has_frame, timeout_s=PATIENCE_S)
    assert session.poll() is None
    clock.now_ns += 39_000_000
    assert session.poll() is None
    clock.now_ns += 1_000_000
    frame = session.poll()
    assert frame is not None
    assert values([frame]) == [1]


@pytest.mark.parametrize("pipelined", [True, False])
def test_age_and_stage_times_are_in_the_frame(
    open_session: OpenSession, camera: Camera, pipelined: bool
) -> None:
    clock = VirtualClock()
    stages = [ToyStage("a"), ToyStage("b")]
    session = open_session(stages, on_late="lossless", pipelined=pipelined, clock=clock)
    session.push(pose(), camera, captured_ns=clock.now_ns - 7_000_000)
    frame = session.wait(timeout_s=PATIENCE_S)
    assert frame is not None
    assert frame.timings.age_ms == 7.0
    assert frame.timings.stages_ms == {"a": 1.0, "b": 1.0}
    assert session.stats().age_ms == (7.0,)


def test_a_clock_that_is_a_little_ahead_makes_no_negative_age(
    open_session: OpenSession, camera: Camera
) -> None:
    clock = VirtualClock()
    session = open_session([ToyStage()], on_late="lossless", clock=clock)
    session.push(pose(), camera, captured_ns=clock.now_ns + 900_000_000)
    frame = session.wait(timeout_s=PATIENCE_S)
    assert frame is not None
    assert frame.timings.age_ms == 0.0


def test_reset_drops_everything_in_flight_and_starts_afresh(
    open_session: OpenSession, camera: Camera
) -> None:
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="lossless")
    for value in range(3):
        session.push(pose(value), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)
    session.reset()
    assert session.stats().dropped_by_reason == {"reset": 3}
    assert session.push(pose(9), camera)
    stage.gate.release(10)  # type: ignore[union-attr]
    session.finish()
    assert values(list(session)) == [9]
    assert stage.resets == 1
    assert balanced(session)


def test_a_failing_stage_ends_the_session_with_one_clear_error_and_frees_every_stage(
    open_session: OpenSession, camera: Camera
) -> None:
    stages = [ToyStage("body"), ToyStage("field")]
    stages[1].fail_on = 1
    session = open_session(stages, on_late="lossless")
    for value in range(3):
        session.push(pose(value), camera)
    trouble = "stage 'field' failed on frame 1: ValueError: toy trouble"
    with pytest.raises(SessionError, match=trouble) as info:
        list(session)
    assert isinstance(info.value.__cause__, ValueError)
    with pytest.raises(SessionError, match="toy trouble"):
        session.push(pose(), camera)
    with pytest.raises(SessionError, match="toy trouble"):
        session.poll()
    session.close()
    assert stages[0].closed
    assert stages[1].closed
    assert stage_threads() == []
    assert session.stats().in_flight == 0


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_close_while_frames_are_read_ends_the_reading(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    session = open_session([ToyStage()], on_late="lossless")
    take = session._pipeline.take

    def closed_before() -> object:
        session.close()
        return take()

    monkeypatch.setattr(session._pipeline, "take", closed_before)

    async def collect() -> list[object]:
        return [frame async for frame in session]

    assert (asyncio.run(collect()) if asynchronous else list(session)) == []


def test_a_close_ends_the_wait_of_another_thread_without_an_error(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session([ToyStage()])
    monkeypatch.setattr(session._pipeline, "wait", lambda until, timeout_s: session.close())
    assert session.wait() is None
    with pytest.raises(SessionError, match="the session is closed"):
        session.wait()


class HoldingStage(ToyStage):
    """Holds every job back until the end of the stream."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.held: list[Job] = []
        self.fail_late_on: int | None = None

    def process(self, job: Job) -> Iterable[Job]:
        self.held += super().process(job)
        return []

    def finish(self) -> Iterable[Job | None]:
        for job in self.held:
            yield None  # it may stop here
            if job.index == self.fail_late_on:
                raise ValueError("late trouble")
            yield job
        self.held = []

    def reset(self) -> None:
        super().reset()
        self.held = []


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("on_late", ["lossless", "freshest"])
def test_the_end_of_the_stream_brings_what_stages_hold_back(
    open_session: OpenSession, camera: Camera, pipelined: bool, on_late: str
) -> None:
    stages = [ToyStage("a"), HoldingStage("hold"), HoldingStage("b")]
    session = open_session(stages, on_late=on_late, pipelined=pipelined, burst=12)
    for value in range(12):
        assert session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
    assert session.poll() is None
    session.finish()
    got = values(list(session))
    assert got == (list(range(12)) if on_late == "lossless" else stages[1].seen)
    assert balanced(session)
    assert session.stats().in_flight == 0


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_stage_that_fails_at_the_end_of_the_stream_is_named(
    open_session: OpenSession, camera: Camera, pipelined: bool
) -> None:
    stage = HoldingStage("hold")
    session = open_session([ToyStage("a"), stage], on_late="lossless", pipelined=pipelined)
    stage.fail_late_on = 2
    for value in range(4):
        session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
    session.finish()
    with pytest.raises(SessionError, match=r"hold' failed on the end of the stream: .*late trou"):
        list(session)


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_reset_after_the_last_push_leaves_nothing_to_finish(
    open_session: OpenSession, camera: Camera, pipelined: bool
) -> None:
    stage = HoldingStage("hold")
    session = open_session([ToyStage("a"), stage], on_late="lossless", pipelined=pipelined)
    for value in range(4):
        session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
    session._pipeline.wait(lambda: len(stage.held) == 4, timeout_s=PATIENCE_S)
    session.reset()
    session.finish()
    assert list(session) == []
    session.close()
    assert session.stats().dropped_by_reason == {"reset": 4}


def test_leaving_the_with_block_reports_a_failure_nobody_polled_for(camera: Camera) -> None:
    stage = ToyStage()
    stage.fail_on = 0
    session = Session([stage], SessionConfig(), backend=BACKEND)

    def use() -> None:
        with session:
            session.push(pose(), camera)
            session._pipeline.wait(lambda: False, timeout_s=PATIENCE_S)

    with pytest.raises(SessionError, match="toy trouble"):
        use()


def test_close_drops_what_is_in_flight_and_refuses_further_use(
    open_session: OpenSession, camera: Camera
) -> None:
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="lossless")
    session.push(pose(), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)
    stage.gate.release()  # type: ignore[union-attr]
    session.close()
    session.close()
    assert session.closed
    assert stage.closed
    with pytest.raises(SessionError, match="closed"):
        session.push(pose(), camera)
    with pytest.raises(SessionError, match="closed"):
        session.poll()
    assert list(session) == []


def test_push_after_finish_is_an_error(open_session: OpenSession, camera: Camera) -> None:
    session = open_session([ToyStage()])
    session.finish()
    with pytest.raises(SessionError, match="finish"):
        session.push(pose(), camera)
    assert list(session) == []


def test_nan_pose_never_reaches_a_session() -> None:
    rotations = np.zeros((24, 3))
    rotations[3, 1] = np.nan
    with pytest.raises(ShapeError, match=r"Pose\.rotations: 1 of 72 values are NaN"):
        Pose(rotations)


def test_wrong_types_and_clocks_are_named(open_session: OpenSession, camera: Camera) -> None:
    session = open_session([ToyStage()])
    with pytest.raises(ShapeError, match="got ndarray and Camera"):
        session.push(np.zeros((24, 3)), camera)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="task: expected one of"):
        session.push(pose(), camera, task="dance")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="in the future"):
        session.push(pose(), camera, captured_ns=2**62)
    for odd in (float("nan"), 12.5, "now", True):
        with pytest.raises(InputError, match=r"captured_ns: expected whole nanoseconds .* got"):
            session.push(pose(), camera, captured_ns=odd)  # type: ignore[arg-type]
    for value in (np.int64(5), np.uint64(6)):
        assert session.push(pose(), camera, captured_ns=value)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected a gas_rt\.Request, got Pose"):
        session.push_request(pose())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"task": "walk"}, "task: expected one of"),
        ({"on_late": "never"}, "on_late: expected one of"),
        ({"starvation": "hold", "resample": True}, "starvation: expected .* got 'hold'"),
        ({"fps": 0}, "fps: expected a rate"),
        ({"fps": float("nan")}, "fps: expected a rate"),
    ],
)
def test_bad_configs_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SessionConfig(**config)  # type: ignore[arg-type]


def test_an_unusual_camera_warns_once(camera: Camera) -> None:
    session = Session(
        [ToyStage()], SessionConfig(), backend=BACKEND, camera_problems=lambda c, p: ["focal odd"]
    )
    with session:
        with pytest.warns(GasRtWarning, match="focal odd"):
            session.push(pose(), camera)
        session.push(pose(), camera)  # a second warning would be an error here


@pytest.mark.parametrize("source", ["list", "async"])
def test_async_iteration(open_session: OpenSession, camera: Camera, source: str) -> None:
    session = open_session([ToyStage("a"), ToyStage("b")], on_late="lossless")
    requests = [Request(pose(v), camera) for v in range(15)]

    async def live():  # type: ignore[no-untyped-def]
        for request in requests:
            yield request
            await asyncio.sleep(0)

    async def main() -> list[int]:
        stream = FrameStream(session, requests if source == "list" else live())
        return values([frame async for frame in stream])

    assert asyncio.run(main()) == list(range(15))


def test_async_with_closes_and_tells_of_failures(open_session: OpenSession, camera: Camera) -> None:
    session = open_session([ToyStage()], on_late="lossless")

    async def main() -> list[int]:
        async with session:
            await session.push_async(pose(3), camera)
            session.finish()
            return values([frame async for frame in session])

    assert asyncio.run(main()) == [3]
    assert session.closed

    stage = ToyStage()
    stage.fail_on = 0
    failing = open_session([stage], on_late="lossless")

    async def fail() -> None:
        async with failing:
            await failing.push_async(pose(0), camera)
            await asyncio.to_thread(failing._pipeline.wait, lambda: False, timeout_s=PATIENCE_S)

    with pytest.raises(SessionError, match="failed on frame 0"):
        asyncio.run(fail())


def test_stream_gives_frames_while_the_source_blocks(
    open_session: OpenSession, camera: Camera
) -> None:
    session = open_session([ToyStage()], on_late="lossless")
    first_seen = threading.Event()

    def live():  # type: ignore[no-untyped-def]
        yield Request(pose(1), camera)
        assert first_seen.wait(PATIENCE_S)
        yield Request(pose(2), camera)

    got = []
    for frame in FrameStream(session, live()):
        got.append(frame)
        first_seen.set()
    assert values(got) == [1, 2]


def test_stream_passes_on_what_its_source_raises(open_session: OpenSession, camera: Camera) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield Request(pose(1), camera)
        raise OSError("sensor unplugged")

    with pytest.raises(OSError, match="sensor unplugged"):
        list(FrameStream(open_session([ToyStage()], on_late="lossless"), broken()))
    with pytest.raises(InputError, match=r"expected gas_rt\.Request, got int"):
        list(FrameStream(open_session([ToyStage()], on_late="lossless"), [3]))  # type: ignore[list-item]


def test_stream_of_nothing_is_empty_and_one_pass(open_session: OpenSession) -> None:
    stream = FrameStream(open_session([ToyStage()]), [])
    assert list(stream) == []
    with pytest.raises(SessionError, match="iterated once"):
        list(stream)


def test_breaking_out_of_a_stream_frees_it(open_session: OpenSession, camera: Camera) -> None:
    stage = ToyStage()
    session = open_session([stage], on_late="lossless")
    frames = iter(FrameStream(session, (Request(pose(v), camera) for v in range(100))))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert session.closed
    assert stage.closed


def test_many_open_close_cycles_leave_no_thread(camera: Camera) -> None:
    for _ in range(100):
        with Session([ToyStage("a"), ToyStage("b")], SessionConfig(), backend=BACKEND) as session:
            session.push(pose(), camera)
    assert stage_threads() == []


@pytest.mark.parametrize("on_late", ["freshest", "lossless", "paced"])
@pytest.mark.parametrize("seed", [0, 1])
def test_accounting_balances_through_any_mixture_of_calls(
    open_session: OpenSession, camera: Camera, on_late: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    session = open_session([ToyStage("a"), ToyStage("b")], on_late=on_late, fps=1000)
    delivered = refused = 0
    for _ in range(600):
        action = rng.random()
        if action < 0.6:
            refused += not session.push(pose(), camera)
        elif action < 0.98:
            delivered += session.poll() is not None
        else:
            session.reset()
        stats = session.stats()
        assert stats.accepted == stats.delivered + stats.dropped + stats.in_flight
        assert (stats.delivered, stats.refused) == (delivered, refused)
        assert 0 <= stats.in_flight <= 12  # every queue full and a job in each stage
    session.finish()
    rest = list(session)
    stats = session.stats()
    assert stats.in_flight == 0
    assert stats.accepted == delivered + len(rest) + stats.dropped
    if on_late == "lossless":
        assert set(stats.dropped_by_reason) <= {"reset"}


# ---- stages that fail to close ----------------------------------------------------------------


def jammed(*names: str) -> list[ToyStage]:
    """Three stages, of which those of `names` fail to close."""
    stages = [ToyStage(name) for name in "abc"]
    for stage in stages:
        stage.jammed = stage.name in names
    return stages


def test_stages_that_fail_to_close_are_one_error_after_all_is_closed(camera: Camera) -> None:
    stages, told = jammed("a", "c"), []
    session = Session(stages, SessionConfig(), backend=BACKEND, on_close=told.append)
    session.push(pose(), camera)
    with pytest.raises(SessionError, match="the session closed, but stage") as info:
        session.close()
    for name in "ac":
        assert f"stage {name!r} failed to close: OSError: {name} is jammed" in str(info.value)
    assert isinstance(info.value.__cause__, OSError)
    assert [stage.closed for stage in stages] == [True] * 3
    assert told == [session]
    assert session.closed
    assert session.stats().in_flight == 0
    session.close()  # said once


def test_on_one_thread_a_stage_that_fails_to_close_keeps_none_open(
    open_session: OpenSession,
) -> None:
    stages = jammed("a")
    session = open_session(stages, pipelined=False)
    with pytest.raises(SessionError, match=r"stage 'a\+b\+c' failed to close: OSError: a is"):
        session.close()
    assert [stage.closed for stage in stages] == [True] * 3


def test_a_stage_that_fails_to_close_at_the_end_costs_no_frame(
    open_session: OpenSession, camera: Camera
) -> None:
    stages = jammed("a", "b")
    session = open_session(stages, on_late="lossless")
    for value in range(3):
        session.push_wait(pose(value), camera, timeout_s=PATIENCE_S)
    session.finish()
    for thread in session._pipeline._threads:
        thread.join(PATIENCE_S)
    assert values(list(session)) == [0, 1, 2]
    with pytest.raises(SessionError, match="stage 'a' failed to close"):
        session.close()


def test_an_earlier_error_of_the_session_is_raised_and_the_close_warned_of(camera: Camera) -> None:
    stages = jammed("a", "b")
    stages[1].fail_on = 0

    def use() -> None:
        with Session(stages, SessionConfig(), backend=BACKEND) as session:
            session.push(pose(), camera)
            session.wait(timeout_s=PATIENCE_S)

    with (
        pytest.warns(GasRtWarning, match="closing failed too: SessionError: .* a is jammed"),
        pytest.raises(SessionError, match="stage 'b' failed on frame 0: ValueError: toy trouble"),
    ):
        use()
    assert [stage.closed for stage in stages] == [True] * 3


def test_a_session_that_failed_closes_with_a_warning_and_not_another_error(
    open_session: OpenSession, camera: Camera
) -> None:
    stages = jammed("a")
    stages[1].fail_on = 0
    session = open_session(stages)
    session.push(pose(), camera)
    with pytest.raises(SessionError, match="toy trouble"):
        session.wait(timeout_s=PATIENCE_S)
    with pytest.warns(GasRtWarning, match="closing failed too: SessionError: .* a is jammed"):
        session.close()


def test_an_error_in_the_with_block_is_raised_and_the_close_warned_of() -> None:
    def use() -> None:
        with Session(jammed("b"), SessionConfig(), backend=BACKEND):
            raise KeyError("of the user")

    with (
        pytest.warns(GasRtWarning, match="closing failed too: SessionError: .* b is jammed"),
        pytest.raises(KeyError, match="of the user"),
    ):
        use()


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("breaks", [True, False])
def test_a_stream_tells_of_a_stage_that_fails_to_close(
    open_session: OpenSession, camera: Camera, asynchronous: bool, breaks: bool
) -> None:
    def requests():  # type: ignore[no-untyped-def]
        yield Request(pose(1), camera)
        if breaks:
            raise OSError("sensor unplugged")

    stream = FrameStream(open_session(jammed("b"), on_late="lossless"), requests())

    async def collect() -> list[object]:
        return [frame async for frame in stream]

    def use() -> None:
        asyncio.run(collect()) if asynchronous else list(stream)

    if breaks:
        with (
            pytest.warns(GasRtWarning, match="closing failed too: SessionError: .* b is jammed"),
            pytest.raises(OSError, match="sensor unplugged"),
        ):
            use()
    else:
        with pytest.raises(SessionError, match="b is jammed"):
            use()


def test_at_a_cut_a_stage_that_fails_to_close_ends_the_session(camera: Camera) -> None:
    session = Session(
        jammed("b"),
        SessionConfig(on_late="lossless"),
        backend=BACKEND,
        takeover=lambda avatar: Takeover(jammed()),
    )

    def use() -> None:
        with session:
            session.cut_to(None)  # type: ignore[arg-type]
            session.push(pose(), camera)
            session.wait(timeout_s=PATIENCE_S)

    with pytest.raises(SessionError, match="session ended: stage 'b' failed to close: OSError"):
        use()


def test_a_cut_that_is_refused_closes_what_was_made_ready_and_says_why(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = jammed("a")

    def takeover(avatar: object) -> Takeover:
        session.finish()  # while it is made ready
        return Takeover(stages)

    session = open_session(jammed())
    monkeypatch.setattr(session, "_takeover", takeover)
    with (
        pytest.warns(GasRtWarning, match="closing failed too: OSError: a is jammed"),
        pytest.raises(SessionError, match="was told to finish"),
    ):
        session.cut_to(None)  # type: ignore[arg-type]
    assert [stage.closed for stage in stages] == [True] * 3


# ---- pushing from an event loop ---------------------------------------------------------------


def test_push_async_takes_what_push_takes(open_session: OpenSession, camera: Camera) -> None:
    clock = VirtualClock()
    session = open_session([ToyStage()], on_late="lossless", clock=clock)

    async def main() -> None:
        await session.push_async(pose(1), camera, captured_ns=7, task="view", steps=3)
        await session.push_async_request(Request(pose(2), camera))
        with pytest.raises(InputError, match="task: expected one of"):
            await session.push_async(pose(), camera, task="dance")  # type: ignore[arg-type]

    asyncio.run(main())
    session.finish()
    frames = list(session)
    assert values(frames) == [1, 2]
    made = frames[0].request
    assert (made.captured_ns, made.task, made.steps) == (7, "view", 3)
    assert [frame.timings.captured_ns for frame in frames] == [7, clock()]
