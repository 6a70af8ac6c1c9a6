"""Traces: what is recorded, that the file obeys its format, and that nothing grows without end."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gas_rt import Avatar, Model, Request
from gas_rt.core import Camera
from gas_rt.errors import FileError, InputError
from gas_rt.stream.ladder import LadderConfig
from gas_rt.stream.session import Session
from gas_rt.stream.stages import Job
from gas_rt.stream.starvation import PoseClock, Starvation
from gas_rt.stream.tracing import Tracer, trace_document
from tests.stream.conftest import PATIENCE_S, ToyStage, VirtualClock, pose
from tests.stream.simulation import CAMERA, MS, SimStage, Simulation, conditioned, every
from tests.stream.trace_rules import check_trace
from tests.toy_person import ToyPerson

OpenSession = Callable[..., Session]


class TimedStage(ToyStage):
    """Takes `takes_ns` of the session's clock for each job."""

    def __init__(self, name: str, clock: VirtualClock, takes_ns: int) -> None:
        super().__init__(name)
        self.clock, self.takes_ns = clock, takes_ns

    def process(self, job: Job) -> Iterable[Job]:
        made = next(iter(super().process(job)))
        began = self.clock()
        self.clock.now_ns += self.takes_ns
        return [job.after(self.name, made.payload, elapsed_ns=self.takes_ns, began_ns=began)]


def ticking(step_ns: int = 1000) -> Callable[[], int]:
    """A clock that every reading moves on, in whichever thread."""
    count = itertools.count(10**9, step_ns)
    return lambda: next(count)


@pytest.mark.parametrize("pipelined", [True, False])
def test_stages_and_waits_add_up_to_the_age_from_push(
    open_session: OpenSession, camera: Camera, pipelined: bool
) -> None:
    clock = VirtualClock()
    stages = [TimedStage("a", clock, 3_000_000), TimedStage("b", clock, 5_000_000)]
    session = open_session(stages, on_late="lossless", pipelined=pipelined, clock=clock)
    frames = []
    for value in range(6):
        session.push(pose(value), camera, captured_ns=clock.now_ns - 1_000_000)
        clock.now_ns += 2_000_000
        if value % 2:  # so that poses queue up
            for _ in range(2):
                frame = session.wait(timeout_s=PATIENCE_S)
                assert frame is not None
                frames.append(frame)
    for frame in frames:
        t = frame.timings
        assert t.stages_ms == {"a": 3.0, "b": 5.0}
        assert set(t.waits_ms) == {"queue", "handoff", "window"}
        assert min(t.waits_ms.values()) >= 0
        total = sum(t.stages_ms.values()) + sum(t.waits_ms.values())
        assert total == pytest.approx((t.ready_ns - t.pushed_ns) / 1e6, abs=1e-6)
        assert total == pytest.approx(t.age_ms - 1.0, abs=1e-6)


@pytest.mark.parametrize("policy", ["field", "diagonal", "sequential", "parity"])
def test_the_law_holds_for_real_stages_and_shares_count_nothing_twice(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    policy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock that every reading moves on, the same for the session and its stages."""
    clock = ticking()
    monkeypatch.setattr("time.monotonic_ns", clock)
    with diffusion_model.session(
        diffusion_avatar, policy=policy, on_late="lossless", trace=True
    ) as session:
        session._pipeline._clock = session._clock = clock
        frames = []
        for request in person.requests(7, side=128):
            while not session.push_request(request):
                session.wait_to_push()
                frame = session.poll()
                frames += [] if frame is None else [frame]
        session.finish()
        frames += list(session)
        trace = session.trace
    assert len(frames) == 7
    for frame in frames:
        t = frame.timings
        total = sum(t.stages_ms.values()) + sum(t.waits_ms.values())
        assert total == pytest.approx((t.ready_ns - t.pushed_ns) / 1e6, abs=1e-5)
    work_ms = sum(sum(frame.timings.stages_ms.values()) for frame in frames)
    assert trace is not None
    spans = check_trace(trace.document())["X"]
    busy_ms = sum(s["dur"] for s in spans if s["name"] not in ("push", "poll")) / 1e3
    assert work_ms == pytest.approx(busy_ms, abs=0.01)
    steps = {s for f in frames for s in f.timings.stages_ms if s.startswith("denoise")}
    assert steps == (set() if policy == "field" else {f"denoise {k}" for k in (1, 2, 3)})


def test_a_diffusion_sessions_trace(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    with diffusion_model.session(diffusion_avatar, on_late="lossless", trace=path) as session:
        requests = person.requests(8, side=128)
        frames = []
        for request in requests:
            while not session.push_request(request):
                session.wait_to_push()
                frame = session.poll()
                frames += [] if frame is None else [frame]
        session.finish()
        frames += list(session)
    phases = check_trace(json.loads(path.read_text()))
    assert {e["id"] for e in phases["s"]} == {f"1.{k}" for k in range(8)}
    tracks = {e["args"]["name"]: e["tid"] for e in phases["M"] if e["name"] == "thread_name"}
    assert set(tracks) == {"push", "body+condition", "denoise", "decode", "poll", "drops"}
    on = {name: [e["name"] for e in phases["X"] if e["tid"] == t] for name, t in tracks.items()}
    assert on["push"] == ["push"] * 8
    assert on["denoise"] == ["denoise"] * 10  # 8 frames in 3 steps each
    assert on["decode"] == ["decode"] * 8
    assert on["poll"] == ["poll"] * 8
    assert {"body", "field", "normals", "condition"} <= set(on["body+condition"])
    calls = [e["args"] for e in phases["X"] if e["name"] == "denoise"]
    assert [c["call"] for c in calls] == list(range(10))
    assert [c["frames"] for c in calls[:4]] == [[0], [0, 1], [0, 1, 2], [1, 2, 3]]
    # A flow touches a frame's push, four feeding spans, three calls, the decoding and the poll.
    touched = [e["tid"] for e in phases["s"] + phases["t"] + phases["f"] if e["id"] == "1.4"]
    assert touched.count(tracks["denoise"]) == 3
    assert touched.count(tracks["decode"]) == 1
    counters = {e["name"] for e in phases["C"]}
    assert counters == {
        *("queue body+condition", "queue denoise"),
        *("queue decode", "queue frames"),
    }


def test_drops_and_a_reset_are_shown_and_end_their_lanes(
    open_session: OpenSession, camera: Camera
) -> None:
    tracer = Tracer()
    stage = ToyStage(gated=True)
    session = open_session([stage], on_late="freshest", watchers=[tracer])
    session.push(pose(0), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)
    session.push(pose(1), camera)
    session.push(pose(2), camera)  # 1 is stale
    stage.gate.release()  # type: ignore[union-attr]
    assert session.wait(timeout_s=PATIENCE_S) is not None
    session.reset()  # 2 is lost
    stage.gate.release()  # type: ignore[union-attr]
    phases = check_trace(tracer.document())
    marks = [(e["name"], e["args"]) for e in phases["i"]]
    assert marks == [
        ("drop: stale_pose", {"frame": 1, "reason": "stale_pose"}),
        ("flush: reset", {"frames": 1}),
    ]
    ends = {e["id"]: e["args"] for e in phases["b"] if e["name"].startswith("frame")}
    assert ends["1.1"] == {"dropped": "drop: stale_pose"}
    assert ends["1.2"] == {"dropped": "flush: reset"}
    assert ends["1.0"]["level"] == "field"
    assert [e["id"] for e in phases["s"]] == ["1.0"]


def test_a_refused_push_and_a_change_of_level_are_marked(
    open_session: OpenSession, camera: Camera
) -> None:
    class Switching(ToyStage):
        def process(self, job: Job) -> Iterable[Job]:
            made = next(iter(super().process(job)))
            level = "field" if job.index < 2 else "full"
            picture = type(made.payload)(made.payload.rgb, made.payload.alpha, level)
            return [job.after("toy", picture, elapsed_ns=0)]

    tracer = Tracer()
    stage = Switching(gated=True)
    session = open_session([stage], on_late="lossless", watchers=[tracer])
    session.push(pose(0), camera)
    assert stage.started.acquire(timeout=PATIENCE_S)
    assert [session.push(pose(v), camera) for v in range(1, 6)] == [True] * 4 + [False]
    stage.gate.release(9)  # type: ignore[union-attr]
    session.finish()
    assert len(list(session)) == 5
    phases = check_trace(tracer.document())
    marks = [(e["name"], e["args"]) for e in phases["i"]]
    assert ("refused", {}) in marks
    assert ("level: full", {"frame": 2, "from": "field", "to": "full"}) in marks
    assert len(marks) == 2


def test_a_trace_is_bounded_and_what_is_left_still_obeys(
    open_session: OpenSession, camera: Camera
) -> None:
    tracer = Tracer(events=40)
    session = open_session([ToyStage("a"), ToyStage("b")], on_late="lossless", watchers=[tracer])
    for value in range(50):
        while not session.push(pose(value), camera):
            session.wait(timeout_s=PATIENCE_S)
    session.finish()
    list(session)
    assert len(tracer._kept) == 40
    document = tracer.document()
    check_trace(document)
    assert document["otherData"]["lost_events"] == tracer.lost > 100


def test_no_trace_is_kept_unless_it_was_asked_for(
    open_session: OpenSession, camera: Camera
) -> None:
    stage = ToyStage()
    session = open_session([stage], on_late="lossless")
    seen: list[Job] = []
    process = stage.process
    stage.process = lambda job: seen.append(job) or process(job)  # type: ignore[method-assign]
    session.push(pose(0), camera)
    assert session.wait(timeout_s=PATIENCE_S) is not None
    assert session.trace is None
    assert seen[0].tracer is None


def test_pushes_from_many_threads_share_a_track(open_session: OpenSession, camera: Camera) -> None:
    tracer = Tracer()
    session = open_session([ToyStage("a"), ToyStage("b")], on_late="freshest", watchers=[tracer])

    def pushing() -> None:
        for value in range(40):
            session.push(pose(value), camera)
            session.poll()

    threads = [threading.Thread(target=pushing) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.finish()
    list(session)
    phases = check_trace(tracer.document())
    assert sum(e["name"] == "push" for e in phases["X"]) == 160


def test_sessions_of_one_file_are_processes(open_session: OpenSession, camera: Camera) -> None:
    tracers = [Tracer(), Tracer()]
    for tracer in tracers:
        session = open_session([ToyStage()], on_late="lossless", watchers=[tracer])
        session.push(pose(0), camera)
        assert session.wait(timeout_s=PATIENCE_S) is not None
    document = trace_document([("orbit", tracers[0]), ("motion", tracers[1])])
    phases = check_trace(document)
    names = {e["pid"]: e["args"]["name"] for e in phases["M"] if e["name"] == "process_name"}
    assert names == {1: "orbit", 2: "motion"}
    assert {e["id"] for e in phases["s"]} == {"1.0", "2.0"}
    assert trace_document([("nothing", Tracer())])["traceEvents"]


def test_a_trace_that_cannot_be_is_named_before_the_session_opens(
    toy_model: Model, avatar: Avatar, tmp_path: Path, person: ToyPerson
) -> None:
    before = set(toy_model._sessions)
    with pytest.raises(FileError, match=r"trace: folder .*nowhere does not exist; create it"):
        toy_model.session(avatar, trace=tmp_path / "nowhere" / "trace.json")
    with pytest.raises(InputError, match=r"trace: expected True, a path or a gas_rt\.Tracer"):
        toy_model.session(avatar, trace=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="events: expected a whole number of at least 1"):
        Tracer(events=0)
    assert toy_model._sessions == before
    tracer = Tracer()
    with toy_model.session(avatar, on_late="lossless", trace=tracer) as session:
        assert session.trace is tracer
        request = person.requests(1)[0]
        assert session.push_request(Request(request.pose, request.camera))
        assert session.wait(timeout_s=PATIENCE_S) is not None
    check_trace(tracer.document())


def test_the_ladder_what_it_shows_and_what_it_drops_are_in_the_trace() -> None:
    """On virtual time: the law of sums holds for whatever made a frame."""
    tracer = Tracer()

    def call_ms(now: int) -> float:
        return 400.0 if 1_500 <= now / MS - 1_000 < 3_500 else 20.0

    sim = Simulation(
        config=LadderConfig(settle_s=0.3),
        call_ms=call_ms,
        feed_ms=lambda now: 250.0 if 5_000 <= now / MS - 1_000 < 5_500 else 8.0,
        max_age_ms=300.0,
        watchers=[tracer],
    )
    times = [t for t in every(40, until_ms=11_000) if not 9000 <= t < 10_000]
    sim.run(times, until_ms=11_200)
    levels = {s.frame.level for s in sim.shown}
    assert {"full", "field", "held"} <= levels
    for shown in sim.shown:
        t = shown.frame.timings
        total = sum(t.stages_ms.values()) + sum(t.waits_ms.values())
        assert total == pytest.approx((t.ready_ns - t.pushed_ns) / 1e6, abs=1e-6), shown
        assert ("held" in t.waits_ms) == (shown.frame.level == "held")
    phases = check_trace(tracer.document())
    marks = Counter(e["name"] for e in phases["i"])
    assert marks["ladder: field"] >= 1
    assert marks["ladder: 0"] >= 1
    assert marks["pause"] == 1
    for level in levels:
        assert marks[f"level: {level}"] >= 1
    dropped = sim.pipeline.ledger.dropped
    assert dropped["old_pose"] + dropped["old_frame"] > 0
    for reason, count in dropped.items():
        assert marks[f"drop: {reason}"] == count
    polls = [e["args"]["level"] for e in phases["X"] if e["name"] == "poll"]
    assert polls == [s.frame.level for s in sim.shown]
    assert len(phases["s"]) == sim.pipeline.ledger.delivered


def test_a_cut_and_where_poses_come_from_are_in_the_trace() -> None:
    tracer = Tracer()
    sim = Simulation(watchers=[tracer])
    sim.pipeline.cut([SimStage(name, conditioned) for name in ("feed", "denoise", "decode")])
    clock = PoseClock(period_ns=40 * MS, starvation=Starvation(hold_s=0.2, return_s=0.3))
    sources = []
    for tick in range(200):
        now = tick * 40 * MS
        if not 50 <= tick < 100:
            clock.sample(Request(pose(tick), CAMERA), captured_ns=now, now_ns=now)
        assert clock.wait_ns(now) == 0
        assert clock.tick(now) is not None
        if not sources or sources[-1] != clock.source:
            sources.append(clock.source)
            tracer.source(clock.source, now_ns=now)
    assert sources == ["tracker", "hold", "breathe", "return", "tracker"]
    names = [e["name"] for e in check_trace(tracer.document())["i"]]
    assert "cut" in names
    assert [n for n in names if n.startswith("poses: ")] == [f"poses: {s}" for s in sources]
